"""The sections of params.yaml about data: drawing it, judging it, comparing it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from flows.params_section import Positive, Section, Share


class RenderParams(Section):
    """The demo data: cameras, clips and frames to draw."""

    cameras: int = Field(ge=1, le=64, description="fixed cameras, each with its own viewpoint")
    clips_per_camera: int = Field(ge=4, le=64, description="clips of each camera; half go to train")
    frames_per_clip: int = Field(ge=1, le=1000, description="consecutive frames of each clip")
    size_wh: list[int] = Field(min_length=2, max_length=2, description="frame width and height, px")
    jpeg_quality: int = Field(ge=50, le=100, description="quality of the written JPEG")

    @field_validator("size_wh")
    @classmethod
    def _size(cls, value: list[int]) -> list[int]:
        if not all(64 <= side <= 4096 for side in value):
            raise ValueError("each side must be 64 to 4096 px")
        return value


class LabelParams(Section):
    """Boxes and frames that cannot be right."""

    min_box_px: float = Field(gt=0, le=100, description="smallest side of a box, px")


class LeakageParams(Section):
    """What counts as the same frame or the same scene in two splits."""

    max_hash_bits: int = Field(ge=0, le=16, description="bits in which hashes of near-duplicates may differ, of 64")


class ReviewParams(Section):
    """The reference model whose opinion of the labels is asked."""

    reference: str = Field(description="checkpoint (.pt) of the reference model; empty: none is asked")


class ValidateParams(Section):
    """What must hold of a dataset before it may train."""

    max_warnings_listed: Positive = Field(description="offending files listed per check")
    severity: dict[str, Literal["stop", "warn"]] = Field(description="another severity than its own, by check")
    labels: LabelParams = Field(description="boxes that cannot be right")
    leakage: LeakageParams = Field(description="frames that splits share")
    review: ReviewParams = Field(description="labels that a reference model doubts")


class MonitorParams(Section):
    """When production has drifted from the training reference."""

    drift_share: Share = Field(description="share of drifted features that makes an alarm")
    min_frames: Positive = Field(description="fewer production frames: no verdict")
    threshold: float = Field(gt=0, le=10, description="distance at which a feature has drifted")

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
    max_outside_px: float = Field(ge=0, le=100, description="how far a box may reach outside the frame, px")
    max_frame_share: float = Field(gt=0, le=1, description="share of the frame from which a box is no object")
    duplicate_iou: float = Field(gt=0, le=1, description="overlap (IoU) from which two boxes of a class are one object")
    conflict_iou: float = Field(gt=0, le=1, description="overlap (IoU) from which boxes of two classes are one object")
    max_shape_z: float = Field(ge=3, le=100, description="robust z from which aspect or size of a box is implausible")
    min_shape_boxes: int = Field(ge=10, description="boxes of a class from which its shapes are learnt")
    busy_boxes: float = Field(
        ge=1, description="median boxes of a camera and slice from which empty frames are doubted"
    )
    min_class_boxes: Positive = Field(description="fewer boxes of a class are too few to learn from")
    min_class_share: Share = Field(description="smaller share of all boxes: the class is rare")
    max_mix_distance: Share = Field(description="total variation distance of a split's class mix from that of all")
    mix_alpha: float = Field(gt=0, lt=0.5, description="a mix that far off is accepted if it is likelier than this")
    min_contrast: float = Field(
        ge=0, le=100, description="standard deviation of grey below which a frame shows nothing"
    )
    max_exposed_share: Share = Field(description="share of almost black (or white) pixels from which nothing is seen")
    min_frame_px: int = Field(ge=1, le=4096, description="smallest side of a frame, px")
    rare_size_share: Share = Field(description="frames without a known camera: a shape this rare among them is odd")


class LeakageParams(Section):
    """What counts as the same frame or the same scene in two splits."""

    max_hash_bits: int = Field(ge=0, le=16, description="bits in which hashes of near-duplicates may differ, of 64")
    max_difference: float = Field(
        gt=0,
        le=2,
        description="largest difference of a spot between near-duplicates, deviations of the frame's structure",
    )
    min_scene_similarity: float = Field(
        ge=0.3, le=1, description="cosine of the edges of two frames from which they show the same scene"
    )


class ReviewParams(Section):
    """The reference model whose opinion of the labels is asked."""

    reference: str = Field(description="checkpoint (.pt), model directory or champion; empty: nobody is asked")
    classes: dict[str, str | list[str]] = Field(description="class of the data to those of the reference that mean it")
    image_size: int = Field(ge=32, le=4096, description="longer side at which a foreign checkpoint sees frames, px")
    min_conf: Share = Field(description="confidence from which a detection may contradict the labels")
    min_score: Share = Field(description="cases of a lower score are not listed")
    min_sure_share: Share = Field(
        description="a label that it misses counts only where it is sure of that share of others"
    )
    min_labels: Positive = Field(description="fewer labels of a class and size: nothing is said of those it misses")
    top: Positive = Field(description="cases of each kind that the page shows as pictures")


class ValidateParams(Section):
    """What must hold of a dataset before it may train."""

    max_warnings_listed: Positive = Field(description="offending files listed per check")
    severity: dict[str, Literal["stop", "warn"]] = Field(description="another severity than its own, by check")
    labels: LabelParams = Field(description="boxes that cannot be right")
    leakage: LeakageParams = Field(description="frames that splits share")
    review: ReviewParams = Field(description="labels that a reference model doubts")
    pictures: Literal["reduced", "full"] = Field(description="detail of pictures on reports; full shows faces, plates")


class MonitorParams(Section):
    """When one set of frames has drifted from another."""

    alpha: float = Field(gt=0, lt=0.5, description="probability of a false alarm, over all columns and groups together")
    threshold: float = Field(
        gt=0, le=10, description="a smaller distance is no drift, however certain: in std deviations"
    )
    min_frames: Positive = Field(description="fewer frames on either side: no verdict")
    min_units: int = Field(ge=3, description="fewer clips on either side: frames are shuffled one by one")
    shuffles: int = Field(ge=99, le=100_000, description="random deals of the clips; more tell smaller probabilities")
    block_s: float = Field(gt=0, description="recorded frames of a camera within so many seconds count as one clip")
    min_camera_frames: Positive = Field(description="fewer frames of a camera: its view is not judged")
    view_shift: Share = Field(description="a view that is shifted less has not moved, share of its width and height")
    blind_share: Share = Field(description="a camera sees nothing below that share of its usual contrast")
    embedding_frames: int = Field(ge=0, description="frames of either side that the detector embeds at most; 0: none")

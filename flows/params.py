"""params.yaml as frozen models that refuse what they do not know; `flows.params_file` reads and writes the file."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field, field_validator

from flows.params_data import MonitorParams, RenderParams, ValidateParams
from flows.params_section import Positive, Section, Share
from flows.params_train import TrainParams
from flows.params_tune import TuneParams


class ExportParams(Section):
    """The engines that compete, the thresholds the chosen one serves with, and the proof it must pass."""

    engine: Literal["auto", "tensorrt", "openvino", "onnxruntime"] = Field(
        description="what runs the model; auto: all that this machine can build compete"
    )
    precision: Literal["auto", "fp32", "fp16", "bf16", "int8"] = Field(
        description="arithmetic of the engine; auto: all compete"
    )
    top_k: int = Field(ge=1, le=8400, description="candidates that leave the graph")
    conf: Share = Field(description="confidence threshold that serving uses by default")
    iou: Share = Field(description="NMS overlap threshold that serving uses by default")
    max_det: Positive = Field(description="most boxes an answer holds by default")
    max_loss: Share = Field(description="mAP50-95 that an engine may lose against PyTorch, upper end of the interval")
    min_speedup: float = Field(ge=1, le=10, description="a less exact engine must be that many times faster")
    parity_frames: Positive = Field(description="frames on which engine and PyTorch are compared box by box, and timed")
    parity_min_iou: Share = Field(description="fp32: least mean IoU of matched boxes")
    parity_max_score_diff: Share = Field(description="fp32: largest mean score difference of matched boxes")
    reduced_min_iou: Share = Field(description="fp16, bf16, int8: least mean IoU of matched boxes")
    reduced_max_score_diff: Share = Field(description="fp16, bf16, int8: largest mean score difference")
    reduced_min_matched: Share = Field(description="fp16, bf16, int8: least share of boxes with a partner")
    calibration_frames: int = Field(ge=1, le=2000, description="training frames that INT8 is calibrated on")
    int8_repairs: int = Field(ge=0, le=4, description="attempts to put harmful blocks of INT8 back to float; 0: none")
    int8_repair_s: float = Field(ge=0, le=3600, description="seconds after which no further attempt begins")
    scaled_decode: Literal["auto", "never"] = Field(
        description="decode JPEGs at a fraction of their size: where it is proven harmless, or never"
    )


class EvaluateParams(Section):
    """How challenger and champion are compared on the frozen frames."""

    split: Literal["test", "val"] = Field(description="the frozen frames")
    unit: Literal["camera", "clip", "block"] = Field(description="resampling unit")
    block_s: float = Field(gt=0, description="recorded frames of a camera within so many seconds are one block")
    min_units: int = Field(ge=2, description="fewer units: insufficient clusters")
    alpha: float = Field(gt=0, lt=0.5, description="one-sided error of the interval")
    replicates: int = Field(ge=100, le=100_000, description="bootstrap replicates")
    min_map50_95: Share = Field(description="mAP50-95 floor of a first champion")
    margin: Share = Field(description="mAP50-95 the challenger may lose overall; with goal superior: must win")
    goal: Literal["non-inferior", "superior"] = Field(description="what the challenger must be overall")
    slice_margin: Share = Field(description="mAP50-95 the challenger may lose in a slice")
    slice_rule: Literal["non-inferior", "not-worse"] = Field(description="what it must be in every slice")
    min_objects_per_slice: Positive = Field(description="fewer objects: insufficient")
    insufficient: Literal["report", "stop"] = Field(description="what slices with too few objects do")
    precision_margin: Share = Field(description="precision the challenger may lose at the served confidence")
    recall_margin: Share = Field(description="recall the challenger may lose at the served confidence")
    calibration_margin: Share = Field(description="overconfidence (D-ECE's part above precision) that may be added")
    max_latency_ms: float = Field(gt=0, description="p95 of the exported engine, one frame at a time")
    max_slowdown: float = Field(ge=1, description="times the exported engine may be slower than the champion's")


class PackageParams(Section):
    """The bento and the registered model."""

    name: str = Field(
        pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$", description="name of bento and registered model"
    )


class PromoteParams(Section):
    """The evidence that a challenger must bring under live traffic."""

    latency_budget_ms: float = Field(gt=0, description="a frame over this is slow")
    max_slow_share: float = Field(gt=0, lt=1, description="share of slow frames that is tolerated")
    max_error_share: float = Field(gt=0, lt=1, description="share of failed frames that is tolerated")
    min_agreement: float = Field(gt=0, lt=1, description="mean agreement with the champion; below is rollback")
    alpha: float = Field(gt=0, lt=0.5, description="false rollbacks over all metrics and looks")
    shadow_frames: Positive = Field(description="pairs judged before users see the challenger")
    canary_steps: list[Annotated[int, Field(ge=1, le=100)]] = Field(min_length=1, description="percent of cameras")
    canary_frames: Positive = Field(description="pairs judged at each step")
    bake_frames: Positive = Field(description="answers judged after the switch")
    thin_s: float = Field(ge=0, le=60, description="least time between two judged frames of a camera; 0: judge all")
    state_deadline_s: float = Field(gt=0, description="no verdict by then: hold")
    drain_deadline_s: float = Field(gt=0, description="how long the old champion may finish its frames")
    approval: Literal["none", "canary", "promoting"] = Field(default="none", description="where a person must agree")
    approval_deadline_s: float = Field(default=86400.0, ge=0, description="no answer by then: hold; 0: at once")

    @field_validator("canary_steps")
    @classmethod
    def _rising(cls, value: list[int]) -> list[int]:
        if sorted(set(value)) != value:
            raise ValueError(f"must rise from step to step, not {value}")
        return value


class Params(Section):
    """All of params.yaml."""

    seed: int = Field(ge=0, lt=2**32, description="of rendering, training, tuning and resampling")
    render: RenderParams
    validate_: ValidateParams = Field(alias="validate")
    train: TrainParams
    tune: TuneParams
    export: ExportParams
    evaluate: EvaluateParams
    package: PackageParams
    promote: PromoteParams
    monitor: MonitorParams

    def digest(self) -> str:
        """First 16 hex digits of the sha256 over the canonical JSON of all sections."""
        text = json.dumps(self.model_dump(by_alias=True), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

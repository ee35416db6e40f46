"""The record of one comparison: figures, sample sizes, thresholds, hashes, reasons; enough to recompute the verdict."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.comparison.calibration import Calibration
from flows.comparison.engine_latency import EngineLatency
from flows.comparison.gate import Gate, JudgedSlice, Outcome
from flows.comparison.resampling import Estimate, Unit


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figures(_Frozen):
    """The headline figures of a model, or their paired differences."""

    map50_95: Estimate = Field(description="COCO mAP, mean over IoU .50 to .95 and classes")
    ap50: Estimate = Field(description="COCO AP at IoU .50, mean over classes")
    ap75: Estimate = Field(description="COCO AP at IoU .75, mean over classes")
    precision: Estimate = Field(description="right detections among those served, IoU .50, at the served confidence")
    recall: Estimate = Field(description="objects found by the detections served, IoU .50, at the served confidence")
    calibration_error: Estimate | None = Field(
        default=None, description="D-ECE of the detections served, smaller is better; null: not measured"
    )
    overconfidence: Estimate | None = Field(
        default=None, description="the part of it where confidences promise more than they hold; null: not measured"
    )


class Curve(_Frozen):
    """Precision at 101 recall points from 0 to 1, at IoU .50."""

    model: str = Field(description="challenger or champion")
    name: str = Field(description="a class, or `all classes` for their mean")
    precision: tuple[float, ...] = Field(description="precision at recall 0, .01, ... 1")


class ModelFigures(_Frozen):
    """One model on the frozen frames."""

    figures: Figures = Field(description="with intervals")
    curves: tuple[Curve, ...] = Field(description="precision-recall curves: all classes first")
    calibration: Calibration | None = Field(
        default=None, description="confidence against precision, of the detections served; null: not measured"
    )
    num_detections: int = Field(description="detections that entered average precision")
    predictions_sha256: str = Field(description="of the content of the predictions table")


class BootstrapDifference(_Frozen):
    """The paired bootstrap of the mAP50-95 difference over units; it informs, the jackknife t interval decides."""

    replicates: int = Field(description="resamples, the same for both models")
    lower: float = Field(description="alpha quantile")
    upper: float = Field(description="1 - alpha quantile")
    share_better: float = Field(description="share of the replicates in which the challenger is better")
    p_label_swap: float = Field(description="two-sided permutation p value, models trading places in whole units")


class Disagreement(_Frozen):
    """A frame on which the two models differ most: a frame worth labelling and looking at."""

    image: str = Field(description="path below the data folder")
    camera: str = Field(description="camera of the frame")
    slice: str = Field(description="slice word of the frame")
    num_boxes: int = Field(description="served boxes of either side without a partner on the other")


class Thresholds(_Frozen):
    """The parameters that the verdict rests on."""

    unit: Unit = Field(description="resampling unit asked for")
    block_s: float | None = Field(default=None, description="length of a block of time, s; null: clips were cut evenly")
    min_units: int = Field(description="fewer: insufficient clusters")
    alpha: float = Field(description="one-sided error of every bound")
    replicates: int = Field(description="bootstrap replicates")
    seed: int = Field(description="of bootstrap and permutation")
    min_map50_95: float = Field(description="floor of a first champion")
    margin: float = Field(description="mAP50-95 that may be lost overall, or must be won")
    goal: Literal["non-inferior", "superior"] = Field(default="non-inferior", description="what is wanted overall")
    slice_margin: float = Field(description="mAP50-95 that may be lost in a part")
    slice_rule: Literal["non-inferior", "not-worse"] = Field(
        default="not-worse", description="what is wanted of every part: proven to keep up, or not proven to be worse"
    )
    min_objects_per_slice: int = Field(description="fewer: insufficient")
    insufficient: Literal["report", "stop"] = Field(default="report", description="what insufficient parts do")
    precision_margin: float | None = Field(default=None, description="that may be lost; null: was not demanded")
    recall_margin: float | None = Field(default=None, description="that may be lost; null: was not demanded")
    calibration_margin: float | None = Field(
        default=None, description="overconfidence that may be added; null: was not"
    )
    max_latency_ms: float | None = Field(default=None, description="of a lone frame, p95; null: was not demanded")
    max_slowdown: float | None = Field(default=None, description="times the champion's; null: was not demanded")
    served_conf: float = Field(
        description="confidence of precision, recall and calibration: what the challenger serves"
    )
    champion_conf: float | None = Field(default=None, description="the same of the champion; null: `served_conf`")

    @property
    def wanted(self) -> float:
        """Difference of mAP50-95 to the champion that a challenger must lie above."""
        return self.margin if self.goal == "superior" else -self.margin


class EvaluationReport(_Frozen):
    """Challenger against champion on the same frozen frames, through the detector that serves."""

    passed: bool = Field(description="the outcome is promote")
    sentence: str = Field(description="the verdict in one sentence")
    outcome: Outcome = Field(description="promote, reject or inconclusive")
    reasons: tuple[str, ...] = Field(description="why, each with its figures")
    gates: tuple[Gate, ...] = Field(default=(), description="each gate with its state, in the order of params.yaml")
    challenger: ModelFigures = Field(description="the new model")
    champion: ModelFigures | None = Field(description="the reigning model; null: there is none")
    difference: Figures | None = Field(description="challenger minus champion, paired over units")
    bootstrap: BootstrapDifference | None = Field(description="null: no champion, or insufficient clusters")
    latency: EngineLatency | None = Field(default=None, description="the exported engines; null: not timed")
    parts: tuple[JudgedSlice, ...] = Field(description="slices, cameras, classes and object sizes, with their state")
    disagreements: tuple[Disagreement, ...] = Field(description="most first; without a champion: with the labels")
    thresholds: Thresholds = Field(description="params the verdict rests on")
    num_images: int = Field(description="frozen frames")
    num_objects: int = Field(description="labelled objects in them")
    num_units: int = Field(description="resampling units among them")
    ground_truth_sha256: str = Field(description="of the content of the ground truth table")

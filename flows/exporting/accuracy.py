"""What an engine loses on the frozen frames, and who says so: the judge comes from outside, rooms know no datasets."""

from __future__ import annotations

from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from bentos.detector.detector import Detector
from flows.progress import Progress


class Loss(BaseModel):
    """PyTorch's mAP50-95 minus the engine's, on the same frames, with its paired interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float | None = Field(description="the loss over all frames, negative: a gain; null where it is not defined")
    lower: float | None = Field(description="one-sided lower bound; null: too few units to tell")
    upper: float | None = Field(description="one-sided upper bound; null: too few units to tell")
    num_units: int = Field(description="cameras or clips that the interval rests on")

    def text(self) -> str:
        """Like `.012 [.006, .019]`."""
        if self.value is None:
            return "not defined"
        if self.lower is None or self.upper is None:
            return f"{short(self.value)} (too few units for an interval)"
        return f"{short(self.value)} [{short(self.lower)}, {short(self.upper)}]"


class Accuracy(BaseModel):
    """mAP50-95 of an engine on the frozen frames, and what it loses against PyTorch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    map50_95: float | None = Field(description="mAP50-95 on the frozen frames; null: no labelled object")
    loss: Loss = Field(description="PyTorch minus engine, paired")


class Baseline(BaseModel):
    """The frozen frames, and what PyTorch reaches on them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str = Field(description="split of the frozen frames")
    unit: str = Field(description="resampling unit of the intervals")
    alpha: float = Field(description="one-sided error of each bound")
    num_images: int = Field(description="frozen frames")
    num_objects: int = Field(description="labelled objects in them")
    num_units: int = Field(description="units that they come from")
    min_units: int = Field(description="fewer units give no interval")
    map50_95: float | None = Field(description="PyTorch's mAP50-95; null: no labelled object")


class Judge(Protocol):
    """Runs detectors over the frozen frames. `start` comes first, with PyTorch itself, whose answers are kept."""

    def start(self, reference: Detector, progress: Progress) -> Baseline:
        """Score the reference and keep its answers."""
        ...

    def measure(self, detector: Detector, progress: Progress) -> Accuracy:
        """Score a detector, and compare it with the reference frame by frame."""
        ...


def short(value: float | None) -> str:
    """Three decimals without the leading zero; a dash for nothing."""
    if value is None:
        return "–"
    text = f"{value:.3f}"
    return ".000" if float(text) == 0 else text.replace("0.", ".", 1) if abs(value) < 0.9995 else text

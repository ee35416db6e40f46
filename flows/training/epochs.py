"""What one epoch of a training measured."""

from __future__ import annotations

import math
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

from flows.params_train import Task

_OF_OBJECTS = ("map50", "map50_95", "precision", "recall")


class EpochMetrics(BaseModel):
    """One epoch, validated. Losses carry their split: train_box_loss, val_box_loss, ...

    Where a frame as a whole has a class there are no objects: mAP, precision and recall are NaN.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    epoch: int = Field(description="counted from 1")
    epochs: int = Field(description="epochs of the whole training")
    losses: dict[str, float] = Field(description="mean losses by split and kind")
    score: float = Field(description="what the best epoch is chosen by: mAP50-95, or top-1 accuracy")
    map50: float = Field(description="mAP50 on the validation split")
    map50_95: float = Field(description="mAP50-95 on the validation split")
    precision: float = Field(description="at the confidence with the best F1")
    recall: float = Field(description="at the confidence with the best F1")
    learning_rate: float = Field(description="of the weights, at the end of the epoch")
    seconds: float = Field(description="wall time, validation included")
    images_per_s: float = Field(description="training images a second, validation left out")
    wait_share: float = Field(default=0.0, description="share of the training time spent waiting for frames")
    memory_gb: float = Field(default=0.0, description="resident memory of the training process, GB")
    gpu_memory_gb: float | None = Field(default=None, description="highest memory taken on the GPU, GB; null without")
    gpu_use: float | None = Field(default=None, description="share of the epoch the GPU was busy; null without")

    def numbers(self) -> dict[str, float]:
        """Flat figures for a tracker or a table: all but the counters and what this machine or this task lacks."""
        figures = self.model_dump(exclude={"epoch", "epochs", "losses"}, exclude_none=True)
        known = {key: value for key, value in figures.items() if key not in _OF_OBJECTS or not math.isnan(value)}
        return {**self.losses, **{key: float(value) for key, value in known.items()}}


def name_score(task: Task) -> str:
    """What the score of a task is, in words."""
    return "top-1 accuracy" if task == "classify" else "mAP50-95"


OnEpoch = Callable[[EpochMetrics], None]

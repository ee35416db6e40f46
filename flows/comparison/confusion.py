"""What is taken for what, at the confidence that is served: labelled classes against found ones, IoU .50.

A detection first takes an object of its own class, exactly as precision and recall count it. What is left on both
sides is then paired across classes: an object found, but as something else. The rest is missed, or found where nothing
is labelled.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from flows.comparison.matching import match_greedily
from flows.comparison.predictions import GroundTruth, Predictions
from flows.geometry import iou_xyxy

_NOTHING = -1
_Pair = tuple[int, int]  # class id labelled, class id found


class ConfusionCell(BaseModel):
    """How often one class was taken for another, for itself, or for nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labelled: str | None = Field(description="class of the label; null: nothing is labelled there")
    found: str | None = Field(description="class of the detection; null: missed")
    num: int = Field(description="boxes")


class Confusion(BaseModel):
    """The confusion matrix of one model, without the cells that are empty."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cells: tuple[ConfusionCell, ...] = Field(description="by class of the label, then of the detection; nothing last")

    def count(self, labelled: str | None, found: str | None) -> int:
        """Boxes of one cell."""
        return next((one.num for one in self.cells if (one.labelled, one.found) == (labelled, found)), 0)

    def matrix(self, classes: tuple[str, ...]) -> list[list[int]]:
        """Rows by class of the label, columns by class of the detection; the last row and column are "nothing"."""
        index: dict[str | None, int] = {name: number for number, name in enumerate(classes)}
        index[None] = len(classes)
        counts = [[0] * len(index) for _ in index]
        for one in self.cells:
            counts[index[one.labelled]][index[one.found]] += one.num
        return counts


def confusion(truth: GroundTruth, found: Predictions, conf: float) -> Confusion:
    """Pair labels with the detections of confidence `conf` and more, image by image, and count the pairs."""
    served = found.at_confidence(conf)
    counts: Counter[_Pair] = Counter()
    for index in range(len(truth.images)):
        counts.update(_pairs(truth, served, index))
    names: dict[int, str | None] = {**dict(enumerate(truth.classes)), _NOTHING: None}
    order = sorted(counts, key=lambda pair: [(one == _NOTHING, one) for one in pair])
    return Confusion(
        cells=tuple(ConfusionCell(labelled=names[pair[0]], found=names[pair[1]], num=counts[pair]) for pair in order)
    )


def _pairs(truth: GroundTruth, served: Predictions, index: int) -> list[_Pair]:
    objects, here = truth.of(index), served.of(index)
    labelled = truth.class_ids[objects]
    best_first = np.argsort(-served.scores[here], kind="stable")
    guessed = served.class_ids[here][best_first]
    ious = iou_xyxy(served.boxes_xyxy[here][best_first], truth.boxes_xyxy[objects])
    same_class = guessed[:, None] == labelled[None, :]
    taken = match_greedily(np.where(same_class, ious, 0.0))[0]
    free_objects = np.setdiff1d(np.arange(len(labelled)), taken)
    free_detections = np.flatnonzero(taken < 0)
    crossed = match_greedily(ious[np.ix_(free_detections, free_objects)])[0]
    taken[free_detections[crossed >= 0]] = free_objects[crossed[crossed >= 0]]
    pairs = [
        (int(labelled[one]) if one >= 0 else _NOTHING, int(guess)) for one, guess in zip(taken, guessed, strict=True)
    ]
    missed = np.setdiff1d(np.arange(len(labelled)), taken)
    return pairs + [(int(class_id), _NOTHING) for class_id in labelled[missed]]

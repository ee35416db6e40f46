"""What a reference model found, as objects: one box a thing, with a score for every class of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flows.geometry import area_xyxy, iou_xyxy

LOW_CONF = 0.05
"""Confidence from which on a detection is kept: enough to support a label, too little for a claim of its own."""
SAME_OBJECT_IOU = 0.65
"""Boxes of different classes that overlap more are one thing that looks like both."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Detected:
    """Detections in one image, after suppression within each class; class ids are the reference's."""

    boxes_xyxy: npt.NDArray[np.floating]  # (N, 4), px of the upright image
    scores: npt.NDArray[np.floating]  # (N,), 0 to 1
    class_ids: Ints  # (N,)


@dataclass(frozen=True)
class Objects:
    """Things in one image, best first."""

    boxes_xyxy: Floats  # (N, 4), px
    class_scores: Floats  # (N, num_classes): 0 where the reference gives none

    @property
    def scores(self) -> Floats:
        """Score of the best class, (N,)."""
        best: Floats = self.class_scores.max(axis=1, initial=0.0)
        return best

    @property
    def class_ids(self) -> Ints:
        """The best class, (N,)."""
        return self.class_scores.argmax(axis=1) if len(self.class_scores) else np.zeros(0, dtype=np.int64)


def merge_detections(detected: Detected, class_of: Mapping[int, int], num_classes: int) -> Objects:
    """Make one object of the detections at a place, whatever their classes.

    Args:
        detected: Of one image.
        class_of: Class of the data by class of the reference; detections of other classes are ignored.
        num_classes: Classes of the data.
    """
    known = np.array([int(each) in class_of for each in detected.class_ids], dtype=bool)
    order = np.flatnonzero(known)[np.argsort(-detected.scores[known], kind="stable")]
    boxes, scores = detected.boxes_xyxy[order].astype(np.float64), detected.scores[order].astype(np.float64)
    own = detected.class_ids[order]
    ids = np.array([class_of[int(each)] for each in own], dtype=np.int64)
    together = iou_xyxy(boxes, boxes) >= SAME_OBJECT_IOU  # (N, N)
    free = np.ones(len(boxes), dtype=bool)
    kept, rows = [], []
    for index in range(len(boxes)):
        if not free[index]:
            continue
        # a second box of the same class was let through by suppression: it is a thing of its own
        mine = free & together[index] & ((own != own[index]) | (np.arange(len(boxes)) == index))
        row = np.zeros(num_classes)
        np.maximum.at(row, ids[mine], scores[mine])
        free &= ~mine
        kept.append(index)
        rows.append(row)
    return Objects(boxes[kept].reshape(-1, 4), np.array(rows).reshape(-1, num_classes))


def match_boxes(first_xyxy: Floats, second_xyxy: Floats, min_iou: float) -> tuple[Ints, Floats]:
    """Pair boxes one to one, best overlap first.

    Returns:
        For each of the first the index of its partner, -1 for none, (N,), and the overlap with it, (N,).
    """
    ious = iou_xyxy(first_xyxy, second_xyxy)
    partner, overlap = np.full(len(ious), -1, dtype=np.int64), np.zeros(len(ious))
    taken = np.zeros(ious.shape[1], dtype=bool)
    rows, columns = np.nonzero(ious >= max(min_iou, 1e-9))
    for place in np.argsort(-ious[rows, columns], kind="stable"):
        row, column = rows[place], columns[place]
        if partner[row] < 0 and not taken[column]:
            partner[row], overlap[row], taken[column] = column, ious[row, column], True
    return partner, overlap


def common_area(first_xyxy: Floats, second_xyxy: Floats) -> Floats:  # (N, 4), (M, 4) -> (N, M)
    """Area that each box of the first has in common with each of the second, px²."""
    low = np.maximum(first_xyxy[:, None, :2], second_xyxy[None, :, :2])
    high = np.minimum(first_xyxy[:, None, 2:], second_xyxy[None, :, 2:])
    area: Floats = np.prod(np.maximum(high - low, 0.0), axis=2)
    return area


def covered_share(boxes_xyxy: Floats, by_xyxy: Floats) -> Floats:  # (N, 4), (M, 4) -> (N,)
    """Share of each box that the others cover; where those overlap each other, their common part counts twice."""
    return _share_of(common_area(boxes_xyxy, by_xyxy).sum(axis=1), boxes_xyxy)


def hidden_share(boxes_xyxy: Floats) -> Floats:  # (N, 4) -> (N,)
    """Share of each box that the rest of them cover, counted likewise."""
    common = common_area(boxes_xyxy, boxes_xyxy)
    np.fill_diagonal(common, 0.0)
    return _share_of(common.sum(axis=1), boxes_xyxy)


def _share_of(common: Floats, boxes_xyxy: Floats) -> Floats:
    areas = area_xyxy(boxes_xyxy)
    share: Floats = np.divide(common, areas, out=np.zeros_like(common), where=areas > 0)
    return np.minimum(share, 1.0)

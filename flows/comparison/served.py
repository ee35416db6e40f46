"""What a user of the served thresholds gets: precision and recall at one confidence, and where two models disagree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flows.comparison.matching import Matches, match_greedily
from flows.comparison.predictions import Boxes, Floats, Ints, Predictions
from flows.geometry import iou_xyxy


@dataclass(frozen=True)
class ServedCounts:
    """Per image, over all classes, at IoU 0.5 and one confidence threshold."""

    num_hits: Ints  # (num_images,)
    num_detections: Ints  # (num_images,)
    num_objects: Ints  # (num_images,)


def served_counts(matches: Matches, conf: float) -> ServedCounts:
    """Count what detections of confidence `conf` and more hit; lower ones cannot change it, matching is by score."""
    kept = (matches.scores >= conf) & ~matches.ignored[0]
    images = matches.image_index
    return ServedCounts(
        num_hits=np.bincount(images[kept & matches.hit[0]], minlength=matches.num_images),
        num_detections=np.bincount(images[kept], minlength=matches.num_images),
        num_objects=matches.num_objects.sum(axis=0),
    )


def precision_recall(counts: ServedCounts, weights: npt.NDArray[np.integer]) -> tuple[Floats, Floats]:
    """Precision and recall of each weighting of the images, (R, num_images) to two (R,); NaN where undefined."""
    hits = (weights @ counts.num_hits).astype(np.float64)
    return _share(hits, weights @ counts.num_detections), _share(hits, weights @ counts.num_objects)


def unmatched_boxes(found: Predictions, other: Boxes) -> Ints:
    """Boxes of either side without a partner of the same class at IoU 0.5 on the other, per image: (num_images,)."""
    return np.array([_unmatched(found, other, index) for index in range(len(found.images))], dtype=np.int64)


def _unmatched(found: Predictions, other: Boxes, index: int) -> int:
    ours, theirs = found.of(index), other.of(index)
    order = np.argsort(-found.scores[ours], kind="stable")
    ious = iou_xyxy(found.boxes_xyxy[ours][order], other.boxes_xyxy[theirs])
    same_class = found.class_ids[ours][order][:, None] == other.class_ids[theirs][None, :]
    num_matched = int((match_greedily(np.where(same_class, ious, 0.0))[0] >= 0).sum())
    return int(ious.shape[0] + ious.shape[1]) - 2 * num_matched


def _share(part: Floats, whole: npt.NDArray[np.integer]) -> Floats:
    share: Floats = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return share

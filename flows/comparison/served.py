"""What a user of the served thresholds gets: precision and recall at one confidence, and where two models disagree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flows.comparison.matching import Bools, Matches, match_greedily
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
    sides = (unpartnered(found, other, index) for index in range(len(found.images)))
    return np.array([int(alone.sum() + other_alone.sum()) for alone, other_alone in sides], dtype=np.int64)


def unpartnered(found: Predictions, other: Boxes, index: int) -> tuple[Bools, Bools]:
    """Which boxes of either side have no partner of the same class at IoU .50 on the other, for one image.

    Returns:
        (N,) for the boxes of `found` and (M,) for those of `other`, in their order in the tables.
    """
    ours, theirs = found.of(index), other.of(index)
    best_first = np.argsort(-found.scores[ours], kind="stable")
    ious = iou_xyxy(found.boxes_xyxy[ours][best_first], other.boxes_xyxy[theirs])
    same_class = found.class_ids[ours][best_first][:, None] == other.class_ids[theirs][None, :]
    taken = match_greedily(np.where(same_class, ious, 0.0))[0]
    alone = np.ones(len(best_first), dtype=bool)
    alone[best_first[taken >= 0]] = False
    other_alone = np.ones(theirs.stop - theirs.start, dtype=bool)
    other_alone[taken[taken >= 0]] = False
    return alone, other_alone


def _share(part: Floats, whole: npt.NDArray[np.integer]) -> Floats:
    share: Floats = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return share

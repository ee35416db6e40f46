"""COCO's greedy matching of detections to objects, per image and class, at ten IoU thresholds, done once.

Resampling never changes which detection took which object of an image, so everything after this works on the
result. Object sizes are COCO's "area ranges": objects outside the range, and what matches them, are ignored.

Source: Lin et al., "Microsoft COCO", 2014, and the published evaluation protocol (maxDets 100).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flows.comparison.predictions import MAX_DETECTIONS, Floats, GroundTruth, Ints, Predictions
from flows.geometry import area_xyxy, iou_xyxy

Bools = npt.NDArray[np.bool_]

IOU_THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)

AREA_RANGES_PX: dict[str, tuple[float, float]] = {
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e5**2),
}
"""COCO's object sizes, as box areas in px of the stored image."""


@dataclass(frozen=True)
class Matches:
    """Every detection with its fate, sorted by class, then by falling score (ties: in the order of the images)."""

    num_images: int
    image_index: Ints  # (D,)
    class_ids: Ints  # (D,)
    scores: Floats  # (D,)
    hit: Bools  # (10, D) took an object at this IoU threshold
    ignored: Bools  # (10, D) counts neither for nor against the model
    num_objects: Ints  # (num_classes, num_images) objects that count


def match_greedily(ious: Floats, object_ignored: Bools | None = None) -> Ints:
    """Let detections, best score first, each take the free object of highest IoU.

    Args:
        ious: (D, G) of detections sorted by falling score and objects.
        object_ignored: (G,) objects that are taken only when no counting one will do.

    Returns:
        (10, D) index of the object taken at each IoU threshold, -1 for none.
    """
    num_detections, num_objects = ious.shape
    taken = np.full((len(IOU_THRESHOLDS), num_detections), -1, dtype=np.int64)
    if not num_detections or not num_objects:
        return taken
    preference = np.zeros(num_objects) if object_ignored is None else np.where(object_ignored, 0.0, 2.0)
    free = np.ones((len(IOU_THRESHOLDS), num_objects), dtype=bool)
    levels = np.arange(len(IOU_THRESHOLDS))
    for detection in np.flatnonzero(ious.max(axis=1) >= IOU_THRESHOLDS[0]):
        possible = free & (ious[detection] >= IOU_THRESHOLDS[:, None])  # (10, G)
        rank = np.where(possible, ious[detection] + preference, -1.0)
        best = num_objects - 1 - rank[:, ::-1].argmax(axis=1)  # COCO takes the last of equals
        found = possible[levels, best]
        taken[found, detection] = best[found]
        free[levels[found], best[found]] = False
    return taken


def match_all(truth: GroundTruth, found: Predictions, area_range_px: tuple[float, float] | None = None) -> Matches:
    """Match all images and classes; with `area_range_px` only objects of that box area count."""
    order, starts = _grouped(found, len(truth.classes))
    truth_order = np.lexsort((truth.class_ids, truth.image_index))
    truth_keys = (truth.image_index * len(truth.classes) + truth.class_ids)[truth_order]
    outside = _outside(truth.boxes_xyxy, area_range_px)[truth_order]
    truth_boxes = truth.boxes_xyxy[truth_order]
    boxes = found.boxes_xyxy[order]
    hit = np.zeros((len(IOU_THRESHOLDS), len(order)), dtype=bool)
    ignored = np.repeat(_outside(boxes, area_range_px)[None], len(IOU_THRESHOLDS), axis=0)
    for rows, objects in _groups_with_objects(found, order, starts, truth_keys, len(truth.classes)):
        taken = match_greedily(iou_xyxy(boxes[rows], truth_boxes[objects]), outside[objects])
        took_ignored = outside[objects][taken] & (taken >= 0)
        hit[:, rows] = (taken >= 0) & ~took_ignored
        ignored[:, rows] = took_ignored | (ignored[:, rows] & (taken < 0))
    num_objects = np.bincount(truth_keys[~outside], minlength=len(truth.images) * len(truth.classes))
    per_image = num_objects.reshape(len(truth.images), len(truth.classes))
    return _sorted_by_score(found, order, hit, ignored, np.ascontiguousarray(per_image.T))


def _grouped(found: Predictions, num_classes: int) -> tuple[Ints, Ints]:
    """Order detections by image, class, falling score, at most MAX_DETECTIONS a group; and where each group starts."""
    keys = found.image_index * num_classes + found.class_ids
    order = np.lexsort((-found.scores, keys))
    sorted_keys = keys[order]
    first = np.searchsorted(sorted_keys, sorted_keys)
    order = order[np.arange(len(order)) - first < MAX_DETECTIONS]
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    return order, np.append(starts, len(order))


def _groups_with_objects(
    found: Predictions, order: Ints, starts: Ints, truth_keys: Ints, num_classes: int
) -> Iterator[tuple[slice, slice]]:
    keys = (found.image_index * num_classes + found.class_ids)[order[starts[:-1]]]
    low, high = np.searchsorted(truth_keys, keys, "left"), np.searchsorted(truth_keys, keys, "right")
    for group in np.flatnonzero(high > low):
        yield slice(int(starts[group]), int(starts[group + 1])), slice(int(low[group]), int(high[group]))


def _outside(boxes_xyxy: Floats, area_range_px: tuple[float, float] | None) -> Bools:
    if area_range_px is None:
        return np.zeros(len(boxes_xyxy), dtype=bool)
    areas = area_xyxy(boxes_xyxy)
    return (areas < area_range_px[0]) | (areas > area_range_px[1])


def _sorted_by_score(found: Predictions, order: Ints, hit: Bools, ignored: Bools, num_objects: Ints) -> Matches:
    class_ids, scores = found.class_ids[order], found.scores[order]
    by_score = np.lexsort((-scores, class_ids))
    return Matches(
        num_images=len(found.images),
        image_index=found.image_index[order][by_score],
        class_ids=class_ids[by_score],
        scores=scores[by_score],
        hit=hit[:, by_score],
        ignored=ignored[:, by_score],
        num_objects=num_objects,
    )

"""COCO average precision of any weighting of the images: a slice, a jackknife sample and a bootstrap replicate alike.

An image of weight w counts as w copies of itself. Per class the detections stay sorted by score, so a weighting
costs cumulative sums over them, precision at the true positives only, its running maximum from the right, and a
look-up at 101 recall points. The result equals evaluating the copied images, score ties aside.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from flows.comparison.matching import IOU_THRESHOLDS, Matches
from flows.comparison.predictions import Floats, Ints

RECALL_POINTS: Floats = np.linspace(0.0, 1.0, 101)

# Seen as floats, some recall points lie above the fraction they stand for (35 * 0.01 > 35 / 100), so that a recall
# of exactly 35 % does not reach them. COCO's code has it so, and being equal to COCO includes this.
_POINT_IS_ABOVE: npt.NDArray[np.int64] = (np.arange(101) / 100 < RECALL_POINTS).astype(np.int64)

_WEIGHTINGS_AT_ONCE = 16  # rows of 16 weights fill cache lines; larger blocks leave the cache
_WORTH_THREADS = 50_000  # detections; with fewer, threads wait for one another more than they work


@dataclass(frozen=True)
class ScoreColumn:
    """Detections of one class by falling score, without ignored ones, for the IoU thresholds that ignore alike."""

    class_id: int
    image_index: Ints  # (D,)
    levels: tuple[tuple[int, Ints], ...]  # index of the IoU threshold, positions of its true positives


@dataclass(frozen=True)
class Ranking:
    """All that average precision needs of one model's matches."""

    columns: tuple[ScoreColumn, ...]
    num_objects: Ints  # (num_classes, num_images)

    @property
    def num_detections(self) -> int:
        """Detections that are gone through for each weighting."""
        return sum(len(column.image_index) for column in self.columns)


def rank(matches: Matches) -> Ranking:
    """Cut the matches into one column a class (one a class and threshold where some are ignored)."""
    columns: list[ScoreColumn] = []
    bounds = np.searchsorted(matches.class_ids, np.arange(len(matches.num_objects) + 1))
    for class_id, (low, high) in enumerate(pairwise(bounds)):
        images, hit, ignored = matches.image_index[low:high], matches.hit[:, low:high], matches.ignored[:, low:high]
        if not ignored.any():
            levels = tuple((level, np.flatnonzero(hit[level])) for level in range(len(hit)))
            columns.append(ScoreColumn(class_id, images, levels))
            continue
        for level in range(len(hit)):
            counts = ~ignored[level]
            columns.append(ScoreColumn(class_id, images[counts], ((level, np.flatnonzero(hit[level, counts])),)))
    return Ranking(tuple(columns), matches.num_objects)


def average_precisions(ranking: Ranking, weights: npt.NDArray[np.integer], *, num_threads: int | None = None) -> Floats:
    """Compute the average precision of each weighting, class and IoU threshold: (R, num_classes, 10).

    `weights`, (R, num_images), says how often each image counts. NaN where a weighting holds no object of a class.
    Large tables are worked on by `num_threads`, None for one a core; the result does not depend on it.
    """
    num_classes, num_images = ranking.num_objects.shape
    if weights.ndim != 2 or weights.shape[1] != num_images:
        raise ValueError(f"weights must be (R, {num_images}), not {weights.shape}")
    result = np.empty((len(weights), num_classes, len(IOU_THRESHOLDS)))
    starts = range(0, len(weights), _WEIGHTINGS_AT_ONCE)

    def fill(start: int) -> None:
        end = start + _WEIGHTINGS_AT_ONCE
        result[start:end] = _block_of_precisions(ranking, weights[start:end])

    workers = min(len(os.sched_getaffinity(0)) if num_threads is None else num_threads, len(starts))
    if workers < 2 or (num_threads is None and ranking.num_detections < _WORTH_THREADS):
        for start in starts:
            fill(start)
        return result
    with ThreadPoolExecutor(workers) as pool:  # numpy leaves other threads alone while it works on long arrays
        list(pool.map(fill, starts))
    return result


def _block_of_precisions(ranking: Ranking, weights: npt.NDArray[np.integer]) -> Floats:
    """Average precisions of few weightings, (B, num_images) to (B, num_classes, 10)."""
    result = np.empty((len(weights), len(ranking.num_objects), len(IOU_THRESHOLDS)))
    block = np.ascontiguousarray(weights.T, dtype=np.int32)  # (num_images, B)
    objects = ranking.num_objects @ block.astype(np.int64)  # (num_classes, B)
    points = [_points_reached(per_weighting) for per_weighting in objects]
    for column in ranking.columns:
        copies = block.take(column.image_index, axis=0)  # (D, B)
        seen = np.cumsum(copies, axis=0, dtype=np.int32)
        for level, positions in column.levels:
            result[:, column.class_id, level] = _mean_precision(copies, seen, positions, points[column.class_id])
    result[objects.T == 0] = np.nan
    return result


def mean_average_precision(precisions: Floats) -> Floats:
    """Average over thresholds and the classes that have objects: (..., num_classes, 10) to (...,); NaN if none."""
    return mean_over_classes(precisions.mean(axis=-1))


def mean_over_classes(per_class: Floats) -> Floats:
    """Average over the last axis, leaving NaN out; NaN where all are."""
    present = ~np.isnan(per_class)
    total = np.where(present, per_class, 0.0).sum(axis=-1)
    count = present.sum(axis=-1)
    mean: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def precision_curve(ranking: Ranking, class_id: int, level: int) -> Floats:
    """Read precision at the 101 recall points, (101,), of one class at one IoU threshold; NaN without objects."""
    num_objects = int(ranking.num_objects[class_id].sum())
    if not num_objects:
        return np.full(len(RECALL_POINTS), np.nan)
    for column in ranking.columns:
        for own_level, positions in column.levels:
            if column.class_id == class_id and own_level == level:
                hits = np.arange(1, len(positions) + 1)
                envelope = np.maximum.accumulate((hits / (positions + 1))[::-1])[::-1]
                reached = np.searchsorted(hits / num_objects, RECALL_POINTS, side="left")
                return np.append(envelope, 0.0)[np.minimum(reached, len(positions))]
    return np.zeros(len(RECALL_POINTS))


def _points_reached(num_objects: Ints) -> npt.NDArray[np.int32]:
    """Count the recall points that k true positives reach, k = 0 to most objects: (K + 1, B); 0 reach none."""
    hits = np.arange(int(num_objects.max(initial=0)) + 1)[:, None]
    total = np.maximum(num_objects, 1)
    hundredths = np.minimum(100 * hits // total, 100)
    exact = hundredths * total == 100 * hits
    reached = hundredths + 1 - (exact & (_POINT_IS_ABOVE[hundredths] == 1))
    return np.where(hits > 0, reached, 0).astype(np.int32)


def _mean_precision(
    copies: npt.NDArray[np.int32], seen: npt.NDArray[np.int32], positions: Ints, points: npt.NDArray[np.int32]
) -> Floats:
    """Average over the recall points: each true positive gives those it newly reaches the best precision from it on."""
    num_weightings = copies.shape[1]
    if not len(positions):
        return np.zeros(num_weightings)
    hits = np.cumsum(copies.take(positions, axis=0), axis=0, dtype=np.int32)  # (T, B)
    precision = hits / np.maximum(seen.take(positions, axis=0), 1)
    best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    reached = points.ravel().take(hits * num_weightings + np.arange(num_weightings, dtype=np.int32))
    best[1:] *= reached[1:] - reached[:-1]
    best[0] *= reached[0]
    mean: Floats = best.sum(axis=0) / len(RECALL_POINTS)
    return mean

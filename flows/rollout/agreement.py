"""How much two detectors agree on one frame."""

from __future__ import annotations

import math
from collections.abc import Sequence

MATCH_IOU = 0.5
_LISTS = (list, tuple)
Row = Sequence[float]


def agreement(ours: Sequence[Row], others: Sequence[Row]) -> float:
    """F1 of boxes matched one to one, of the same class and with an IoU of at least 0.5.

    Rows are x1, y1, x2, y2, score, class_id. Matching is greedy, best score of `ours` first, as in COCO.
    Two empty answers agree fully. Plain Python, because a frame has few boxes: arrays would cost more than they save.

    Raises:
        ValueError: A row is not six finite numbers.
    """
    _require_rows(ours)
    _require_rows(others)
    if not ours and not others:
        return 1.0
    free: dict[float, list[Row]] = {}
    for row in others:
        free.setdefault(row[5], []).append(row)
    matched = 0
    for row in sorted(ours, key=lambda row: -row[4]):
        candidates = free.get(row[5], [])
        ious = [_iou(row, other) for other in candidates]
        if ious and (best := max(ious)) >= MATCH_IOU:
            del candidates[ious.index(best)]
            matched += 1
    return 2 * matched / (len(ours) + len(others))


def _iou(one: Row, other: Row) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - shared)


def _require_rows(detections: Sequence[Row]) -> None:
    if not isinstance(detections, _LISTS):
        raise ValueError(f"detections are not a list but {type(detections).__name__}")
    for row in detections:
        if not isinstance(row, _LISTS) or len(row) != 6 or not _is_finite(row):
            raise ValueError(f"rows of 6 finite numbers were expected, not {row!r}")


def _is_finite(row: Row) -> bool:
    try:
        return math.isfinite(sum(row))  # one that is not finite makes the sum so
    except (TypeError, OverflowError):
        return False

"""Geometry of the boxes of many frames at once: a call of numpy per frame would cost more than the arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.dataset.labels import LabelBox
from flows.geometry import area_xyxy, outside_px, touches_border, xywhn_to_xyxy

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

_PAIRS_AT_ONCE = 1 << 18  # keeps a frame with thousands of boxes from filling the memory


def box_columns(
    frames: Sequence[Sequence[LabelBox]], sizes_wh: Sequence[tuple[int, int]]
) -> dict[str, npt.NDArray[Any]]:
    """Columns about all boxes of all frames, frame by frame; `frame` is the position in `frames`.

    Args:
        frames: The boxes of each frame.
        sizes_wh: Width and height of each frame, px.
    """
    counts = np.array([len(boxes) for boxes in frames], dtype=np.int64)
    frame = np.repeat(np.arange(len(frames)), counts)  # (N,)
    rows = [(box.class_id, box.line, box.cx, box.cy, box.w, box.h) for boxes in frames for box in boxes]
    values = np.array(rows, dtype=np.float64).reshape(-1, 6)
    # a size per box, (N, 2), where the functions of geometry usually get one of all: the arithmetic is the same
    size_wh: Any = np.array(sizes_wh, dtype=np.float64).reshape(-1, 2)[frame]
    corners = xywhn_to_xyxy(values[:, 2:], size_wh) if rows else np.zeros((0, 4))
    line = np.array([row[1] for row in rows], dtype=np.int64)
    overlap, nearest = largest_overlaps(corners, counts)
    return {
        "frame": frame,
        "line": line,
        "class_id": np.array([row[0] for row in rows], dtype=np.int64),
        **dict(zip(("x1", "y1", "x2", "y2"), corners.T, strict=True)),
        "width_px": values[:, 4] * size_wh[:, 0],
        "height_px": values[:, 5] * size_wh[:, 1],
        "outside_px": outside_px(corners, size_wh),
        "truncated": touches_border(corners, size_wh),
        "max_iou": overlap,
        "max_iou_line": np.where(overlap > 0, line[nearest], 0),
    }


def largest_overlaps(corners_xyxy: Floats, counts: Whole) -> tuple[Floats, Whole]:  # (N, 4), (F,) -> (N,), (N,)
    """For each box the largest intersection over union with another of its frame, and the index of that one.

    Args:
        corners_xyxy: Boxes of all frames, frame by frame.
        counts: How many boxes each frame has.
    """
    overlap, nearest = np.zeros(len(corners_xyxy)), np.zeros(len(corners_xyxy), dtype=np.int64)
    others = np.repeat(counts, counts)  # (N,): how many boxes the frame of each box has
    first = np.repeat(np.cumsum(counts) - counts, counts)  # (N,): where that frame begins
    ends = np.cumsum(others)
    start = 0
    while start < len(corners_xyxy):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + _PAIRS_AT_ONCE, side="right")), start + 1)
        overlap[start:stop], nearest[start:stop] = _among(corners_xyxy, first, others, start, stop)
        start = stop
    return overlap, nearest


def _among(corners: Floats, first: Whole, others: Whole, start: int, stop: int) -> tuple[Floats, Whole]:
    """The same for the boxes `start` to `stop`: all pairs in one row, box by box."""
    width = others[start:stop]
    begins = np.cumsum(width) - width
    one = np.repeat(np.arange(start, stop), width)  # (P,)
    other = np.arange(len(one)) - np.repeat(begins, width) + first[one]  # (P,)
    overlaps = _iou_of_pairs(corners[one], corners[other])
    overlaps[one == other] = 0.0
    best = np.maximum.reduceat(overlaps, begins)
    is_best = np.flatnonzero(overlaps == np.repeat(best, width))
    _, at = np.unique(one[is_best], return_index=True)  # the first of equals
    return best, other[is_best[at]]


def _iou_of_pairs(first: Floats, second: Floats) -> Floats:  # (P, 4), (P, 4) -> (P,)
    low, high = np.maximum(first[:, :2], second[:, :2]), np.minimum(first[:, 2:], second[:, 2:])
    common = np.prod(np.maximum(high - low, 0.0), axis=1)
    union = area_xyxy(first) + area_xyxy(second) - common
    overlap: Floats = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return overlap

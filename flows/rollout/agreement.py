"""How much two detectors agree on one frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flows.geometry import iou_xyxy

MATCH_IOU = 0.5


def agreement(ours: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> float:
    """F1 of boxes matched one to one, of the same class and with an IoU of at least 0.5.

    Rows are x1, y1, x2, y2, score, class_id. Matching is greedy, best score of `ours` first, as in COCO.
    Two empty answers agree fully.

    Raises:
        ValueError: A row is not six finite numbers.
    """
    rows, other_rows = _rows(ours), _rows(others)
    if not len(rows) and not len(other_rows):
        return 1.0
    ious = iou_xyxy(rows[:, :4], other_rows[:, :4])
    ious[rows[:, 5][:, None] != other_rows[:, 5][None, :]] = 0.0
    matched = 0
    for row in np.argsort(-rows[:, 4], kind="stable"):
        if not ious.shape[1]:
            break
        best = int(ious[row].argmax())
        if ious[row, best] >= MATCH_IOU:
            matched += 1
            ious[:, best] = -1.0
    return 2 * matched / (len(rows) + len(other_rows))


def _rows(detections: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    if not isinstance(detections, list | tuple):
        raise ValueError(f"detections are not a list but {type(detections).__name__}")
    if not detections:
        return np.zeros((0, 6))
    try:
        rows = np.array(detections, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError("detections are not rows of numbers") from None
    if rows.ndim != 2 or rows.shape[1] != 6 or not np.isfinite(rows).all():
        raise ValueError(f"rows of 6 finite numbers were expected, not an array of shape {rows.shape}")
    return rows

"""Boxes as arrays: arrays in, arrays out.

`xywhn` is centre and size as fractions of the frame, `xyxy` two corners in pixels; N boxes are an array (N, 4).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def xywhn_to_xyxy(boxes_xywhn: npt.ArrayLike, size_wh: tuple[float, float]) -> Floats:  # (N, 4) -> (N, 4)
    """Corners in pixels of boxes given as fractions of a frame of `size_wh`, not clipped."""
    boxes = _boxes(boxes_xywhn)
    size = np.asarray(size_wh, dtype=np.float64)
    centre, half = boxes[:, :2] * size, boxes[:, 2:] * size / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def xyxy_to_xywhn(boxes_xyxy: npt.ArrayLike, size_wh: tuple[float, float]) -> Floats:  # (N, 4) -> (N, 4)
    """Centre and size as fractions of a frame of `size_wh` of boxes given by their corners in pixels."""
    boxes = _boxes(boxes_xyxy)
    size = np.asarray(size_wh, dtype=np.float64)
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([(low + high) / 2 / size, (high - low) / size], axis=1)


def outside_px(boxes_xyxy: npt.ArrayLike, size_wh: tuple[float, float]) -> Floats:  # (N, 4) -> (N,)
    """How far each box reaches beyond the frame, px; 0 for a box inside it."""
    boxes = _boxes(boxes_xyxy)
    size = np.asarray(size_wh, dtype=np.float64)
    beyond = np.concatenate([-boxes[:, :2], boxes[:, 2:] - size], axis=1)
    worst: Floats = np.maximum(beyond, 0.0).max(axis=1, initial=0.0)
    return worst


def touches_border(
    boxes_xyxy: npt.ArrayLike, size_wh: tuple[float, float], tolerance_px: float = 1.0
) -> npt.NDArray[np.bool_]:  # (N, 4) -> (N,)
    """Whether each box reaches the border of the frame, so that the object may go on beyond it."""
    boxes = _boxes(boxes_xyxy)
    size = np.asarray(size_wh, dtype=np.float64)
    distances = np.concatenate([boxes[:, :2], size - boxes[:, 2:]], axis=1)
    return np.asarray((distances <= tolerance_px).any(axis=1), dtype=np.bool_)


def area_xyxy(boxes_xyxy: npt.ArrayLike) -> Floats:  # (N, 4) -> (N,)
    """Areas, px²; 0 for a box whose corners are in the wrong order."""
    boxes = _boxes(boxes_xyxy)
    areas: Floats = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1)
    return areas


def iou_xyxy(first_xyxy: npt.ArrayLike, second_xyxy: npt.ArrayLike) -> Floats:  # (N, 4), (M, 4) -> (N, M)
    """Intersection over union of each box of the first with each of the second; 0 where both are empty."""
    first, second = _boxes(first_xyxy), _boxes(second_xyxy)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0.0), axis=2)
    union = area_xyxy(first)[:, None] + area_xyxy(second)[None, :] - common
    overlap: Floats = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return overlap


def _boxes(values: npt.ArrayLike) -> Floats:
    boxes = np.asarray(values, dtype=np.float64)
    if boxes.size == 0:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes have the shape (N, 4), not {boxes.shape}")
    return boxes

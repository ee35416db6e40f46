"""Box arithmetic in numpy: letterbox geometry there and back, and class-aware non-maximum suppression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Letterbox:
    """Where an image of `image_wh` lies in an input of `input_wh`: scaled to `content_wh`, at (left, top)."""

    image_wh: tuple[int, int]
    input_wh: tuple[int, int]
    content_wh: tuple[int, int]
    left: int
    top: int

    @classmethod
    def fit(cls, image_wh: tuple[int, int], input_wh: tuple[int, int]) -> Letterbox:
        """The largest content of the image's aspect ratio, centred; odd borders have their extra pixel right and below.

        Rounds as Ultralytics does in training, so that a model sees the geometry that it was trained on.
        """
        scale = min(input_wh[0] / image_wh[0], input_wh[1] / image_wh[1])
        width = min(max(round(image_wh[0] * scale), 1), input_wh[0])
        height = min(max(round(image_wh[1] * scale), 1), input_wh[1])
        return cls(image_wh, input_wh, (width, height), (input_wh[0] - width) // 2, (input_wh[1] - height) // 2)

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Input pixels per image pixel, by axis: rounding the content makes them differ a little."""
        return self.content_wh[0] / self.image_wh[0], self.content_wh[1] / self.image_wh[1]


def letterbox_boxes(boxes_xyxy: Floats, box: Letterbox) -> Floats:  # (N, 4) -> (N, 4)
    """Map boxes from image pixels to input pixels."""
    scale = np.array(box.scale_xy * 2, dtype=np.float32)
    offset = np.array([box.left, box.top] * 2, dtype=np.float32)
    return boxes_xyxy * scale + offset


def unletterbox_boxes(boxes_xyxy: Floats, box: Letterbox) -> Floats:  # (N, 4) -> (N, 4)
    """Map boxes from input pixels to image pixels, and clip them to the image."""
    scale = np.array(box.scale_xy * 2, dtype=np.float32)
    offset = np.array([box.left, box.top] * 2, dtype=np.float32)
    return clip_boxes((boxes_xyxy - offset) / scale, box.image_wh)


def clip_boxes(boxes_xyxy: Floats, size_wh: tuple[int, int]) -> Floats:  # (N, 4) -> (N, 4)
    """Clip boxes to [0, width] x [0, height]."""
    limit = np.array(size_wh * 2, dtype=np.float32)
    return np.clip(boxes_xyxy, np.float32(0), limit)


def iou_matrix(boxes_xyxy: Floats) -> Floats:  # (N, 4) -> (N, N)
    """Intersection over union of all pairs; 0 where the union is empty."""
    x1, y1, x2, y2 = np.ascontiguousarray(boxes_xyxy.T)
    widths = np.maximum(np.minimum(x2[:, None], x2) - np.maximum(x1[:, None], x1), 0)
    heights = np.maximum(np.minimum(y2[:, None], y2) - np.maximum(y1[:, None], y1), 0)
    intersection = widths * heights
    areas = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    union = areas[:, None] + areas - intersection
    ious: Floats = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return ious


def suppress(boxes_xyxy: Floats, scores: Floats, class_ids: Ints, iou: float) -> Ints:
    """Greedy class-aware NMS: indices of the kept boxes, best score first; ties keep their order.

    A box goes when one of the same class with a better score, itself kept, overlaps it by more than `iou`.

    Args:
        boxes_xyxy: (N, 4); N is at most the graph's top-K, so all pairs are cheap.
        scores: (N,)
        class_ids: (N,)
        iou: overlap, 0..1
    """
    order = np.argsort(-scores, kind="stable")
    ids = class_ids[order]
    beats = np.triu((iou_matrix(boxes_xyxy[order]) > iou) & (ids[:, None] == ids), 1)  # (N, N), row beats column
    alive = np.ones(len(order), dtype=bool)
    for index in np.flatnonzero(beats.any(axis=1)):
        if alive[index]:
            alive &= ~beats[index]
    return order[alive]


def select_detections(
    candidates: Floats, conf: float, iou: float, max_det: int
) -> tuple[Floats, Floats, Ints]:  # (K, 6) -> (N, 4), (N,), (N,)
    """Candidates x1, y1, x2, y2, score, class of one frame to boxes in input pixels, scores and class ids.

    Non-finite candidates and boxes without area are no detections.
    """
    sound = np.isfinite(candidates).all(axis=1) & (candidates[:, 4] >= conf)
    sound &= (candidates[:, 2] > candidates[:, 0]) & (candidates[:, 3] > candidates[:, 1])
    found = candidates[sound]
    class_ids = found[:, 5].astype(np.int64)
    kept = suppress(found[:, :4], found[:, 4], class_ids, iou)[:max_det]
    return found[kept, :4], found[kept, 4], class_ids[kept]

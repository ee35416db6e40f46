"""Are these the same detections? Pairs of boxes in input pixels; numpy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bentos.detector.boxes import select_detections

Floats = npt.NDArray[np.float32]

STRONGEST = 20
_LEAST_SCORE, _SUPPRESSION_IOU, _PARTNER_IOU = 0.001, 0.6, 0.5
_LEAST_MATCHED, _LEAST_MEAN_IOU, _MOST_SCORE_DIFF = 0.95, 0.98, 0.02


@dataclass(frozen=True)
class Parity:
    """The strongest boxes of either side, and how near the other side's nearest box of the same class is."""

    num_boxes: int
    matched_share: float
    mean_iou: float
    mean_score_diff: float
    max_score_diff: float

    @property
    def passed(self) -> bool:
        return (
            self.matched_share >= _LEAST_MATCHED
            and self.mean_iou >= _LEAST_MEAN_IOU
            and self.mean_score_diff <= _MOST_SCORE_DIFF
        )

    @property
    def cell(self) -> str:
        """For a table: share of matched boxes, mean IoU."""
        return f"{self.matched_share:.1%} {self.mean_iou:.4f}{'' if self.passed else ' DIFFERS'}"


def compare(found: Floats, wanted: Floats) -> Parity:  # (N, K, 6) each
    """Compare candidates frame by frame, after suppression of overlaps."""
    ious: list[float] = []
    differences: list[float] = []
    looking = 0
    for ours, theirs in zip(map(_boxes, found), map(_boxes, wanted), strict=True):
        for some, others in ((ours, theirs), (theirs, ours)):
            looking += len(some[:STRONGEST])
            for row in some[:STRONGEST]:
                rivals = others[others[:, 5] == row[5]]
                overlaps, apart = _ious(row, rivals), np.abs(rivals[:, 4] - row[4])
                if (near := np.flatnonzero(overlaps >= _PARTNER_IOU)).size:
                    best = near[(overlaps - apart)[near].argmax()]
                    ious.append(float(overlaps[best]))
                    differences.append(float(apart[best]))
    return Parity(
        num_boxes=looking,
        matched_share=len(ious) / looking if looking else 0.0,
        mean_iou=float(np.mean(ious)) if ious else 0.0,
        mean_score_diff=float(np.mean(differences)) if differences else 1.0,
        max_score_diff=max(differences, default=1.0),
    )


def _boxes(candidates: Floats) -> Floats:  # (K, 6) -> (N, 6)
    boxes, scores, class_ids = select_detections(candidates, _LEAST_SCORE, _SUPPRESSION_IOU, len(candidates))
    return np.column_stack([boxes, scores, class_ids]).astype(np.float32)


def _ious(box: Floats, others: Floats) -> Floats:  # (6,), (N, 6) -> (N,)
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:4], others[:, 2:4])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = (others[:, 2:4] - others[:, :2]).prod(axis=1) + (box[2:4] - box[:2]).prod()
    found: Floats = shared / (areas - shared)
    return found

"""Does the engine find what PyTorch finds? Both get the same letterboxed pixels, made by the detector that serves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from bentos.detector.detector import Detector
from flows.exporting.graph import DetectorGraph
from flows.geometry import iou_xyxy

BOXES_PER_FRAME = 20
LEAST_MATCHED = 0.95
_MIN_IOU = 0.5

Floats = npt.NDArray[np.float32]


class ParityReport(BaseModel):
    """How far the engine is from PyTorch, over the strongest boxes of each frame, however weak they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: bool = Field(description="whether the boxes are the same within the tolerances")
    sentence: str = Field(description="verdict in one sentence")
    num_frames: int = Field(description="frames compared")
    num_boxes: int = Field(description="strongest boxes of either side that looked for a partner")
    matched_share: float = Field(description="share of them with a partner: same class, IoU of at least 0.5")
    mean_iou: float = Field(description="mean IoU of partners")
    min_iou: float = Field(description="least IoU of partners")
    mean_score_diff: float = Field(description="mean absolute score difference of partners")
    max_score_diff: float = Field(description="largest absolute score difference of partners")


def compare_engine(
    detector: Detector, graph: DetectorGraph, images: Sequence[bytes], min_iou: float, max_score_diff: float
) -> ParityReport:
    """Run both on `images`, the bytes of image files, and pair their boxes after suppression.

    Each of a side's 20 strongest boxes of a frame looks for its partner among all boxes of the other side, so that a
    box that falls just out of one list is not a difference.
    """
    ious: list[float] = []
    differences: list[float] = []
    looking = 0
    for data in images:
        ours, theirs = _boxes_of_both(detector, graph, data)
        for some, others in ((ours, theirs), (theirs, ours)):
            strongest = some[:BOXES_PER_FRAME]
            looking += len(strongest)
            for iou, difference in _partners(strongest, others):
                ious.append(iou)
                differences.append(difference)
    return _judge(len(images), looking, ious, differences, min_iou, max_score_diff)


def _boxes_of_both(detector: Detector, graph: DetectorGraph, data: bytes) -> tuple[Floats, Floats]:  # (N, 6), (M, 6)
    frames = detector.new_frames(1)
    box = detector.place(detector.decode(data), frames[0])
    thresholds = detector.thresholds(conf=0.0, max_det=detector.spec.top_k)
    sides = []
    for candidates in (detector.infer(frames), graph.infer(frames)):
        boxes, scores, class_ids = detector.finish(candidates[0], box, thresholds)
        sides.append(np.column_stack([boxes, scores, class_ids]).astype(np.float32))
    return sides[0], sides[1]


def _partners(some: Floats, others: Floats) -> list[tuple[float, float]]:  # (N, 6), (M, 6)
    """IoU and score difference of each box with the other side's nearest box of its class, where there is one.

    Nearest in place and score: boxes that reach out of the image are cut to the same place.
    """
    found = []
    for row in some:
        rivals = others[others[:, 5] == row[5]]
        ious, differences = iou_xyxy(row[None, :4], rivals[:, :4])[0], np.abs(rivals[:, 4] - row[4])
        if (near := np.flatnonzero(ious >= _MIN_IOU)).size:
            best = near[(ious - differences)[near].argmax()]
            found.append((float(ious[best]), float(differences[best])))
    return found


def _judge(
    num_frames: int, looking: int, ious: list[float], differences: list[float], min_iou: float, max_score_diff: float
) -> ParityReport:
    share = len(ious) / looking if looking else 0.0
    mean_iou = float(np.mean(ious)) if ious else 0.0
    mean_difference = float(np.mean(differences)) if differences else 1.0
    passed = share >= LEAST_MATCHED and mean_iou >= min_iou and mean_difference <= max_score_diff
    figures = (
        f"mean IoU {mean_iou:.4f}, mean score difference {mean_difference:.4f}, {share:.1%} of {looking} boxes matched"
    )
    needed = f" (needed: {min_iou:g}, {max_score_diff:g}, {LEAST_MATCHED:.0%})"
    return ParityReport(
        passed=passed,
        sentence=f"agrees with PyTorch: {figures}" if passed else f"differs from PyTorch: {figures}{needed}",
        num_frames=num_frames,
        num_boxes=looking,
        matched_share=share,
        mean_iou=mean_iou,
        min_iou=min(ious, default=0.0),
        mean_score_diff=mean_difference,
        max_score_diff=max(differences, default=1.0),
    )

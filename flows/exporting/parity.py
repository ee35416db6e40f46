"""Does the engine find what PyTorch finds? Both get the same letterboxed pixels, made by the detector that serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from bentos.detector.contract import EngineSpec, ModelSpec
from bentos.detector.detector import Detector
from bentos.detector.engines import Engine
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


@dataclass(frozen=True)
class Tolerance:
    """How far the mean partner may be away."""

    min_iou: float
    max_score_diff: float
    min_matched: float = LEAST_MATCHED


class PyTorchEngine:
    """The graph in PyTorch, where a detector expects its engine: the reference walks the path that serves."""

    max_batch = 8
    num_parallel = 1
    num_decoders = 0
    solo: Engine | None = None

    def __init__(self, graph: DetectorGraph) -> None:
        self._graph = graph

    def infer(self, frames: npt.NDArray[np.uint8]) -> Floats:
        """See `Engine.infer`."""
        return self._graph.infer(frames)

    def close(self) -> None:
        """See `Engine.close`."""


def reference_detector(graph: DetectorGraph, spec: ModelSpec) -> Detector:
    """PyTorch with the thresholds and the full decoding of `spec`."""
    engine = EngineSpec(kind="fake", file="weights.pt")  # there is no kind for it: it is never served
    plain = spec.input.model_copy(update={"scaled_decode": False})
    return Detector(spec.model_copy(update={"engine": engine, "input": plain, "files": {}}), PyTorchEngine(graph))


def boxes_of(detector: Detector, images: Sequence[bytes]) -> list[Floats]:  # (N, 6) each
    """Boxes, scores and class ids of each image, the bytes of its file, after suppression, however weak."""
    thresholds = detector.thresholds(conf=0.0, max_det=detector.spec.top_k)
    found = []
    for data in images:
        frames = detector.new_frames(1)
        place = detector.place(detector.decode(data), frames[0])
        boxes, scores, class_ids = detector.finish(detector.infer(frames)[0], place, thresholds)
        found.append(np.column_stack([boxes, scores, class_ids]).astype(np.float32))
    return found


def compare_boxes(ours: Sequence[Floats], theirs: Sequence[Floats], tolerance: Tolerance) -> ParityReport:
    """Pair the boxes that two detectors found in the same images, as `boxes_of` gives them.

    Each of a side's 20 strongest boxes of a frame looks for its partner among all boxes of the other side, so that a
    box that falls just out of one list is not a difference.
    """
    pairs: list[tuple[float, float]] = []
    looking = 0
    for left, right in zip(ours, theirs, strict=True):
        for some, others in ((left, right), (right, left)):
            strongest = some[:BOXES_PER_FRAME]
            looking += len(strongest)
            pairs += find_partners(strongest, others)
    return judge_pairs(len(ours), looking, pairs, tolerance)


def find_partners(some: Floats, others: Floats) -> list[tuple[float, float]]:  # (N, 6), (M, 6)
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


def judge_pairs(
    num_frames: int, looking: int, pairs: Sequence[tuple[float, float]], tolerance: Tolerance
) -> ParityReport:
    """The verdict on the (IoU, score difference) of all partners, of `looking` boxes that looked for one."""
    ious, differences = [iou for iou, _ in pairs], [difference for _, difference in pairs]
    share = len(pairs) / looking if looking else 0.0
    mean_iou = float(np.mean(ious)) if ious else 0.0
    mean_difference = float(np.mean(differences)) if differences else 1.0
    passed = (
        share >= tolerance.min_matched and mean_iou >= tolerance.min_iou and mean_difference <= tolerance.max_score_diff
    )
    figures = (
        f"mean IoU {mean_iou:.4f}, mean score difference {mean_difference:.4f}, {share:.1%} of {looking} boxes matched"
    )
    needed = f" (needed: {tolerance.min_iou:g}, {tolerance.max_score_diff:g}, {tolerance.min_matched:.0%})"
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

"""The best checkpoint of a training on val, frame by frame: PyTorch in the detector that serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bentos.detector.contract import EngineSpec, InputSpec, ModelSpec, Thresholds
from bentos.detector.detector import Detector
from flows.comparison.average_precision import average_precisions, mean_average_precision, rank
from flows.comparison.matching import match_all
from flows.comparison.predictions import MAX_DETECTIONS, Boxes, Floats, GroundTruth, Predictions, detect_frames
from flows.comparison.resampling import Estimate, jackknife, jackknife_weights, unit_of_image
from flows.comparison.slices import SliceFigure, SliceTable
from flows.dataset.layout import Dataset
from flows.exporting.graph import DetectorGraph, read_graph
from flows.exporting.parity import reference_detector
from flows.frozen import check_classes, frozen_frames
from flows.params import EvaluateParams, Params
from flows.progress import Progress, silent
from flows.training.report.confusion import Ints, best_frames, count_confusions, find_pairs, worst_frames
from flows.training.report.judged import Fate, JudgedBox, JudgedFrame, JudgedPart, JudgedValidation
from flows.weights import threads

SPLIT, PARTNER_IOU = "val", 0.5
NUM_WORST, NUM_BEST = 8, 4


def judge_checkpoint(
    dataset: Dataset, checkpoint: Path, params: Params, progress: Progress = silent
) -> JudgedValidation:
    """Run a detection checkpoint over the frames of val once, with the thresholds that serving will use.

    Raises:
        CheckpointError: It is no detection checkpoint.
        DataError: There are no such frames, a label does not parse, or the model knows other classes.
    """
    with threads(params.train.threads):
        detector = open_checkpoint(checkpoint, params)
        check_classes(detector.spec.classes, dataset)
        truth = frozen_frames(dataset, SPLIT)
        most = min(MAX_DETECTIONS, detector.spec.top_k)
        found = detect_frames(detector, dataset.root, truth.images, progress, max_det=most)
    return judge(truth, found, params.evaluate, params.export.conf)


def open_checkpoint(checkpoint: Path, params: Params) -> Detector:
    """PyTorch's detector of a checkpoint, decoding and suppressing as serving does. Raises CheckpointError."""
    export = params.export
    graph = _on_gpu(read_graph(checkpoint, params.train.image_size, export.top_k))
    spec = ModelSpec(
        name=params.package.name,
        classes=graph.classes,
        input=InputSpec(size_wh=graph.size_wh),
        thresholds=Thresholds(conf=export.conf, iou=export.iou, max_det=min(export.max_det, graph.top_k)),
        top_k=graph.top_k,
        engine=EngineSpec(kind="fake", file="weights.pt"),
        files={},
    )
    return reference_detector(graph, spec)


def _on_gpu(graph: DetectorGraph) -> DetectorGraph:
    """The graph on the GPU where there is one: the training ran there, too."""
    import torch

    if not torch.cuda.is_available():
        return graph

    class OnGPU(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = graph.module.cuda()

        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.inner(frames.cuda()).cpu()
            return found

    return replace(graph, module=OnGPU())


def judge(truth: GroundTruth, found: Predictions, params: EvaluateParams, conf: float) -> JudgedValidation:
    """Figures by part, the confusion matrix and the frames to look at; `found` holds weak detections, too."""
    served = found.at_confidence(conf)
    frames, matrices = [], []
    for index in range(len(truth.images)):
        frame, matrix = _judge_frame(truth, served, index)
        frames.append(frame)
        matrices.append(matrix)
    counts = np.stack(matrices)  # (num_images, num_classes + 1, num_classes + 1)
    figures = SliceTable(truth, found, None, params).figures()
    return JudgedValidation(
        split=SPLIT,
        conf=conf,
        iou=PARTNER_IOU,
        alpha=params.alpha,
        classes=truth.classes,
        num_images=len(truth.images),
        num_objects=len(truth.class_ids),
        num_detections=len(served.class_ids),
        parts=(_whole(truth, found, params, counts), *(_part(one, truth, counts) for one in figures)),
        confusion=tuple(tuple(map(int, row)) for row in counts.sum(axis=0)),
        worst=worst_frames(frames, NUM_WORST),
        best=best_frames(frames, NUM_BEST),
    )


def _judge_frame(truth: GroundTruth, served: Predictions, index: int) -> tuple[JudgedFrame, Ints]:
    ours, theirs = truth.of(index), served.of(index)
    label_ids, found_ids = truth.class_ids[ours], served.class_ids[theirs]
    of_label, of_found = find_pairs(
        truth.boxes_xyxy[ours], label_ids, served.boxes_xyxy[theirs], found_ids, PARTNER_IOU
    )
    matrix = count_confusions(label_ids, found_ids, of_label, of_found, len(truth.classes))
    num_right, num_paired = int(np.trace(matrix[:-1, :-1])), int(matrix[:-1, :-1].sum())
    labels = _boxes(truth, ours, None, _fates(label_ids, found_ids, of_label))
    frame = JudgedFrame(
        image=truth.images[index],
        camera=truth.cameras[index],
        slice=truth.slices[index],
        num_right=num_right,
        num_confused=num_paired - num_right,
        num_missed=int(matrix[:-1, -1].sum()),
        num_false=int(matrix[-1, :-1].sum()),
        labels=labels,
        found=_boxes(served, theirs, served.scores[theirs], _fates(found_ids, label_ids, of_found)),
    )
    return frame, matrix


def _fates(own_ids: Ints, other_ids: Ints, partners: Ints) -> list[Fate]:
    return [
        "alone" if partner < 0 else "right" if other_ids[partner] == own else "confused"
        for own, partner in zip(own_ids, partners, strict=True)
    ]


def _boxes(boxes: Boxes, where: slice, scores: Floats | None, fates: Sequence[Fate]) -> tuple[JudgedBox, ...]:
    corners, class_ids = boxes.boxes_xyxy[where].round(1).tolist(), boxes.class_ids[where].tolist()
    shown = [None] * len(fates) if scores is None else [round(float(score), 3) for score in scores]
    return tuple(
        JudgedBox(box_xyxy=tuple(box), class_id=class_id, score=score, fate=fate)
        for box, class_id, score, fate in zip(corners, class_ids, shown, fates, strict=True)
    )


def _whole(truth: GroundTruth, found: Predictions, params: EvaluateParams, counts: Ints) -> JudgedPart:
    everywhere = np.ones(len(truth.images), dtype=bool)
    weights = jackknife_weights(unit_of_image(truth, params.unit, everywhere, params.min_units, params.block_s))
    samples = mean_average_precision(average_precisions(rank(match_all(truth, found)), weights))
    precision, recall = _precision_recall(counts.sum(axis=0))
    return JudgedPart(
        kind="all",
        name="",
        num_images=int((counts[:, :-1].sum(axis=(1, 2)) > 0).sum()),
        num_objects=len(truth.class_ids),
        unit=params.unit,
        precision=precision,
        recall=recall,
        **_estimated(jackknife(samples, params.alpha, params.min_units)),
    )


def _part(figure: SliceFigure, truth: GroundTruth, counts: Ints) -> JudgedPart:
    precision, recall = None, None
    if figure.kind == "class":
        class_id = truth.classes.index(figure.name)
        precision, recall = _precision_recall(counts.sum(axis=0), class_id)
    elif figure.kind in ("slice", "camera"):
        names = truth.slices if figure.kind == "slice" else truth.cameras
        precision, recall = _precision_recall(counts[np.array(names) == figure.name].sum(axis=0))
    return JudgedPart(
        kind=figure.kind,
        name=figure.name,
        num_images=figure.num_images,
        num_objects=figure.num_objects,
        unit=figure.unit,
        precision=precision,
        recall=recall,
        **_estimated(figure.challenger),
    )


def _estimated(one: Estimate) -> dict[str, float | int | None]:
    return {"map50_95": one.value, "lower": one.lower, "upper": one.upper, "num_units": one.num_units}


def _precision_recall(matrix: Ints, class_id: int | None = None) -> tuple[float | None, float | None]:
    """Of one class, or of all together; None where nothing was found, or nothing is labelled."""
    chosen = slice(0, len(matrix) - 1) if class_id is None else slice(class_id, class_id + 1)
    right = int(np.trace(matrix[:-1, :-1]) if class_id is None else matrix[class_id, class_id])
    found, labelled = int(matrix[:, chosen].sum()), int(matrix[chosen].sum())
    return (right / found if found else None, right / labelled if labelled else None)

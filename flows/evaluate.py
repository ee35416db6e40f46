"""Evaluate: challenger and champion on the same frozen frames, through the very detector that serves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import Field

from bentos.detector.detector import Detector
from flows.comparison.evaluation import compare
from flows.comparison.evaluation_page import evaluation_page
from flows.comparison.gallery import disagreement_gallery
from flows.comparison.gate import JudgedSlice
from flows.comparison.predictions import (
    MAX_DETECTIONS,
    GroundTruth,
    LabelledFrame,
    Predictions,
    detect_frames,
    ground_truth,
)
from flows.comparison.report import EvaluationReport
from flows.comparison.tables import write_ground_truth, write_predictions
from flows.dataset.labels import boxes_xyxy, read_labels
from flows.dataset.layout import Dataset, Frame, read_dataset
from flows.errors import DataError
from flows.progress import Progress
from flows.stage import StageRun, main, stage


class EvaluationRecord(EvaluationReport):
    """The comparison, and which version reigned."""

    champion_version: str | None = Field(description="registered version that reigned; null: none did")
    challenger_digest: str = Field(description="digest of the challenger's model.json")


@stage(gate="record")
def evaluate(run: StageRun) -> EvaluationRecord:
    """A lost comparison is a verdict: it is recorded, and packaging refuses to go on."""
    project, params = run.project, run.params.evaluate
    dataset = run.step(read_dataset)(project.data)
    truth = run.step(frozen_frames)(dataset, params.split)
    served_conf, digest, challenger = run.step(detect_with)(project.model, dataset, truth, run.progress)
    champion_version, champion = run.step(detect_with_champion, retries=2)(run, dataset, truth)
    report = run.step(compare)(truth, challenger, champion, params, served_conf=served_conf, seed=run.params.seed)
    run.step(keep_evidence)(project.artifacts / "evaluation", truth, challenger, champion)
    shown = disagreement_gallery(
        report.disagreements,
        truth,
        challenger,
        champion,
        served_conf=served_conf,
        load=lambda image: (dataset.root / image).read_bytes(),
    )
    (project.reports / "evaluate.html").write_text(evaluation_page(report, shown), encoding="utf-8")
    run.table([_row(one) for one in report.parts])
    return EvaluationRecord(**dict(report), champion_version=champion_version, challenger_digest=digest)


def frozen_frames(dataset: Dataset, split: str) -> GroundTruth:
    """The labelled frames of `split`. Raises DataError where a label does not parse."""
    return ground_truth(dataset.classes, [_labelled(dataset, frame) for frame in dataset.split(split)])


def detect_with(
    model_dir: Path, dataset: Dataset, truth: GroundTruth, progress: Progress
) -> tuple[float, str, Predictions]:
    """Served confidence, model digest and detections of the model in `model_dir`."""
    detector = Detector.load(model_dir)
    if tuple(detector.spec.classes) != dataset.classes:
        raise DataError(
            f"the model knows {', '.join(detector.spec.classes)}, the data {', '.join(dataset.classes)}",
            "Compare on data with the classes that the model was trained on",
        )
    max_det = min(MAX_DETECTIONS, detector.spec.top_k)
    found = detect_frames(detector, dataset.root, truth.images, progress, max_det=max_det)
    return detector.spec.thresholds.conf, detector.spec.digest, found


def detect_with_champion(run: StageRun, dataset: Dataset, truth: GroundTruth) -> tuple[str | None, Predictions | None]:
    """Version and detections of the reigning champion; nothing while there is none."""
    registry = run.registry()
    champion = registry.reigning()
    if champion is None:
        return None, None
    model_dir = registry.download(champion) / "model"
    return champion.version, detect_with(model_dir, dataset, truth, run.progress)[2]


def keep_evidence(folder: Path, truth: GroundTruth, challenger: Predictions, champion: Predictions | None) -> None:
    """Write the tables from which the verdict can be recomputed."""
    folder.mkdir(parents=True, exist_ok=True)
    write_ground_truth(folder / "ground_truth.parquet", truth)
    write_predictions(folder / "challenger.parquet", challenger)
    if champion is not None:
        write_predictions(folder / "champion.parquet", champion)


def _row(part: JudgedSlice) -> dict[str, str | None]:
    figure = part.figure
    return {"part": f"{figure.kind} {figure.name}", "mAP50-95": figure.challenger.text(), "state": part.state}


def _labelled(dataset: Dataset, frame: Frame) -> LabelledFrame:
    with Image.open(dataset.root / frame.image) as image:
        size_wh = image.size
    boxes, problems = read_labels(dataset.root / frame.label, dataset.classes, frame.label)
    if problems:
        raise DataError(f"{problems[0].file}:{problems[0].line}: {problems[0].message}", "Run: tca validate")
    class_ids = [box.class_id for box in boxes]
    return LabelledFrame(
        frame.image,
        frame.camera,
        frame.clip,
        frame.slice,
        boxes_xyxy(boxes, size_wh),
        np.array(class_ids, dtype=np.int64),
    )


if __name__ == "__main__":
    main(evaluate, gate="record")

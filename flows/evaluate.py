"""Evaluate: challenger and champion on the same frozen frames, through the very detector that serves."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from bentos.detector.detector import Detector
from flows.comparison.evaluation import compare
from flows.comparison.evaluation_page import evaluation_page
from flows.comparison.gallery import disagreement_gallery
from flows.comparison.gate import JudgedSlice
from flows.comparison.predictions import MAX_DETECTIONS, GroundTruth, Predictions, detect_frames
from flows.comparison.report import EvaluationReport
from flows.comparison.tables import write_ground_truth, write_predictions
from flows.dataset.layout import Dataset, read_dataset
from flows.frozen import check_classes, frozen_frames
from flows.page import write_page
from flows.progress import Progress
from flows.stage import StageRun, main, stage
from flows.task_stages import TaskEvaluationReport, evaluate_task


class EvaluationRecord(EvaluationReport):
    """The comparison, and which version reigned."""

    champion_version: str | None = Field(description="registered version that reigned; null: none did")
    challenger_digest: str = Field(description="digest of the challenger's model.json")


@stage(gate="record")
def evaluate(run: StageRun) -> EvaluationRecord | TaskEvaluationReport:
    """A lost comparison is a verdict: it is recorded, and packaging refuses to go on."""
    if run.params.train.task != "detect":
        return evaluate_task(run)
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
    write_page(project.reports / "evaluate.html", evaluation_page(report, shown))
    run.table([_row(one) for one in report.parts])
    return EvaluationRecord(**dict(report), champion_version=champion_version, challenger_digest=digest)


def detect_with(
    model_dir: Path, dataset: Dataset, truth: GroundTruth, progress: Progress
) -> tuple[float, str, Predictions]:
    """Served confidence, model digest and detections of the model in `model_dir`."""
    detector = Detector.load(model_dir)
    check_classes(detector.spec.classes, dataset)
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


if __name__ == "__main__":
    main(evaluate, gate="record")

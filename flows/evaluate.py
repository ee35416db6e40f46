"""Evaluate: challenger and champion on the same frozen frames, through the very detector that serves."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from bentos.detector.contract import file_sha256
from flows.comparison.confusion import Confusion, confusion
from flows.comparison.engine_latency import EngineTimes
from flows.comparison.evaluation import compare
from flows.comparison.evaluation_page import Shown, evaluation_page
from flows.comparison.gallery import disagreement_gallery
from flows.comparison.gate import JudgedSlice
from flows.comparison.predictions import GroundTruth, Predictions
from flows.comparison.report import EvaluationReport
from flows.comparison.tables import write_ground_truth, write_predictions
from flows.contestants import detect_with, find_champion, frames_to_time, loaded, time_in_turns
from flows.dataset.layout import Dataset, read_dataset
from flows.errors import ProjectError
from flows.frozen import frozen_frames
from flows.label_tasks import write_label_tasks
from flows.page import write_page
from flows.settings import Project
from flows.stage import StageRun, main, read_report, stage
from flows.task_stages import TaskEvaluationReport, evaluate_task

TIMES = "engine_times.json"


class EvaluationRecord(EvaluationReport):
    """The comparison, which version reigned, and what informs without deciding."""

    champion_version: str | None = Field(description="registered version that reigned; null: none did")
    challenger_digest: str = Field(description="digest of the challenger's model.json")
    challenger_confusion: Confusion | None = Field(default=None, description="what it takes for what, when served")
    champion_confusion: Confusion | None = Field(default=None, description="the same; null: there is no champion")
    trainer_map50_95: float | None = Field(
        default=None, description="Ultralytics' own mAP50-95 of the challenger, on val: telemetry, no gate reads it"
    )

    def highlights(self) -> list[str]:
        """The gates that did not pass, and where the frames to label next are."""
        lines = [f"  {gate.name} {gate.state}: {gate.reason}" for gate in self.gates if gate.state != "passed"]
        return [*lines, "  frames to label next: reports/label_tasks.json"] if self.disagreements else lines


@dataclass(frozen=True)
class Evidence:
    """What a comparison rests on: the truth, what each model found, how long its engine took."""

    truth: GroundTruth
    challenger: Predictions
    champion: Predictions | None
    times: EngineTimes
    served_conf: float
    challenger_digest: str


@stage(gate="record")
def evaluate(run: StageRun) -> EvaluationRecord | TaskEvaluationReport:
    """A lost comparison is a verdict: it is recorded, and packaging refuses to go on."""
    if run.params.train.task != "detect":
        return evaluate_task(run)
    project, params = run.project, run.params.evaluate
    dataset = run.step(read_dataset)(project.data)
    version, champion_dir = run.step(find_champion, retries=2)(run)
    found = run.step(gather)(run, dataset, champion_dir)
    truth, conf = found.truth, found.served_conf
    report = run.step(compare)(
        truth, found.challenger, found.champion, params, served_conf=conf, seed=run.params.seed, times=found.times
    )
    run.step(keep_evidence)(project.artifacts / "evaluation", found)
    record = EvaluationRecord(
        **dict(report),
        champion_version=None if version is None else version.version,
        challenger_digest=found.challenger_digest,
        challenger_confusion=confusion(truth, found.challenger, conf),
        champion_confusion=None if found.champion is None else confusion(truth, found.champion, conf),
        trainer_map50_95=trainer_map50_95(project),
    )
    run.step(show)(run, dataset, found, record)
    run.table([_row(one) for one in report.parts])
    return record


def gather(run: StageRun, dataset: Dataset, champion_dir: Path | None) -> Evidence:
    """Send the frozen frames through both detectors, then time them side by side."""
    truth = frozen_frames(dataset, run.params.evaluate.split)
    with ExitStack() as stack:
        new = stack.enter_context(loaded(run.project.model, dataset))
        challenger = detect_with(new, dataset, truth, run.progress)
        old = None if champion_dir is None else stack.enter_context(loaded(champion_dir, dataset))
        champion = None if old is None else detect_with(old, dataset, truth, run.progress)
        times = time_in_turns(new, old, frames_to_time(dataset, truth))
        return Evidence(truth, challenger, champion, times, new.spec.thresholds.conf, new.spec.digest)


def keep_evidence(folder: Path, found: Evidence) -> None:
    """Write the tables and times from which the verdict can be recomputed."""
    folder.mkdir(parents=True, exist_ok=True)
    write_ground_truth(folder / "ground_truth.parquet", found.truth)
    write_predictions(folder / "challenger.parquet", found.challenger)
    (folder / "champion.parquet").unlink(missing_ok=True)
    if found.champion is not None:
        write_predictions(folder / "champion.parquet", found.champion)
    (folder / TIMES).write_text(found.times.model_dump_json(indent=1) + "\n", encoding="utf-8")


def show(run: StageRun, dataset: Dataset, found: Evidence, record: EvaluationRecord) -> None:
    """Write the page and, beside it, the labelling tasks."""
    reports, truth = run.project.reports, found.truth
    written = write_label_tasks(
        reports, dataset.root, truth, found.challenger, found.champion, served_conf=found.served_conf
    )
    pictures = disagreement_gallery(
        record.disagreements,
        truth,
        found.challenger,
        found.champion,
        served_conf=found.served_conf,
        load=lambda image: (dataset.root / image).read_bytes(),
    )
    shown = Shown(
        classes=truth.classes,
        challenger=record.challenger_confusion,
        champion=record.champion_confusion,
        pictures=pictures,
        max_latency_ms=run.params.evaluate.max_latency_ms,
        num_tasks=written.num,
        telemetry=_telemetry(record.trainer_map50_95),
    )
    write_page(reports / "evaluate.html", evaluation_page(record, shown))


def trainer_map50_95(project: Project) -> float | None:
    """What Ultralytics measured while training this very model; None where that is not known."""
    weights, trained = project.model / "weights.pt", project.artifacts / "training" / "best.pt"
    if not (weights.is_file() and trained.is_file()) or file_sha256(weights) != file_sha256(trained):
        return None
    try:
        value = read_report(project, "train").get("map50_95")
    except ProjectError:
        return None
    return value if isinstance(value, float) and math.isfinite(value) else None


def _telemetry(map50_95: float | None) -> str:
    if map50_95 is None:
        return ""
    return (
        f"Telemetry: Ultralytics' own mAP50-95 was {map50_95:.3f} on val, while training. It is another measure on "
        "other frames, and no gate reads it."
    )


def _row(part: JudgedSlice) -> dict[str, str | None]:
    figure = part.figure
    return {"part": f"{figure.kind} {figure.name}", "mAP50-95": figure.challenger.text(), "state": part.state}


if __name__ == "__main__":
    main(evaluate, gate="record")

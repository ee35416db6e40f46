"""Evaluate: challenger and champion on the same frozen frames, through the very detector that serves."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from bentos.detector.contract import file_sha256
from flows.comparison.confusion import Confusion, confusion
from flows.comparison.evaluation import compare
from flows.comparison.evaluation_page import Shown, evaluation_page
from flows.comparison.gallery import disagreement_gallery
from flows.comparison.gate import JudgedSlice
from flows.comparison.predictions import Predictions
from flows.comparison.report import EvaluationReport
from flows.comparison.tables import Evidence, write_evidence
from flows.contestants import classes_lacking, detect_with, find_champion, frames_to_time, loaded, time_in_turns
from flows.dataset.layout import Dataset, read_dataset
from flows.errors import ProjectError
from flows.frozen import frozen_frames
from flows.label_tasks import write_label_tasks
from flows.page import write_page
from flows.settings import Project
from flows.stage import StageRun, main, read_report, stage
from flows.task_stages import TaskEvaluationReport, evaluate_task


class EvaluationRecord(EvaluationReport):
    """The comparison, which version reigned, and what informs without deciding."""

    champion_version: str | None = Field(description="registered version that reigned; null: none did")
    champion_lacks: tuple[str, ...] = Field(
        default=(), description="classes of the data that the champion does not know: it finds none of them"
    )
    challenger_digest: str = Field(description="digest of the challenger's model.json")
    challenger_confusion: Confusion | None = Field(default=None, description="what it takes for what, when served")
    champion_confusion: Confusion | None = Field(default=None, description="the same; null: there is no champion")
    trainer_map50_95: float | None = Field(
        default=None, description="Ultralytics' own mAP50-95 of the challenger, on val: telemetry, no gate reads it"
    )

    def highlights(self) -> list[str]:
        """The gates that did not pass, and where the frames to label next are."""
        lines = [f"  {gate.name} {gate.state}: {gate.reason}" for gate in self.gates if gate.state != "passed"]
        if self.champion_lacks:
            lines.append(f"  the champion does not know {', '.join(self.champion_lacks)}: it finds none of them")
        return [*lines, "  frames to label next: reports/label_tasks.json"] if self.disagreements else lines


@dataclass(frozen=True)
class Gathered:
    """The evidence, and the confidences from which each model's detections are served."""

    evidence: Evidence
    challenger_digest: str
    served_conf: float
    champion_conf: float  # the challenger's, where there is no champion
    champion_lacks: tuple[str, ...]  # classes of the data

    @property
    def served(self) -> tuple[Predictions, Predictions | None]:
        """What users of the challenger see, and those of the champion."""
        champion = self.evidence.champion
        return (
            self.evidence.challenger.at_confidence(self.served_conf),
            None if champion is None else champion.at_confidence(self.champion_conf),
        )


@stage(gate="record")
def evaluate(run: StageRun) -> EvaluationRecord | TaskEvaluationReport:
    """A lost comparison is a verdict: it is recorded, and packaging refuses to go on."""
    if run.params.train.task != "detect":
        return evaluate_task(run)
    dataset = run.step(read_dataset)(run.project.data)
    version, champion_dir = run.step(find_champion, retries=2)(run)
    found = run.step(gather)(run, dataset, champion_dir)
    run.step(write_evidence)(run.project.artifacts / "evaluation", found.evidence)
    record = run.step(judge)(run, found, None if version is None else version.version)
    run.step(show)(run, dataset, found, record)
    run.table([_row(one) for one in record.parts])
    return record


def gather(run: StageRun, dataset: Dataset, champion_dir: Path | None) -> Gathered:
    """Send the frozen frames through both detectors, then time them side by side."""
    truth = frozen_frames(dataset, run.params.evaluate.split)
    with ExitStack() as stack:
        new = stack.enter_context(loaded(run.project.model, dataset))
        challenger = detect_with(new, dataset, truth, run.progress)
        old = None if champion_dir is None else stack.enter_context(loaded(champion_dir, dataset, reigns=True))
        champion = None if old is None else detect_with(old, dataset, truth, run.progress)
        times = time_in_turns(new, old, frames_to_time(dataset, truth))
        return Gathered(
            evidence=Evidence(truth, challenger, champion, times),
            challenger_digest=new.spec.digest,
            served_conf=new.spec.thresholds.conf,
            champion_conf=(old or new).spec.thresholds.conf,
            champion_lacks=() if old is None else classes_lacking(old, dataset),
        )


def judge(run: StageRun, found: Gathered, champion_version: str | None) -> EvaluationRecord:
    """Compare the two, and count what each takes for what."""
    evidence = found.evidence
    truth, challenger, champion = evidence.truth, evidence.challenger, evidence.champion
    report = compare(
        truth,
        challenger,
        champion,
        run.params.evaluate,
        served_conf=found.served_conf,
        champion_conf=found.champion_conf,
        seed=run.params.seed,
        times=evidence.times,
        progress=run.progress,
    )
    return EvaluationRecord(
        **dict(report),
        champion_version=champion_version,
        champion_lacks=found.champion_lacks,
        challenger_digest=found.challenger_digest,
        challenger_confusion=confusion(truth, challenger, found.served_conf),
        champion_confusion=None if champion is None else confusion(truth, champion, found.champion_conf),
        trainer_map50_95=trainer_map50_95(run.project),
    )


def show(run: StageRun, dataset: Dataset, found: Gathered, record: EvaluationRecord) -> None:
    """Write the page and, beside it, the labelling tasks."""
    reports, truth, served = run.project.reports, found.evidence.truth, found.served
    written = write_label_tasks(reports, dataset.root, truth, *served)
    pictures = disagreement_gallery(
        record.disagreements, truth, *served, load=lambda image: (dataset.root / image).read_bytes()
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

"""One trial of a study: trained, told to MLflow, its engine timed where that is sought, and tidied away."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.adapters.registry import RunLog
from flows.dataset.layout import Dataset
from flows.errors import CheckpointError, EngineUnavailable, InputError, MemoryShort, ServiceError
from flows.page import write_page
from flows.params_train import TrainParams
from flows.stage import StageRun
from flows.tracking import flat_params
from flows.training.epochs import EpochMetrics
from flows.training.launching.launch import train_apart
from flows.training.loop.state import partial_of
from flows.training.reproducibility import TrainReport
from flows.training.search.page import tuning_page
from flows.training.search.search import TrialFailed, TrialJob, TuneReport
from flows.training.search.space import with_values
from flows.training.search.study import SharedStudy
from flows.tuning.latency import engine_latency_ms

# A training's own troubles: other trials may do well. What else goes wrong would go wrong for all.
_OF_THE_TRIAL = (CheckpointError, MemoryShort, ServiceError, EngineUnavailable)


@contextmanager
def study_run(run: StageRun, study: SharedStudy) -> Iterator[RunLog]:
    """The MLflow run of the study, the same for all workers.

    Raises:
        InputError: Latency is sought, and the study was begun on another machine.
    """
    with ExitStack() as stack:
        with study.deciding():
            _require_same_machine(study, run.provenance.hardware)
            tags = {**run.provenance.tags(), "tca.study": study.name}
            known = study.recall("mlflow_run")
            log = stack.enter_context(run.registry().run("tune", tags, resume=known))
            if known is None:
                log.params(flat_params("tune", run.params.tune.model_dump(mode="json")))
                study.remember("mlflow_run", log.run_id)
        yield log


@dataclass(frozen=True)
class Trials:
    """Runs the trials of this worker."""

    run: StageRun
    dataset: Dataset
    study: SharedStudy
    start_checkpoint: Path | None
    parent_run: str
    page: Path
    told: set[str] = field(default_factory=set)

    def _tell_once(self, note: str) -> None:
        """Trials have much in common; what is true of all is said once."""
        if note not in self.told:
            self.told.add(note)
            self.run.shown.milestone(note)

    def train(self, job: TrialJob) -> dict[str, float]:
        """A `TrainOnce`: one trial, its MLflow run nested in that of the study."""
        import optuna

        params = with_values(self.run.params.train, {**job.values, "epochs": self.run.params.tune.epochs})
        pruned = None
        tags = {
            **self.run.provenance.tags(),
            **{"tca.study": self.study.name, "tca.trial": str(job.number), "tca.worker": self.study.worker},
        }
        runs, name = self.run.registry().runs, f"{self.study.name}-{job.origin}"
        with runs.run(
            "tune", tags, job=name, parent=self.parent_run, name=f"trial {job.origin}", say=self.run.shown.milestone
        ) as log:
            log.params(flat_params("train", params.model_dump()))
            try:
                found = self._measure(job, params, log)
                log.metrics({f"objective.{name}": value for name, value in found.items()})
            except optuna.TrialPruned as error:
                pruned, found = error, {}
            log.tags({"tca.outcome": "pruned" if pruned else "complete"})
        if pruned:
            raise pruned
        return found

    def publish(self, report: TuneReport) -> None:
        """After each trial: the page as it is now, and no checkpoints but those of the best."""
        write_page(self.page, tuning_page(report))
        kept = {
            row.origin for row in report.trials if row.number in report.front or row.state in ("running", "waiting")
        }
        for row in report.trials:
            if row.origin not in kept:
                for path in (self._folder(row.origin), partial_of(self._folder(row.origin))):
                    shutil.rmtree(path, ignore_errors=True)

    def _folder(self, origin: int) -> Path:
        return self.run.project.home / "tune" / self.study.name / f"trial{origin}"

    def _measure(self, job: TrialJob, params: TrainParams, log: Any) -> dict[str, float]:
        objectives = self.run.params.tune.objectives

        def on_epoch(epoch: EpochMetrics) -> None:
            log.metrics(epoch.numbers(), step=epoch.epoch)
            job.report(epoch.epoch, epoch.score if objectives[0] == "score" else epoch.map50_95)

        folder = self._folder(job.origin)
        try:
            report = train_apart(
                self.dataset, params, self.run.params.seed, folder, on_epoch, job.progress, self.start_checkpoint,
                tell=self._tell_once,
            )  # fmt: skip
            if not report.passed:
                raise TrialFailed(report.sentence, again=False)
            accuracy = _accuracy(report, objectives[0])
            if "latency_ms" not in objectives:
                return {objectives[0]: accuracy}
            latency_ms = engine_latency_ms(
                self.run, self.dataset, folder / "best.pt", params.image_size,
                lambda done, total, note: job.progress(1, 1, f"export: {note}"),
            )  # fmt: skip
        except _OF_THE_TRIAL as error:
            raise TrialFailed(error.message) from error
        return {objectives[0]: accuracy, "latency_ms": latency_ms}


def _accuracy(report: TrainReport, objective: str) -> float:
    return report.score if objective == "score" and report.score is not None else report.map50_95


def _require_same_machine(study: SharedStudy, hardware: str) -> None:
    if "latency_ms" not in study.params.objectives:
        return
    known = study.recall("hardware")
    if known is None:
        study.remember("hardware", hardware)
    elif known != hardware:
        raise InputError(
            f"the latencies of study {study.name} were measured on {known}; this machine is {hardware}",
            "Join from a machine of that kind, or seek accuracy alone: -S tune.objectives=[map50_95]",
        )

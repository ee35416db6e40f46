"""How a training is told to a person and to MLflow, and how it goes on in the same run after an interruption."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bentos.detector.contract import file_sha256
from flows import machine
from flows.adapters.kept_run import KeptRun
from flows.errors import Preempted, ProjectError
from flows.provenance import Provenance
from flows.stage import StageRun
from flows.stopping import alone, stopped_by_sigterm
from flows.training.checkpoints import find_start
from flows.training.epochs import EpochMetrics
from flows.training.loop.state import HARMLESS, partial_of, records_in
from flows.training.report.curve_file import read_curve
from flows.training.reproducibility import TrainReport

FORCED = "tca.forced"


@contextmanager
def tracked_training(
    run: StageRun, out_dir: Path, start_checkpoint: Path | None, tags: Mapping[str, str]
) -> Iterator[TrackedTraining]:
    """The MLflow run of this training, the one in which it was interrupted if it was; it ends with the block.

    With force a training begins anew, unless what was interrupted had been forced itself: the same command goes on.

    Raises:
        Conflict: Another process trains in this project.
    """
    with alone(run.project.home / "train.lock", "another training is at work in this project"):
        yield from _tracked(run, out_dir, training_job(run, start_checkpoint), tags)


def _tracked(run: StageRun, out_dir: Path, job: str, tags: Mapping[str, str]) -> Iterator[TrackedTraining]:
    runs = run.registry().runs
    runs.give_up(run.name, "another training was begun", keep=[job])
    notes: list[str] = []

    def tell(text: str) -> None:
        notes.append(text)
        run.shown.milestone(text)

    interrupted = runs.interrupted(run.name, job)
    is_anew = run.force and (interrupted is None or FORCED not in interrupted)
    if is_anew:
        shutil.rmtree(partial_of(out_dir), ignore_errors=True)
    tags = {**run.provenance.tags(), **tags, **({FORCED: "true"} if run.force else {})}
    with runs.run(run.name, tags, job=job, anew=is_anew, say=tell) as log, stopped_by_sigterm():
        tracked = TrackedTraining(run, out_dir, log, notes)
        try:
            yield tracked
        except (KeyboardInterrupt, Preempted):
            run.shown.milestone(tracked.what_is_saved())
            raise


class TrackedTraining:
    """The ears of a training: what it tells goes to the terminal, to Prefect and to MLflow."""

    def __init__(self, run: StageRun, out_dir: Path, log: KeptRun, notes: list[str]) -> None:
        self._run, self._out_dir, self._log, self.notes = run, out_dir, log, notes
        self._epoch = self._num_retold = 0
        self._is_published = True

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None until MLflow has answered."""
        return self._log.run_id

    def describe(self, num_images: int) -> None:
        """What is trained, with what, on what."""
        params = self._run.params
        self._log.params({"seed": params.seed, **flat_params("train", params.train.model_dump())})
        self._log.data("data", self._run.provenance.data_md5, num_images)

    def on_epoch(self, metrics: EpochMetrics) -> None:
        """Take the figures of an epoch; of one that was told before an interruption, note that it was.

        A training that goes on tells the same figures again, seconds and all. Others mean that it has begun anew,
        because what was saved could not be taken, and the run is another, too.
        """
        known, told = self._log.figures.get(metrics.epoch), metrics.numbers()
        if known is not None and not self._epoch and not is_same(known, told):
            self._log.begin_anew("what was saved could not be gone on with")
            known = None
        self._epoch = metrics.epoch
        self._num_retold += known is not None
        self._log.metrics(told, step=metrics.epoch)

    def progress(self, done: int, total: int, note: str) -> None:
        """A `flows.progress.Progress`."""
        if self._num_retold:
            self._num_retold, epochs = 0, self._run.params.train.epochs
            since = f", interrupted at {self._log.interrupted_at}" if self._log.interrupted_at else ""
            self._run.shown.milestone(f"goes on from epoch {min(self._epoch + 1, epochs)} of {epochs}{since}")
        self._run.shown.progress(done, total, note)
        try:
            self._run.published.update(done, total, note)
        except Exception as error:  # a picture of the training is not the training
            if self._is_published:
                self._is_published = False
                self.tell(f"Prefect does not take the progress: {error}")

    def tell(self, note: str) -> None:
        """Show a line and keep it."""
        self.notes.append(note)
        self._run.shown.milestone(note)

    def finished_before(self) -> TrainReport | None:
        """The report of this very training when it was done, and only what follows it was interrupted.

        That is so when nothing is left to go on from, and the results have the figures that this run was told.
        """
        figures, out_dir = self._log.figures, self._out_dir
        if not figures or partial_of(out_dir).exists():
            return None
        try:
            report = TrainReport.model_validate_json((out_dir / "training.json").read_bytes())
            curve = {one.epoch: one.numbers() for one in read_curve(out_dir / "epochs.csv")}
        except (OSError, ValueError, ProjectError):
            return None
        same = curve.keys() == figures.keys() and all(is_same(figures[epoch], curve[epoch]) for epoch in curve)
        if not same or not (out_dir / "best.pt").is_file():
            return None
        self.tell("this training was done; what follows it goes on")
        return report

    def finish(self, report: TrainReport, *files: Path) -> None:
        """Keep the files that exist, and what else is known at the end."""
        provenance = self._run.provenance
        self._log.text("system.json", json.dumps(system_facts(provenance, report), indent=1) + "\n")
        if notes := [*report.notes, *self.notes]:
            self._log.text("notes.txt", "".join(f"{note}\n" for note in dict.fromkeys(notes)))
        for path in filter(Path.is_file, files):
            self._log.artifact(path)
        known = {"weights_sha256": report.weights_sha256, "best_epoch": report.best_epoch, "passed": report.passed}
        self._log.tags({f"tca.{key}": value for key, value in known.items()})

    def what_is_saved(self) -> str:
        """What an interruption leaves, and what the same command does with it."""
        epochs = self._run.params.train.epochs
        if not self._epoch and not records_in(partial_of(self._out_dir)):
            return "stopped before anything was saved; the same command trains again"
        now = f"stopped in epoch {min(self._epoch + 1, epochs)} of {epochs}"
        return f"{now}; what was done is saved, and the same command goes on from there"


def training_job(run: StageRun, start_checkpoint: Path | None) -> str:
    """16 hex digits over what a training's result depends on: data, parameters, seed, starting weights, versions."""
    params, provenance = run.params.train, run.provenance
    start = start_checkpoint or find_start(params.model, params.task)
    facts = {
        "params": params.model_dump(mode="json", exclude=HARMLESS),
        "seed": run.params.seed,
        "data": provenance.data_md5,
        "start": file_sha256(start) if isinstance(start, Path) else start,
        "versions": {name: provenance.versions.get(name) for name in ("torch", "ultralytics-opencv-headless")},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def flat_params(prefix: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Parameters by dotted name, as -S takes them: {"train.distributed.nodes": "1"}."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else key
        flat |= flat_params(name, value) if isinstance(value, Mapping) and value else {name: str(value)}
    return flat


def system_facts(provenance: Provenance, report: TrainReport) -> dict[str, Any]:
    """What the training ran on."""
    return {
        "hardware": provenance.hardware,
        "cores": machine.count_cores(),
        "memory_gb": round(machine.read_memory_gb(), 1),
        "gpus": [vars(gpu) for gpu in machine.read_gpus()],
        "versions": provenance.versions,
        **report.model_dump(include={"device", "precision", "num_threads", "num_processes", "num_nodes", "cache"}),
    }


def is_same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether two epochs have the same figures, those that are no numbers included."""
    return {key: repr(float(value)) for key, value in one.items()} == {
        key: repr(float(value)) for key, value in other.items()
    }

"""Trainings that are killed, stopped, short of memory or of disk, and what follows: real ones, tiny."""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

import flows
from flows.errors import MemoryShort, OutsideError, Preempted
from flows.training.epochs import EpochMetrics
from flows.training.launching.messages import TrainJob
from flows.training.loop.trainer import train_model
from flows.training.reproducibility import TrainReport, weights_digest
from flows.weights import load_ultralytics, read_weights

MEASURED = {"seconds", "images_per_s", "wait_share", "memory_gb"}
LONG = {"epochs": 3, "mosaic": 1.0, "warmup_epochs": 1.5, "batch": 3, "optimizer": "SGD"}
"""Three epochs of three steps, mosaics but in the last."""

_KILLED = """
import os, signal, sys
from flows.training.launching.messages import TrainJob
from flows.training.loop.trainer import train_model
job, kill_at = TrainJob.model_validate_json(sys.stdin.buffer.read()), int(sys.argv[1])
def progress(done, total, note):
    if done == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
train_model(job, job.params, job.seed, job.out_dir, lambda _: None, progress)
"""


@dataclass
class Run:
    """One call of `train_model`, and all that it told."""

    frames: Any
    params: Any
    out_dir: Path
    seed: int = 3
    epochs: list[EpochMetrics] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    done: list[int] = field(default_factory=list)

    def go(self, stop_at: int | None = None, start: Path | None = None, micro_batch: int | None = None) -> TrainReport:
        self.epochs, self.notes, self.done = [], [], []

        def progress(done: int, total: int, note: str) -> None:
            self.done.append(done)

        report = train_model(
            self.frames,
            self.params,
            self.seed,
            self.out_dir,
            self.epochs.append,
            progress,
            start,
            micro_batch=micro_batch,
            should_stop=lambda: self.done[-1:] == [stop_at],
            tell=self.notes.append,
        )
        assert report
        return report

    def go_and_be_killed(self, kill_at: int) -> None:
        """The same in a process that is killed (SIGKILL) after a step."""
        job = TrainJob.of(self.frames, self.params, self.seed, self.out_dir, None)
        env = {**os.environ, "PYTHONPATH": str(Path(flows.__file__).parents[1])}
        command = [sys.executable, "-P", "-c", _KILLED, str(kill_at)]
        done = subprocess.run(
            command, input=job.model_dump_json().encode(), env=env, check=False, stderr=subprocess.PIPE
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()

    @property
    def partial(self) -> Path:
        return self.out_dir.with_name(f"{self.out_dir.name}.partial")


def figures(epochs: list[EpochMetrics]) -> list[dict[str, Any]]:
    return [metrics.model_dump(exclude=MEASURED) for metrics in epochs]


@pytest.fixture(scope="module")
def new_run(tiny: Any, make_params: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """`new_run(**changes)`: a training with its own directory."""

    def build(**changes: Any) -> Run:
        return Run(tiny, make_params(**{**LONG, **changes}), tmp_path_factory.mktemp("resuming") / "out")

    return build


@pytest.fixture(scope="module")
def at_once(new_run: Callable[..., Run]) -> tuple[Run, TrainReport]:
    """The training that nothing interrupts."""
    run = new_run()
    return run, run.go()


@pytest.fixture(scope="module")
def short(new_run: Callable[..., Run]) -> tuple[Run, TrainReport]:
    """A training of one epoch."""
    run = new_run(epochs=1)
    return run, run.go()


def assert_same(run: Run, report: TrainReport, at_once: tuple[Run, TrainReport]) -> None:
    whole, expected = at_once
    assert report.weights_sha256 == expected.weights_sha256
    assert weights_digest(run.out_dir / "last.pt") == weights_digest(whole.out_dir / "last.pt")
    assert figures(run.epochs) == figures(whole.epochs)
    assert not run.partial.exists()


def test_a_step_for_each_batch_and_nothing_to_note(at_once: tuple[Run, TrainReport]) -> None:
    run, report = at_once
    assert run.done == list(range(1, 10))
    assert (report.batch, report.micro_batch, report.resumed_at, report.notes) == (3, 3, (), ())
    assert report.cache is not None
    assert report.cache.startswith("ram")
    assert not run.partial.exists()


def test_killed_it_goes_on_to_the_same_weights(
    at_once: tuple[Run, TrainReport], new_run: Callable[..., Run], make_params: Callable[..., Any]
) -> None:
    run = new_run()
    run.go_and_be_killed(5)
    assert len(list(run.partial.glob("work-*"))) == 1
    # Saved after every step from here on, which does not make it another training; nor do processes that load.
    run.params = make_params(**LONG, checkpoint_minutes=1e-9, workers=1)
    run.go_and_be_killed(5)
    report = run.go()
    assert run.done == list(range(5, 10))
    assert report.resumed_at == (1, 1)
    assert run.notes == []
    assert_same(run, report, at_once)


@pytest.mark.deep
def test_stopped_after_any_step_it_goes_on_to_the_same_weights(
    at_once: tuple[Run, TrainReport], new_run: Callable[..., Run]
) -> None:
    run = new_run()
    for before, stop_at in ((0, 1), (1, 5), (5, 6), (6, 9)):
        epoch = (stop_at - 1) // 3 + 1
        with pytest.raises(Preempted, match=rf"asked to stop in epoch {epoch} of 3.*same command goes on"):
            run.go(stop_at)
        assert run.done == list(range(before + 1, stop_at + 1))
    report = run.go()
    assert run.done == []
    assert report.resumed_at == (0, 1, 1, 2)
    assert_same(run, report, at_once)


def test_a_damaged_state_costs_an_epoch(at_once: tuple[Run, TrainReport], new_run: Callable[..., Run]) -> None:
    run = new_run()
    with pytest.raises(Preempted):
        run.go(7)
    newest = sorted(run.partial.glob("state-*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:-1000])
    report = run.go()
    assert run.done == list(range(7, 10))
    assert report.notes == (f"a saved state is damaged: {newest.name}",)
    assert_same(run, report, at_once)


def test_an_interruption_neither_loses_nor_doubles_a_note(new_run: Callable[..., Run]) -> None:
    run = new_run(epochs=1, batch=64)
    for run.seed in (3, 4):
        with pytest.raises(Preempted):
            run.go(1)
    batch, begun_anew = run.notes
    assert batch.startswith("train.batch 64 is more than the training split has")
    assert begun_anew == "what was saved is of another training (other seed): it begins anew"
    assert run.go().notes == (batch, begun_anew)
    assert run.notes == [batch]


def test_processes_that_load_end_with_an_interruption(new_run: Callable[..., Run]) -> None:
    """Those of validation, too, which no other training closes: at once, not with the next collection of garbage."""
    run = new_run(epochs=2, batch=1, mosaic=0.0, workers=1)
    before = set(psutil.Process().children())
    gc.disable()
    try:
        with pytest.raises(Preempted):
            run.go(9)
        assert not set(psutil.Process().children()) - before
    finally:
        gc.enable()


def test_what_is_finished_or_was_begun_with_others_is_begun_anew(
    short: tuple[Run, TrainReport], make_params: Callable[..., Any]
) -> None:
    run, expected = short
    sound = run.params
    run.params = make_params(**{**LONG, "epochs": 1, "learning_rate": 0.1})
    with pytest.raises(Preempted):
        run.go(1)
    run.params = sound
    report = run.go()
    assert run.done == [1, 2, 3]
    assert run.notes == ["what was saved is of another training (other parameters): it begins anew"]
    assert report.notes == tuple(run.notes)
    assert report.resumed_at == ()
    assert report.weights_sha256 == expected.weights_sha256


def test_short_memory_is_told_and_smaller_parts_go_on(
    new_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_ultralytics()
    from ultralytics.models.yolo.detect import DetectionTrainer

    fitting, tries = DetectionTrainer.preprocess_batch, []

    def allocate(trainer: Any, batch: dict[str, Any]) -> Any:
        tries.append(len(batch["img"]))
        if len(tries) == 2 or (trainer.epoch == 1 and len(batch["img"]) > 2):
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return fitting(trainer, batch)

    monkeypatch.setattr(DetectionTrainer, "preprocess_batch", allocate)
    run = new_run(epochs=2, batch=4)
    with pytest.raises(MemoryShort, match="memory is short: CUDA out of memory"):
        run.go()
    assert tries == [4, 4]  # Ultralytics itself would have tried again with batches of 2
    with pytest.raises(MemoryShort):
        run.go()
    report = run.go(micro_batch=2)
    assert run.done == [3, 4]
    assert (report.batch, report.micro_batch) == (4, 2)
    assert report.resumed_at == (1,)


def scored(monkeypatch: pytest.MonkeyPatch, scores: dict[int, float]) -> None:
    """Make validation find these scores, by epoch counted from 1."""
    load_ultralytics()
    from ultralytics.models.yolo.detect import DetectionTrainer

    found = DetectionTrainer.validate

    def validate(trainer: Any) -> Any:
        metrics, fitness = found(trainer)
        metrics["metrics/mAP50-95(B)"] = scores[trainer.epoch + 1]
        return metrics, fitness

    monkeypatch.setattr(DetectionTrainer, "validate", validate)


def test_patience_ends_it_early_also_across_an_interruption(
    new_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, {1: 0.1, 2: 0.3, 3: 0.2, 4: 0.3, 5: 0.1})
    run = new_run(epochs=9, patience=2, batch=8)
    with pytest.raises(Preempted):
        run.go(3)
    report = run.go()
    assert [metrics.score for metrics in run.epochs] == [0.1, 0.3, 0.2, 0.3]
    assert report.stopped_early
    assert report.passed
    assert (report.epochs, report.best_epoch, report.score) == (4, 4, 0.3)
    assert report.sentence.endswith("; ended early, 2 epochs without a better one")


def test_a_diverged_training_ends_with_what_was_best(
    new_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_ultralytics()
    from ultralytics.models.yolo.detect import DetectionTrainer

    sound = DetectionTrainer.preprocess_batch

    def spoil(trainer: Any, batch: dict[str, Any]) -> Any:
        batch = sound(trainer, batch)
        batch["img"] *= float("nan") if trainer.epoch else 1.0
        return batch

    monkeypatch.setattr(DetectionTrainer, "preprocess_batch", spoil)
    run = new_run(epochs=4, batch=8)
    report = run.go()
    assert not report.passed
    assert report.sentence.startswith("the training diverged in epoch 2; try a lower learning rate")
    assert (report.epochs, report.best_epoch, report.stopped_early) == (2, 1, False)
    epochs = [read_weights(run.out_dir / name).content["detector"]["epoch"] for name in ("best.pt", "last.pt")]
    assert epochs == [1, 2]


def test_a_full_disk_costs_states_and_no_training(new_run: Callable[..., Run], disk: Callable[[str], Path]) -> None:
    run = new_run(epochs=2, batch=8)
    run.out_dir = disk("65m") / "out"  # a state takes 36 MB, the results 11
    report = run.go()
    note = "the state after epoch 2 could not be saved (the disk is full); the training went on"
    assert report.notes == (note,)
    assert report.passed
    assert not run.partial.exists()


def test_results_that_find_no_room_are_written_later_without_training(
    short: tuple[Run, TrainReport], new_run: Callable[..., Run], disk: Callable[[str], Path]
) -> None:
    run = new_run(epochs=1)
    run.out_dir = disk("42m") / "out"
    with pytest.raises(
        OutsideError, match=r"disk is full.* need \d+ MB.*Free \d+ MB; the same command goes on"
    ) as told:
        run.go()
    assert sorted(path.suffix for path in run.partial.iterdir()) == [".json", ".pt"]
    needed = int(re.findall(r"need (\d+) MB", told.value.message)[0]) * 10**6
    assert needed < 15 * 10**6
    disk(str(shutil.disk_usage(run.partial).used + needed))
    report = run.go()
    assert run.done == []
    assert report.resumed_at == (1,)
    assert report.weights_sha256 == short[1].weights_sha256
    assert weights_digest(run.out_dir / "last.pt") == weights_digest(short[0].out_dir / "last.pt")

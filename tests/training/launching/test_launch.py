"""Trainings in a process of their own: they repeat, tell everything, and leave nothing behind."""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from flows.errors import CheckpointError, MemoryShort, OutsideError, Preempted, ServiceError
from flows.training.epochs import EpochMetrics
from flows.training.launching import launch
from flows.training.launching.launch import train_apart
from flows.training.launching.messages import EpochDone, Hello, TrainJob, read_message, write_message
from flows.training.launching.placing import Placing
from flows.training.launching.wire import Ear
from flows.training.reproducibility import weights_digest


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "flows.training.launching.worker" in words_of(child)]


def words_of(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:  # also a zombie, that another test has left
        return []


@pytest.fixture
def greedy_thread() -> Any:
    """A thread that draws from the process's random numbers all the time, as those of a flow do now and then."""
    ended = threading.Event()

    def draw() -> None:
        while not ended.wait(0.001):
            random.random()
            np.random.random()

    thread = threading.Thread(target=draw)
    thread.start()
    yield
    ended.set()
    thread.join()


def test_same_seed_data_and_params_give_the_same_weights(
    tiny: Any, make_params: Callable[..., Any], tmp_path: Path, greedy_thread: Any
) -> None:
    told: list[tuple[int, int, str]] = []
    for name in ("one", "two"):
        epochs: list[EpochMetrics] = []
        params = make_params(epochs=2, mosaic=0.5)
        report = train_apart(tiny, params, 3, tmp_path / name, epochs.append, lambda *step: told.append(step))
        assert report.weights_sha256 == weights_digest(tmp_path / name / "best.pt")
        assert [epoch.epoch for epoch in epochs] == [1, 2]
    assert weights_digest(tmp_path / "one" / "best.pt") == weights_digest(tmp_path / "two" / "best.pt")
    assert weights_digest(tmp_path / "one" / "last.pt") == weights_digest(tmp_path / "two" / "last.pt")
    assert [step[:2] for step in told[:4]] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert told[4:] == told[:4]


def test_what_the_caller_raises_ends_the_process_and_is_passed_on(
    tiny: Any, make_params: Callable[..., Any], tmp_path: Path
) -> None:
    seen: list[int] = []

    def interrupt(metrics: EpochMetrics) -> None:
        seen.append(metrics.epoch)
        assert len(workers()) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_apart(tiny, make_params(epochs=50), 3, tmp_path / "out", interrupt)
    assert seen == [1]
    assert not workers()
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "out.partial").glob("work-*"))


def test_an_error_comes_back_as_itself(tiny: Any, make_params: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"yolo11n\.yaml, yolo11s\.yaml") as caught:
        train_apart(tiny, make_params(model="yolo11q.yaml"), 0, tmp_path / "out", lambda _: None)
    assert caught.value.exit_code == 2


def test_a_process_that_gets_nowhere_before_it_is_killed_is_told_of(
    tiny: Any, make_params: Callable[..., Any], tmp_path: Path
) -> None:
    def kill(done: int, total: int, note: str) -> None:
        os.kill(workers()[0].pid, signal.SIGKILL)

    with pytest.raises(ServiceError, match=r"was killed.*memory"):
        train_apart(tiny, make_params(epochs=2), 3, tmp_path / "out", lambda _: None, kill)


def test_a_killed_process_goes_on_from_its_last_epoch(
    tiny: Any, make_params: Callable[..., Any], tmp_path: Path
) -> None:
    seen: list[int] = []
    told: list[str] = []

    def kill_once(metrics: EpochMetrics) -> None:
        seen.append(metrics.epoch)
        if metrics.epoch == 1:
            os.kill(workers()[0].pid, signal.SIGKILL)

    report = train_apart(tiny, make_params(epochs=2), 3, tmp_path / "out", kill_once, tell=told.append)
    assert seen == [1, 2]
    assert report.notes == ("the training process was killed; started again after epoch 1",)
    assert report.notes[0] in told


def test_where_memory_is_short_it_goes_on_with_less_at_once(
    tiny: Any, make_params: Callable[..., Any], tmp_path: Path, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int | None] = []

    class Attempt:
        def __init__(self, job: TrainJob, *_: Any) -> None:
            self.job = job

        def run(self) -> Any:
            tried.append(self.job.micro_batch)
            if len(tried) < 3:
                raise MemoryShort("no memory")
            return trained.report

    monkeypatch.setattr(launch, "Attempt", Attempt)
    report = train_apart(tiny, make_params(batch=8), 3, tmp_path / "out", lambda _: None)
    assert tried == [None, 4, 2]
    assert report.notes[0].startswith("memory was short: 4 images at once in each process, gradients summed to batches")
    assert len(report.notes) == 2


def test_no_less_than_one_image_at_once(make_params: Callable[..., Any], tiny: Any, tmp_path: Path) -> None:
    job = TrainJob.of(tiny, make_params(batch=3), 0, tmp_path, None)
    placing, short = Placing(1, 1, "gloo", ()), MemoryShort("no memory")
    halved = launch._halved(job, placing, short)
    assert halved.micro_batch == 1
    with pytest.raises(MemoryShort):
        launch._halved(halved, placing, short)


def test_the_first_try_after_short_memory_takes_less_where_the_batch_was_never_full(
    make_params: Callable[..., Any], tiny: Any, tmp_path: Path
) -> None:
    job = TrainJob.of(tiny, make_params(batch=64), 0, tmp_path, None)
    assert launch._halved(job, Placing(1, 1, "gloo", ()), MemoryShort("no memory")).micro_batch == 4
    assert launch._halved(job, Placing(2, 1, "gloo", ()), MemoryShort("no memory")).micro_batch == 2


@pytest.mark.deep
def test_a_preempted_training_saves_and_goes_on(tiny: Any, make_params: Callable[..., Any], tmp_path: Path) -> None:
    def preempt(metrics: EpochMetrics) -> None:
        if metrics.epoch == 1:
            workers()[0].terminate()

    with pytest.raises(Preempted, match="the same command goes on"):
        train_apart(tiny, make_params(epochs=2), 3, tmp_path / "out", preempt)
    report = train_apart(tiny, make_params(epochs=2), 3, tmp_path / "out", lambda _: None)
    assert report.resumed_at == (1,)


def test_a_machine_that_must_stop_gives_time_to_save(
    tiny: Any, make_params: Callable[..., Any], tmp_path: Path
) -> None:
    def stop(done: int, total: int, note: str) -> None:  # as the SIGTERM of a flow does
        raise Preempted("the machine must stop")

    with pytest.raises(Preempted, match="must stop"):
        train_apart(tiny, make_params(epochs=2), 3, tmp_path / "out", lambda _: None, stop)
    assert not workers()
    assert list((tmp_path / "out.partial").glob("state-*.json"))


def test_a_crash_is_told_with_the_end_of_what_was_printed(
    tiny: Any, make_params: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(ServiceError, match=r"(?s)exit code 1.*null byte"):
        train_apart(tiny, make_params(), 3, tmp_path / "nul\0", lambda _: None)


def test_a_file_in_the_way_is_named(tiny: Any, make_params: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutsideError, match=r"Not a directory: .*file/out\.partial"):
        train_apart(tiny, make_params(), 3, tmp_path / "file" / "out", lambda _: None)


def test_a_training_ends_when_its_parent_is_gone(tiny: Any, make_params: Callable[..., Any], tmp_path: Path) -> None:
    child = os.fork()
    if not child:  # the parent of the training, killed in its first epoch

        def die(done: int, total: int, note: str) -> None:
            (tmp_path / "pid").write_text(str(workers()[0].pid))
            os.kill(os.getpid(), signal.SIGKILL)

        try:
            train_apart(tiny, make_params(epochs=1000), 3, tmp_path / "out", lambda _: None, die)
        finally:
            os._exit(1)  # or there would be two of this test session
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    try:
        orphan = psutil.Process(int((tmp_path / "pid").read_text()))
    except psutil.NoSuchProcess:
        return
    psutil.wait_procs([orphan], timeout=60)
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE


def test_a_line_that_a_kill_cuts_off_is_the_end_of_its_connection(tmp_path: Path) -> None:
    with contextlib.closing(Ear(tmp_path / "s")) as ear, socket.socket(socket.AF_UNIX) as process:
        process.connect(str(tmp_path / "s"))
        process.sendall(write_message(Hello(rank=1)) + write_message(Hello(rank=2))[:-5])
        process.shutdown(socket.SHUT_WR)
        line, message = ear.heard.get(timeout=10)
        assert message == Hello(rank=1)
        assert ear.heard.get(timeout=10) == (line, None)


def test_figures_that_are_no_numbers_cross_over(trained: Any) -> None:
    diverged = trained.epochs[0].model_copy(update={"losses": {"train_box_loss": math.nan, "val_box_loss": math.inf}})
    back = read_message(write_message(EpochDone(metrics=diverged)))
    assert isinstance(back, EpochDone)
    assert math.isnan(back.metrics.losses["train_box_loss"])
    assert back.metrics.losses["val_box_loss"] == math.inf

"""Several processes train as one would: step by step in double precision, and as whole trainings on a CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.errors import ParamsError, Preempted
from flows.params_train import TrainParams
from flows.training.distributed.company import GPUS, IS_FIRST_MACHINE
from flows.training.epochs import EpochMetrics
from flows.training.launching import placing
from flows.training.launching.launch import train_apart
from flows.training.launching.placing import parse_gpus, place_training
from flows.training.reproducibility import TrainReport
from flows.weights import read_weights

TOLERANCE = 5e-4
"""Of a parameter after three epochs, one process against two, float32. Measured: 0.00012; they had moved by 0.0006.

Checkpoints have half precision, and rounding is magnified by a fresh network; the step itself is equal to six digits.
"""


@dataclass(frozen=True)
class Outcome:
    report: TrainReport
    folder: Path
    epochs: list[EpochMetrics]


@pytest.fixture(scope="module")
def launch(tiny: Any, make_params: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Three epochs of SGD on eight frames in batches of three: the last batch is smaller, and so are shares."""

    def run(
        processes: int, on_epoch: Callable[[EpochMetrics], None] | None = None, folder: Path | None = None
    ) -> Outcome:
        folder = folder or tmp_path_factory.mktemp("together")
        epochs: list[EpochMetrics] = []

        def seen(metrics: EpochMetrics) -> None:
            epochs.append(metrics)
            if on_epoch:
                on_epoch(metrics)

        params = with_processes(
            make_params(epochs=3, batch=3, image_size=128, optimizer="SGD", learning_rate=1e-4), processes
        )
        return Outcome(train_apart(tiny, params, 3, folder / "out", seen), folder / "out", epochs)

    return run


def with_processes(params: TrainParams, processes: int, **changes: Any) -> TrainParams:
    changes = {"processes_per_node": processes, **changes}
    return params.model_copy(update={"distributed": params.distributed.model_copy(update=changes)})


@pytest.fixture(scope="module")
def one(launch: Callable[..., Outcome]) -> Outcome:
    return launch(1)


@pytest.fixture(scope="module")
def two(launch: Callable[..., Outcome]) -> Outcome:
    return launch(2)


def workers() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "flows.training.launching.worker" in child.cmdline():
                found.append(child)
        except psutil.Error:
            continue
    return sorted(found, key=lambda process: int(process.environ().get("LOCAL_RANK", 0)))


def agents() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "flows.training.launching.agent" in child.cmdline()]


def test_a_shared_step_is_the_step_of_one_process(tmp_path: Path) -> None:
    script = Path(__file__).with_name("together.py")
    env = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    running = [subprocess.Popen([sys.executable, script, str(rank), tmp_path], env=env) for rank in range(2)]
    assert [process.wait(200) for process in running] == [0, 0]
    for rank in range(2):
        told = json.loads((tmp_path / f"{rank}.json").read_text())
        assert "differ" in str(told.pop("drifted"))
        assert len(told) == 9
        for case, worst in told.items():
            # Ultralytics keeps the few numbers of the loss itself in float32.
            assert worst["loss"] < 1e-6, case
            assert worst["gradient"] < 1e-5, case
            assert worst["buffer"] < 1e-9, case


def test_two_processes_give_what_one_gives(one: Outcome, two: Outcome) -> None:
    # That the parameters are the same in both, bit for bit, the training checks after every epoch.
    assert (two.report.num_processes, one.report.num_processes) == (2, 1)
    assert (two.report.micro_batch, one.report.micro_batch) == (2, 3)
    assert largest_difference(one, two) < TOLERANCE
    for alone, shared in zip(one.epochs, two.epochs, strict=True):
        assert shared.losses["train_cls_loss"] == pytest.approx(alone.losses["train_cls_loss"], rel=2e-3)


def largest_difference(first: Outcome, second: Outcome) -> float:
    models = [read_weights(outcome.folder / "last.pt").model for outcome in (first, second)]
    pairs = zip(models[0].parameters(), models[1].parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


@pytest.mark.deep
def test_a_killed_process_costs_one_epoch_at_most(two: Outcome, launch: Callable[..., Outcome]) -> None:
    killed: list[int] = []

    def kill(metrics: EpochMetrics) -> None:
        if not killed:
            killed.append(metrics.epoch)
            os.kill(workers()[1].pid, signal.SIGKILL)

    again = launch(2, kill)
    assert [metrics.epoch for metrics in again.epochs] == [1, 2, 3]
    assert "process 1 died; all started again after epoch 1" in again.report.notes
    assert again.report.weights_sha256 == two.report.weights_sha256
    assert again.report.resumed_at


@pytest.mark.deep
def test_a_preempted_machine_saves_first(two: Outcome, launch: Callable[..., Outcome], tmp_path: Path) -> None:
    def preempt(metrics: EpochMetrics) -> None:
        if metrics.epoch == 1:
            agents()[0].terminate()

    with pytest.raises(Preempted, match="same command goes on"):
        launch(2, preempt, tmp_path)
    assert not workers()
    again = launch(2, None, tmp_path)
    assert again.report.weights_sha256 == two.report.weights_sha256


@pytest.mark.deep
def test_what_the_caller_raises_ends_all(launch: Callable[..., Outcome], tmp_path: Path) -> None:
    seen: list[psutil.Process] = []

    def interrupt(metrics: EpochMetrics) -> None:
        seen.extend([*workers(), *agents()])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(2, interrupt, tmp_path)
    assert len(seen) == 3
    _, alive = psutil.wait_procs(seen, timeout=10)
    assert not alive


@pytest.mark.deep
def test_all_end_when_the_flow_is_killed(tiny: Any, make_params: Callable[..., Any], tmp_path: Path) -> None:
    child = os.fork()
    if not child:

        def die(metrics: EpochMetrics) -> None:
            (tmp_path / "pids").write_text(" ".join(str(one.pid) for one in [*workers(), *agents()]))
            os.kill(os.getpid(), signal.SIGKILL)

        try:
            train_apart(tiny, with_processes(make_params(epochs=1000), 2), 3, tmp_path / "out", die)
        finally:
            os._exit(1)  # or there would be two of this test session
    os.waitpid(child, 0)
    pids = [int(text) for text in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 3
    deadline = time.monotonic() + 30
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in pids)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_more_processes_than_devices_are_refused(
    make_params: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "visible_gpus", lambda: ("0", "1"))
    with pytest.raises(ParamsError, match=r"processes_per_node = 4, but this machine has 2 GPUs"):
        place_training(with_processes(make_params(batch=8), 4))
    assert place_training(with_processes(make_params(batch=8), 0)).num_processes == 2
    monkeypatch.setattr(placing, "visible_gpus", lambda: ())
    with pytest.raises(ParamsError, match=r"processes_per_node = 64, but this machine has \d+ cores?"):
        place_training(with_processes(make_params(batch=64), 64))
    with pytest.raises(ParamsError, match=r"processes_per_node = 1, but this machine has 0 GPUs"):
        place_training(with_processes(make_params(), 1, backend="nccl"))
    assert place_training(make_params()).is_alone


def test_a_batch_feeds_every_process(make_params: Callable[..., Any]) -> None:
    with pytest.raises(ParamsError, match=r"train\.batch = 2 .* each of 3 processes"):
        place_training(with_processes(make_params(batch=2), 2, nodes=2, rendezvous="here:29400"))


def test_several_machines_need_a_rendezvous(make_params: Callable[..., Any]) -> None:
    with pytest.raises(ParamsError, match=r"nodes = 2, but train\.distributed\.rendezvous is empty"):
        place_training(with_processes(make_params(), 1, nodes=2))


ALONE_WITH_A_GPU = """
import os
from flows.training.distributed.company import join_company, leave_company
seat, _ = join_company("gloo")
leave_company()
print(seat.rank, os.environ["CUDA_VISIBLE_DEVICES"])
"""


def test_each_process_sees_the_gpu_of_its_own() -> None:
    given = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "GROUP_WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1"}
    given |= {"MASTER_PORT": 0, IS_FIRST_MACHINE: 1, GPUS: "3,1", "GLOO_SOCKET_IFNAME": "lo"}
    env = {**os.environ, **{key: str(value) for key, value in given.items()}}
    command = [sys.executable, "-c", ALONE_WITH_A_GPU]
    assert subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout == "0 3\n"


@pytest.mark.parametrize(
    ("chosen", "gpus"),
    [(None, ("0", "1")), ("1", ("1",)), ("1,0", ("1", "0")), ("", ()), ("0,-1,1", ("0",)), ("GPU-8a", ("GPU-8a",))],
)
def test_gpus_are_those_that_the_environment_leaves(chosen: str | None, gpus: tuple[str, ...]) -> None:
    listed = "GPU 0: H200 (UUID: GPU-8a)\nGPU 1: H200 (UUID: GPU-9b)\n"
    assert parse_gpus(listed, chosen) == gpus

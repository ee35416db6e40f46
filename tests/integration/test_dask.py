"""The manifest mapped over task runners: Prefect's threads and processes, and two Dask workers of their own."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prefect import flow, task

from flows import task_runners
from flows.adapters.processes import find_free_port
from flows.dataset.layout import Dataset, Frame, read_dataset, write_data_yaml, write_frames
from flows.dataset.manifest.update import PassSummary, update_manifest
from flows.errors import DataError, EngineUnavailable, ServiceError
from flows.settings import TaskRunnerChoice
from flows.task_runners import map_over

NUM_FRAMES = 30


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Thirty frames, one of them broken."""
    root, frames = tmp_path_factory.mktemp("dask") / "data", []
    (root / "images/train").mkdir(parents=True)
    (root / "labels/train").mkdir(parents=True)
    rng = np.random.default_rng(7)
    for index in range(NUM_FRAMES):
        frame = Frame(f"images/train/frame {index:02} ü.jpg", "train", f"cam{index % 3}", "", "", "day")
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(root / frame.image)
        (root / frame.label).write_text("0 0.5 0.5 0.3 0.3\n1 0.4 0.4 0.3 0.3\n" * (index % 3))
        frames.append(frame)
    (root / frames[4].image).write_bytes(b"no image")
    write_data_yaml(root, ("car", "truck"))
    write_frames(root, frames)
    return read_dataset(root)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Address of a Dask scheduler with two workers, each a process of its own."""
    pytest.importorskip("prefect_dask")
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster.scheduler_address


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def local_digests(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("local")
    update_manifest(dataset, place / "manifest", place / "parts")
    return digests(place / "manifest")


def run_in_a_flow(choice: TaskRunnerChoice, dataset: Dataset, place: Path) -> PassSummary:
    """As `validate` does: the pass is a task of a flow, its shards are tasks of the runner."""

    def make() -> PassSummary:
        mapper = partial(map_over, choice)
        return update_manifest(dataset, place / "manifest", place / "parts", mapper, shard_frames=4)

    @flow
    def sample() -> PassSummary:
        return task(make)()

    return sample()


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_prefects_runners_make_the_same_bytes(
    kind: str, dataset: Dataset, local_digests: dict[str, str], tmp_path: Path, prefect_api: str
) -> None:
    summary = run_in_a_flow(TaskRunnerChoice(kind), dataset, tmp_path)  # type: ignore[arg-type]
    assert summary == PassSummary(NUM_FRAMES, 0, NUM_FRAMES)
    assert digests(tmp_path / "manifest") == local_digests
    assert run_in_a_flow(TaskRunnerChoice("local"), dataset, tmp_path).num_decoded == 0


def test_two_dask_workers_make_the_same_bytes(
    scheduler: str, dataset: Dataset, local_digests: dict[str, str], tmp_path: Path, prefect_api: str
) -> None:
    from distributed import Client

    with Client(scheduler) as client:
        before = client.run(_count_inspected)
    summary = run_in_a_flow(TaskRunnerChoice("dask", scheduler), dataset, tmp_path)
    assert summary == PassSummary(NUM_FRAMES, 0, NUM_FRAMES)
    assert digests(tmp_path / "manifest") == local_digests
    with Client(scheduler) as client:
        after = client.run(_count_inspected)
    assert len(before) == 2
    assert all(after[worker] > before[worker] for worker in before)  # both have worked


def _count_inspected(dask_worker: object) -> int:
    return int(dask_worker.state.transition_counter)  # type: ignore[attr-defined]


def test_a_cluster_of_our_own_is_started_and_ended(prefect_api: str) -> None:
    pytest.importorskip("prefect_dask")
    assert list(map_over(TaskRunnerChoice("dask"), _refuse_three, range(3))) == [0, 1, 2]


def test_an_error_of_a_worker_comes_back_as_itself(
    scheduler: str, dataset: Dataset, tmp_path: Path, prefect_api: str
) -> None:
    with pytest.raises(DataError, match="3 is no good. Take another") as caught:
        list(map_over(TaskRunnerChoice("dask", scheduler), _refuse_three, range(5)))
    assert caught.value.remedy == "Take another"


def _refuse_three(number: int) -> int:
    if number == 3:
        raise DataError("3 is no good", "Take another")
    return number


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, prefect_api: str) -> None:
    pytest.importorskip("prefect_dask")
    monkeypatch.setattr(task_runners, "_CONNECT_S", 0.3)
    address = f"tcp://127.0.0.1:{find_free_port()}"
    with pytest.raises(ServiceError, match=f"no Dask scheduler with workers at {address}.*dask worker"):
        list(map_over(TaskRunnerChoice("dask", address), _refuse_three, range(2)))


def test_without_prefect_dask_its_installation_is_told(monkeypatch: pytest.MonkeyPatch, prefect_api: str) -> None:
    monkeypatch.setitem(sys.modules, "prefect_dask.task_runners", None)
    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    with pytest.raises(EngineUnavailable, match=r"prefect-dask is not installed. Install it: pip install .*\[dask\]"):
        list(map_over(TaskRunnerChoice("dask"), _refuse_three, range(2)))


def test_items_are_taken_as_they_are_needed(prefect_api: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(task_runners, "count_cores", lambda: 2)
    taken: list[int] = []

    def items() -> Iterator[int]:
        for index in range(50):
            taken.append(index)
            yield index + 100

    results = map_over(TaskRunnerChoice("threads"), _refuse_three, items())
    assert [next(results), next(results)] == [100, 101]
    assert len(taken) <= 6
    results.close()

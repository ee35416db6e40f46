"""The state of a training on disk: whole, checked, of its own job, and kept when the next cannot be written."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import DataError
from flows.training.loop.state import StateStore, describe_job, partial_of, records_in, save_tensors
from flows.weights import load_ultralytics

JOB = {"data": "a", "seed": "0"}


def content(number: int) -> dict[str, Any]:
    strided = torch.arange(12.0).view(1, 3, 2, 2).to(memory_format=torch.channels_last) * number
    return {"epoch": number, "model": {"w": strided, "n": torch.tensor(number)}, "curve": [{"a": float("nan")}]}


def load(directory: Path, job: dict[str, str] = JOB) -> tuple[int | None, list[str]]:
    told: list[str] = []
    found = StateStore(directory, job).load(told.append)
    return (found["epoch"] if found else None), told


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    store = StateStore(tmp_path, JOB)
    for epoch in (1, 2, 3):
        store.save(content(epoch), epoch, 0)
    return tmp_path


def test_what_is_read_is_what_was_written(saved: Path) -> None:
    found = StateStore(saved, JOB).load(pytest.fail)
    assert found is not None
    expected = content(3)
    assert torch.equal(found["model"]["w"], expected["model"]["w"])
    assert found["model"]["w"].stride() == expected["model"]["w"].stride()
    assert len(list(saved.iterdir())) == 4  # the newest and the one before


def test_a_later_step_is_newer_and_a_later_epoch_newer_still(tmp_path: Path) -> None:
    store = StateStore(tmp_path, JOB)
    store.save(content(1), 1, 0)
    store.save(content(2), 1, 40)
    assert load(tmp_path) == (2, [])
    store.save(content(3), 2, 0)
    assert load(tmp_path) == (3, [])
    store.save(content(4), 2, 0)
    assert load(tmp_path) == (4, [])


def damage(path: Path, how: str, at: int) -> None:
    whole = path.read_bytes()
    at %= len(whole)
    match how:
        case "gone":
            path.unlink()
        case "truncated":
            path.write_bytes(whole[:at])
        case "flipped":
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        case "empty":
            path.write_bytes(b"")


@given(how=st.sampled_from(["gone", "truncated", "flipped", "empty"]), at=st.integers(0, 100_000))
def test_a_damaged_state_gives_way_to_the_one_before_and_then_to_nothing(
    tmp_path_factory: pytest.TempPathFactory, how: str, at: int
) -> None:
    directory = tmp_path_factory.mktemp("damaged")
    store = StateStore(directory, JOB)
    store.save(content(1), 1, 0)
    store.save(content(2), 1, 7)
    damage(directory / "state-000001-00000007.pt", how, at)
    assert load(directory) == (1, ["a saved state is damaged: state-000001-00000007.pt"])
    damage(directory / "state-000001-00000000.pt", how, at)
    found, told = load(directory)
    assert found is None
    assert told[-1] == "no saved state is sound: the training begins anew"


@pytest.mark.parametrize("how", ["truncated", "empty"])
def test_a_damaged_record_is_told(saved: Path, how: str) -> None:
    damage(saved / "state-000003-00000000.json", how, 20)
    assert load(saved) == (2, ["the record of a saved state is damaged: state-000003-00000000.json"])


def test_a_state_without_its_record_does_not_exist(saved: Path) -> None:
    (saved / "state-000003-00000000.json").unlink()
    assert load(saved) == (2, [])


def test_the_state_of_another_job_is_not_taken(saved: Path) -> None:
    found, told = load(saved, {"data": "b", "seed": "1"})
    assert found is None
    assert told == ["what was saved is of another training (other data, seed): it begins anew"]


def test_a_record_that_lies_about_its_state_is_not_believed(saved: Path) -> None:
    path = saved / "state-000003-00000000.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sha256": "0" * 64}), encoding="utf-8")
    assert load(saved)[0] == 2


def test_a_state_runs_no_code(saved: Path) -> None:
    import hashlib

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (saved / "exploded",))

    path = saved / "state-000003-00000000"
    torch.save({"epoch": Bomb()}, path.with_suffix(".pt"))
    record = json.loads(path.with_suffix(".json").read_text())
    record["sha256"] = hashlib.sha256(path.with_suffix(".pt").read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(record), encoding="utf-8")
    assert load(saved) == (2, ["a saved state is not readable: state-000003-00000000.pt"])
    assert not (saved / "exploded").exists()


def test_a_full_disk_leaves_what_was_there(disk: Callable[[str], Path]) -> None:
    small_disk = disk("256k")
    store = StateStore(small_disk, JOB)
    store.save(content(1), 1, 0)
    before = sorted(path.name for path in small_disk.iterdir())
    large = {"epoch": 2, "model": torch.zeros(100_000)}
    for _ in range(2):
        with pytest.raises(OSError) as caught:
            store.save(large, 2, 0)
        assert caught.value.errno == errno.ENOSPC
        assert sorted(path.name for path in small_disk.iterdir()) == before
    assert load(small_disk) == (1, [])
    store.save(content(3), 3, 0)
    assert load(small_disk) == (3, [])


def test_what_is_half_written_is_not_gone_on_with() -> None:
    load_ultralytics()
    failed: list[int] = []

    class Hesitant(io.BytesIO):
        def write(self, content: Any) -> int:
            if self.tell() > 1000 and not failed:
                failed.append(self.tell())
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content)

    with pytest.raises(OSError, match="No space left"):
        save_tensors({"model": torch.zeros(10_000)}, Hesitant())


def test_forgetting_leaves_nothing(saved: Path) -> None:
    store = StateStore(saved, JOB)
    assert store.exists
    store.clear()
    assert not store.exists
    assert list(saved.iterdir()) == []


def test_what_is_saved_is_found_from_where_the_results_will_be(saved: Path) -> None:
    out_dir = saved.with_name("out.v2")
    assert records_in(partial_of(out_dir)) == []
    saved.rename(saved.with_name("out.v2.partial"))
    assert [path.stem for path in records_in(partial_of(out_dir))] == ["state-000003-00000000", "state-000002-00000000"]


def test_the_job_is_everything_that_the_result_depends_on(
    draw: Callable[..., Any], make_params: Callable[..., Any], tmp_path: Path
) -> None:
    frames = draw(tmp_path / "data")

    def describe(**changes: Any) -> dict[str, str]:
        return describe_job(frames, make_params(**changes), 1, "yolo11n.yaml", "fp32")

    def differing(other: dict[str, str]) -> list[str]:
        return [part for part in job if job[part] != other[part]]

    job = describe()
    distributed = make_params().distributed
    assert not differing(
        describe(workers=4, cache="none", cache_share=0.1, checkpoint_minutes=1.0, start_from="champion")
    )
    assert not differing(describe(distributed=distributed.model_copy(update={"nodes": 2, "restarts": 0})))
    assert differing(describe(distributed=distributed.model_copy(update={"sync_batchnorm": False}))) == ["parameters"]
    assert differing(describe(epochs=2)) == ["parameters"]
    assert differing(describe_job(frames, make_params(), 2, "yolo11n.yaml", "fp32")) == ["seed"]
    assert differing(describe_job(frames, make_params(), 1, "yolo11n.yaml", "bf16")) == ["parameters"]
    assert differing(describe_job(frames, make_params(), 1, "yolo11s.yaml", "fp32")) == ["starting weights"]
    assert differing(describe_job(replace(frames, classes=("car", "van")), make_params(), 1, "yolo11n.yaml", "fp32"))
    label = frames.root / frames.split("val")[0].label
    label.write_text(label.read_text().replace("0 ", "1 ", 1), encoding="utf-8")
    assert differing(describe()) == ["data"]
    label.unlink()
    with pytest.raises(DataError, match=r"labels/val/f0\.txt is missing"):
        describe()

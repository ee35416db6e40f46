from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.memory import Memory
from flows.params_train import TrainParams
from flows.training.frames import mirror_frames, read_sizes_wh
from flows.training.loop import caching
from flows.training.loop.caching import (
    CacheChoice,
    CacheFacts,
    ReadTimes,
    choose_cache,
    decide_cache,
    disk_bytes,
    measure_reading,
    memory_bytes,
    pays,
    take_cache,
    tell_kept,
)
from flows.weights import load_ultralytics

MB = 10**6
ROOMY = CacheFacts(512, 1, 10, 100 * MB, 300 * MB, 21_000 * MB, 50_000 * MB, 0.5)
QUICK_DISK = ReadTimes(decode_s=0.004, write_s=0.006, load_s=0.001)
facts_of_any_machine = st.builds(
    CacheFacts,
    num_frames=st.integers(1, 10**7),
    num_processes=st.integers(1, 8),
    epochs=st.integers(1, 1000),
    ram_bytes=st.integers(1, 10**13),
    disk_bytes=st.integers(1, 10**13),
    free_ram_bytes=st.integers(0, 10**12),
    free_disk_bytes=st.integers(0, 10**13),
    share=st.floats(0.01, 0.9),
)
seconds = st.floats(0.0, 1.0)
any_times = st.builds(ReadTimes, decode_s=seconds, write_s=seconds, load_s=seconds)


def never() -> ReadTimes:
    raise AssertionError("measured for nothing")


@given(facts=facts_of_any_machine, times=any_times)
def test_what_is_chosen_fits_and_pays(facts: CacheFacts, times: ReadTimes) -> None:
    choice = decide_cache(facts, lambda: times)
    assert str(facts.num_frames) in choice.reason
    if choice.kind == "ram":
        assert choice.num_bytes == facts.ram_bytes <= facts.share * facts.free_ram_bytes
    else:
        assert facts.ram_bytes > facts.share * facts.free_ram_bytes
    if choice.kind == "disk":
        assert choice.num_bytes == facts.disk_bytes <= facts.share * facts.free_disk_bytes
        assert pays(times, facts.epochs)
    if choice.kind == "none":
        assert choice.num_bytes == 0
        assert facts.disk_bytes > facts.share * facts.free_disk_bytes or not pays(times, facts.epochs)


@given(facts=facts_of_any_machine, times=any_times, more=st.integers(0, 10**12))
def test_more_free_memory_never_takes_the_memory_away(facts: CacheFacts, times: ReadTimes, more: int) -> None:
    if decide_cache(facts, lambda: times).kind == "ram":
        assert decide_cache(replace(facts, free_ram_bytes=facts.free_ram_bytes + more), lambda: times).kind == "ram"


@given(times=any_times)
def test_one_epoch_never_repays_a_disk_cache(times: ReadTimes) -> None:
    assert not pays(times, 1)


def test_reasons_name_the_figures() -> None:
    assert decide_cache(ROOMY, never).sentence == "ram: 512 frames take 0.1 GB of 21.0 GB free memory"
    tight = replace(ROOMY, free_ram_bytes=150 * MB)
    assert decide_cache(tight, lambda: QUICK_DISK).sentence == (
        "disk: 512 frames take 0.3 GB of 50.0 GB free disk, and would 0.1 GB of 0.1 GB free memory; "
        "a frame is read in 1.0 ms and decoded in 4.0 ms"
    )
    slow = replace(QUICK_DISK, load_s=0.005)
    assert "a disk cache does not pay: a frame is read in 5.0 ms" in decide_cache(tight, lambda: slow).sentence
    full = decide_cache(replace(tight, free_disk_bytes=500 * MB, num_processes=2), never)
    assert full.kind == "none"
    assert "512 frames in each of 2 processes would take" in full.reason
    assert "more than a share of 0.5" in full.reason


def test_a_disk_that_cannot_be_written_is_no_cache() -> None:
    def fail() -> ReadTimes:
        raise OSError("read-only file system")

    choice = decide_cache(replace(ROOMY, free_ram_bytes=0), fail)
    assert choice.sentence == "none: no cache can be written: read-only file system"


@pytest.mark.parametrize("kind", ["ram", "disk", "none"])
def test_a_cache_asked_for_by_name_is_taken_and_warned_of(kind: Any) -> None:
    assert take_cache(kind, ROOMY).warning is None
    choice = take_cache(kind, replace(ROOMY, free_ram_bytes=50 * MB, free_disk_bytes=50 * MB))
    assert choice.kind == kind
    assert (choice.warning is None) == (kind == "none")
    if kind == "ram":
        assert choice.warning
        assert choice.warning.startswith("train.cache: ram takes 0.1 GB for 512 frames, and 0.1 GB of memory are free")


# Against what Ultralytics really keeps


@pytest.fixture
def dataset(tmp_path: Path, draw: Callable[..., Any]) -> Any:
    return draw(tmp_path / "data", size_wh=(150, 100))


def build(dataset: Any, tmp_path: Path, cache: str | bool, mosaic: float) -> Any:
    """Ultralytics' own training set over a mirror, seeded per frame as our loader does, mosaics from all frames."""
    load_ultralytics()
    from ultralytics.cfg import get_cfg
    from ultralytics.data.augment import Mosaic
    from ultralytics.data.build import build_yolo_dataset

    mirror = tmp_path / f"mirror-{cache}-{mosaic}"
    mirror_frames(dataset, mirror)
    arguments = {"task": "detect", "imgsz": 64, "cache": cache, "rect": False, "mosaic": mosaic, "deterministic": True}
    data = {"names": dict(enumerate(dataset.classes)), "nc": len(dataset.classes), "channels": 3}
    settings: Any = get_cfg(overrides=arguments)
    built: Any = build_yolo_dataset(settings, str(mirror / "images" / "train"), 4, data)
    for transform in built.transforms.transforms[0].transforms:
        if isinstance(transform, Mosaic):
            transform.buffer_enabled = False
    return built


def pixels(built: Any, rounds: int = 3) -> Iterator[np.ndarray]:
    import random

    for seed in range(rounds * len(built)):
        random.seed(seed)
        np.random.seed(seed)
        yield built[seed % len(built)]["img"].numpy()


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_every_cache_gives_the_same_pixels_epoch_after_epoch(dataset: Any, tmp_path: Path, mosaic: float) -> None:
    plain = list(pixels(build(dataset, tmp_path, False, mosaic)))
    assert len({image.tobytes() for image in plain}) > len(plain) // 2
    for cache in ("ram", "disk"):
        for expected, found in zip(plain, pixels(build(dataset, tmp_path, cache, mosaic)), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_the_bytes_are_those_that_ultralytics_keeps(
    dataset: Any, tmp_path: Path, make_params: Callable[..., TrainParams]
) -> None:
    sizes_wh = [(150, 100)] * 8
    in_memory = build(dataset, tmp_path, "ram", 0.0)
    assert 2 * in_memory.ims.buffer.numel() == memory_bytes(sizes_wh, make_params(image_size=64))
    on_disk = build(dataset, tmp_path, "disk", 0.0)
    assert sum(np.load(path).nbytes for path in on_disk.npy_files) == disk_bytes(sizes_wh)


def test_the_bytes_of_frames_to_classify_are_those_that_ultralytics_keeps(
    dataset: Any, tmp_path: Path, make_params: Callable[..., TrainParams]
) -> None:
    load_ultralytics()
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import ClassificationDataset

    shutil.copytree(dataset.root / "images" / "train", tmp_path / "split" / "car")
    settings: Any = get_cfg(overrides={"task": "classify", "imgsz": 64, "cache": "ram"})
    kept: Any = ClassificationDataset(tmp_path / "split", settings)
    wanted = memory_bytes([(150, 100)] * 8, make_params(image_size=64, task="classify"))
    assert 2 * kept.img_cache.buffer.numel() == wanted


def chosen(kind: Any) -> CacheChoice:
    return CacheChoice(kind=kind, reason="as train.cache says", num_bytes=1)


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_a_cache_that_ultralytics_did_without_is_not_told(kind: str) -> None:
    kept, given_up = SimpleNamespace(cache=kind), SimpleNamespace(cache=None)
    to_classify = SimpleNamespace(cache_ram=kind == "ram", cache_disk=kind == "disk")
    not_kept = SimpleNamespace(cache_ram=False, cache_disk=False)
    for whole in (kept, to_classify):
        assert tell_kept(chosen(kind), whole, whole) == f"{kind}: as train.cache says"
    for without in (given_up, not_kept):
        assert tell_kept(chosen(kind), without, without) == f"none: {kind} was asked for and did not fit"
        assert tell_kept(chosen(kind), kept, without) == f"{kind}: as train.cache says; frames of val did not fit"
        assert tell_kept(chosen("none"), without, without) == "none: as train.cache says"


def test_the_report_names_the_cache_that_was_kept(
    dataset: Any, train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=0, total=1))
    assert train(dataset, cache="ram").report.cache == "none: ram was asked for and did not fit"


# The whole choice


def choose(
    dataset: Any,
    params: TrainParams,
    place: Path,
    free: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
    number: int = 1,
) -> caching.CacheChoice:
    monkeypatch.setattr(caching, "read_memory", lambda: Memory(10**12, free[0]))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free[1]))
    place.mkdir(exist_ok=True)
    return choose_cache(dataset, params, read_sizes_wh(dataset), place, number)


def test_auto_chooses_within_its_share_for_all_processes(
    dataset: Any, tmp_path: Path, make_params: Callable[..., TrainParams], monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = make_params(cache="auto", cache_share=0.5)
    needed = 2 * 12 * 64 * 43 * 3
    assert choose(dataset, auto, tmp_path / "d", (2 * needed, 0), monkeypatch).kind == "ram"
    assert choose(dataset, auto, tmp_path / "d", (2 * needed, 0), monkeypatch).num_bytes == needed
    assert choose(dataset, auto, tmp_path / "d", (2 * needed, 0), monkeypatch, number=2).kind == "none"
    assert choose(dataset, auto, tmp_path / "d", (4 * needed, 0), monkeypatch, number=2).kind == "ram"
    named = choose(dataset, make_params(cache="ram"), tmp_path / "d", (10, 0), monkeypatch)
    assert named.kind == "ram"
    assert named.warning


def test_auto_measures_real_files_where_only_the_disk_has_room(
    dataset: Any, tmp_path: Path, make_params: Callable[..., TrainParams], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "d"
    choice = choose(dataset, make_params(cache="auto"), place, (10, 10**12), monkeypatch)
    assert choice.kind in ("disk", "none")
    assert "a frame is read in" in choice.reason
    assert list(place.iterdir()) == []


def test_measuring_leaves_out_what_is_no_image(dataset: Any, tmp_path: Path) -> None:
    for frame in dataset.split("train")[1:]:
        (dataset.root / frame.image).write_bytes(b"no image")
    times = measure_reading(dataset, tmp_path)
    assert min(times.decode_s, times.write_s, times.load_s) > 0
    (dataset.root / dataset.split("train")[0].image).write_bytes(b"no image")
    assert measure_reading(dataset, tmp_path) == ReadTimes(0.0, 0.0, 0.0)


@pytest.mark.deep
def test_the_weights_do_not_depend_on_the_cache(tiny: Any, train: Callable[..., Any]) -> None:
    reports = [train(tiny, cache=cache, mosaic=0.5, epochs=2).report for cache in ("ram", "disk", "none", "auto")]
    assert len({report.weights_sha256 for report in reports}) == 1
    assert [report.cache.partition(":")[0] for report in reports] == ["ram", "disk", "none", "ram"]

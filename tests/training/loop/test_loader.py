"""What is loaded depends on seed, epoch and frame alone: not on who loads it, what was loaded before, or from where."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flows.training.distributed.seat import Seat
from flows.training.frames import mirror_frames
from flows.training.loop.arguments import ultralytics_arguments
from flows.training.loop.loader import SeededFrames, TrainLoader
from flows.training.loop.schedule import BatchPlan
from flows.weights import load_ultralytics

EPOCHS = 4


class Drawing:
    """Frames that are what the generators draw for them, and the transforms in force."""

    cache = None
    max_buffer_length = 8

    def __init__(self, count: int) -> None:
        self.count = count
        self.transforms = "mixed"

    def __len__(self) -> int:
        return self.count

    def build_transforms(self, hyper: Any) -> str:
        assert self.cache == "ram"
        return "mixed"

    def close_mosaic(self, hyp: Any) -> None:
        self.transforms = "plain"

    def __getitem__(self, index: int) -> dict[str, Any]:
        draws = (random.random(), float(np.random.random()), float(torch.rand(())))
        return {"frame": (index, self.transforms, *draws)}

    @staticmethod
    def collate_fn(samples: list[dict[str, Any]]) -> dict[str, Any]:
        return {"frames": [sample["frame"] for sample in samples]}


def loader_of(plan: BatchPlan, num_workers: int = 0) -> TrainLoader:
    frames = SeededFrames(Drawing(plan.num_frames), {}, seed=3, plain_from=EPOCHS - 1)
    return TrainLoader(frames, plan, seed=3, epochs=EPOCHS, num_workers=num_workers, pin_memory=False)


def take(loader: TrainLoader, start: tuple[int, int] = (0, 0)) -> list[Any]:
    """(epoch, frame) of every frame that counts, from `start` to the end of the training."""
    taken = []
    for epoch in range(start[0], EPOCHS):
        loader.seek(epoch, start[1] if epoch == start[0] else 0)
        taken += [(epoch, frame) for batch in loader if batch.get("counted", True) for frame in batch["frames"]]
    loader.close()
    return taken


@given(
    num_frames=st.integers(1, 24),
    batch=st.integers(1, 9),
    world_size=st.integers(1, 3),
    micro_batch=st.none() | st.integers(1, 4),
    data=st.data(),
)
def test_the_same_frames_for_any_cut_from_any_position(
    num_frames: int, batch: int, world_size: int, micro_batch: int | None, data: st.DataObject
) -> None:
    batch, num_frames = max(batch, world_size), max(num_frames, world_size)
    whole = BatchPlan.of(num_frames, batch, (64, 64))
    expected = take(loader_of(whole))
    assert len(expected) == len(set(expected)) == EPOCHS * num_frames
    start = (data.draw(st.integers(0, EPOCHS - 1)), data.draw(st.integers(0, whole.steps)))
    seats = [Seat(rank, world_size, rank, 1) for rank in range(world_size)]
    plans = [BatchPlan.of(num_frames, batch, (64, 64), seat, micro_batch) for seat in seats]
    taken = [frame for plan in plans for frame in take(loader_of(plan), start)]
    assert sorted(taken) == sorted(expected[(start[0] * num_frames + min(start[1] * whole.batch, num_frames)) :])


def test_loading_processes_and_interruptions_change_nothing() -> None:
    plan = BatchPlan.of(11, 4, (64, 64), micro_batch=3)
    expected = take(loader_of(plan))
    assert take(loader_of(plan, num_workers=2)) == expected
    assert take(loader_of(plan, num_workers=2), (1, 2)) == expected[11 + 8 :]
    assert {frame[1] for epoch, frame in expected if epoch < EPOCHS - 1} == {"mixed"}
    assert {frame[1] for epoch, frame in expected if epoch == EPOCHS - 1} == {"plain"}


class LeavingBadly(Drawing):
    """Frames whose loading process fails as it ends, like one whose parent had threads of a library running."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        Finalize(None, os._exit, args=(1,), exitpriority=0)
        return super().__getitem__(index)


def test_how_loading_processes_leave_is_of_no_account() -> None:
    plan = BatchPlan.of(11, 4, (64, 64))
    frames = SeededFrames(LeavingBadly(11), {}, seed=3, plain_from=EPOCHS - 1)
    loader = TrainLoader(frames, plan, seed=3, epochs=EPOCHS, num_workers=2, pin_memory=False)
    assert take(loader) == take(loader_of(plan))


def test_an_epoch_that_is_left_early_can_be_begun_again() -> None:
    loader = loader_of(BatchPlan.of(8, 2, (64, 64)), num_workers=1)
    loader.seek(0, 0)
    first = next(iter(loader))
    loader.seek(1, 0)
    list(loader)
    loader.seek(0, 0)
    assert next(iter(loader)) == first
    loader.close()


def test_waiting_is_counted() -> None:
    loader = loader_of(BatchPlan.of(8, 2, (64, 64)))
    list(loader)
    assert loader.wait_seconds > 0


@pytest.fixture(scope="module")
def mosaics(
    draw: Callable[..., Any], make_params: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], SeededFrames]:
    """`mosaics(cache)`: Ultralytics' own dataset of the tiny frames, every sample a mosaic until epoch 2."""
    root = tmp_path_factory.mktemp("mosaics")
    frames = draw(root / "data")
    mirror_frames(frames, root / "mirror")
    load_ultralytics()
    from ultralytics.cfg import get_cfg
    from ultralytics.data import build_yolo_dataset

    def build(cache: str) -> SeededFrames:
        arguments = ultralytics_arguments(
            make_params(mosaic=1.0), "fp32", 0, root / "run", "yolo11n.yaml", False, cache
        )
        hyper = get_cfg(overrides=arguments)
        data = {"names": {0: "car", 1: "bus"}, "nc": 2, "channels": 3}
        images = str(root / "mirror" / "images" / "train")
        return SeededFrames(build_yolo_dataset(hyper, images, 4, data), hyper, seed=1, plain_from=2)

    return build


def digest(sample: dict[str, Any]) -> str:
    found = hashlib.sha256(sample["img"].numpy().tobytes())
    found.update(sample["bboxes"].numpy().tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("cache", ["none", "disk"])
def test_mosaics_do_not_depend_on_what_was_loaded_before_nor_on_the_cache(
    mosaics: Callable[[str], SeededFrames], cache: str
) -> None:
    in_memory, other = mosaics("ram"), mosaics(cache)
    expected = [digest(in_memory[address]) for address in range(16)]
    assert len(set(expected)) == 16
    assert [digest(other[address]) for address in reversed(range(16))] == expected[::-1]
    assert [digest(other[address]) for address in range(16)] == expected


def test_mosaics_end_and_the_cached_frames_are_left_as_they_are(mosaics: Callable[[str], SeededFrames]) -> None:
    frames = mosaics("ram")
    before = hashlib.sha256(frames.ims.buffer.numpy().tobytes()).hexdigest()
    objects = [sum(len(frames[epoch * 8 + index]["cls"]) for index in range(8)) for epoch in range(4)]
    assert min(objects[:2]) > max(objects[2:])
    assert hashlib.sha256(frames.ims.buffer.numpy().tobytes()).hexdigest() == before


def test_frames_with_workers_are_the_frames_without(mosaics: Callable[[str], SeededFrames]) -> None:
    plan = BatchPlan.of(8, 4, (64, 64))

    def digests(num_workers: int) -> list[str]:
        loader = TrainLoader(mosaics("none"), plan, 1, 1, num_workers, pin_memory=False)
        found = [digest(batch) for batch in loader]
        loader.close()
        return found

    assert digests(2) == digests(0)


def test_a_dataset_of_frames_can_be_sent_to_a_process(tmp_path: Path) -> None:
    import pickle

    frames = SeededFrames(Drawing(3), {}, 0, 1)
    assert pickle.loads(pickle.dumps(frames))[4] == frames[4]

"""Frames for training: each augmented as its seed says, whoever loads it, from any position on.

Imports PyTorch: import this module inside the function that trains.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import copy
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from flows.training.loop.schedule import BatchPlan, draw_seed


class SeededFrames(Dataset[Any]):
    """Ultralytics' dataset, addressed by `epoch * len + index`: every draw for a frame follows from seed and address.

    Ultralytics picks the partners of a mosaic from the frames loaded last, which differ from process to process, and
    ends mosaics by rebuilding the loader. Here partners come from all frames, and the epoch in the address says
    whether there are mosaics: a process that loads ahead needs to be told nothing.
    """

    def __init__(self, frames: Any, hyper: Any, seed: int, plain_from: int) -> None:
        self.frames, self._seed, self._plain_from = frames, seed, plain_from
        self._mixed: Any = None
        self._plain: Any = None
        if hasattr(frames, "close_mosaic"):
            self._build_transforms(hyper)

    def _build_transforms(self, hyper: Any) -> None:
        # A mosaic draws from all frames where the dataset says, while it is built, that they are in memory.
        frames = self.frames
        frames.max_buffer_length = 0
        cache, frames.cache = frames.cache, "ram"
        self._mixed = frames.build_transforms(copy(hyper))
        frames.close_mosaic(copy(hyper))
        self._plain = frames.transforms
        frames.cache = cache

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, address: int) -> Any:
        epoch, index = divmod(address, len(self.frames))
        seed_everything(draw_seed(self._seed, epoch, index))
        if self._plain is not None:
            self.frames.transforms = self._plain if epoch >= self._plain_from else self._mixed
        return self.frames[index]

    def __getattr__(self, name: str) -> Any:
        if name == "frames":  # asked for before it is set, while it is unpickled
            raise AttributeError(name)
        return getattr(self.frames, name)


def seed_everything(seed: int) -> None:
    """Seed the generators that augmentation draws from. The GPU's are left alone."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


class Addresses(Sampler[list[int]]):
    """Addresses of this process's frames, part by part, from a position to the end of the training."""

    def __init__(self, plan: BatchPlan, seed: int, epochs: int) -> None:
        self._plan, self._seed, self._epochs = plan, seed, epochs
        self.start = (0, 0)

    def __len__(self) -> int:
        return self._plan.num_frames

    def __iter__(self) -> Iterator[list[int]]:
        first, step = self.start
        for epoch in range(first, self._epochs):
            base = epoch * self._plan.num_frames
            for part in self._plan.parts(self._seed, epoch, step if epoch == first else 0):
                yield [base + index for index in part]

    def set_epoch(self, epoch: int) -> None:
        """Nothing: every address says its epoch. Ultralytics calls this where several processes train."""


def end_workers(iterator: Any) -> None:
    """End the processes behind an iterator of PyTorch's loader, however they leave.

    They have delivered what was asked of them. One that was forked beside threads may fail while it ends (hooks of
    libraries find their threads gone), and PyTorch would raise that as a death in the middle of the work.
    """
    if hasattr(iterator, "_shutdown_workers"):
        with suppress(RuntimeError):
            iterator._shutdown_workers()


class TrainLoader:
    """The training batches as Ultralytics' loop takes them: one iteration is the rest of an epoch.

    The processes that load are kept over the epochs and load ahead across their borders.
    """

    drop_last = True  # so that Ultralytics does not judge a last batch that the plan has taken care of

    def __init__(
        self, frames: SeededFrames, plan: BatchPlan, seed: int, epochs: int, num_workers: int, pin_memory: bool
    ) -> None:
        self.dataset, self.plan = frames, plan
        self.sampler = Addresses(plan, seed, epochs)
        self.batch_size = plan.largest_part
        self.num_workers = min(num_workers, plan.parts_per_epoch)
        self.wait_seconds = 0.0
        collate: Callable[[list[Any]], Any] | None = getattr(frames, "collate_fn", None)
        self._loader: DataLoader[Any] = DataLoader(
            frames,
            batch_sampler=self.sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=pin_memory,
            prefetch_factor=4 if self.num_workers else None,
            generator=torch.Generator().manual_seed(0),  # or it would draw from the generator of the training
        )
        self._iterator: Any = None
        self._next = (0, 0)

    def __len__(self) -> int:
        return self.plan.parts_per_epoch

    def seek(self, epoch: int, step: int) -> None:
        """Go on with the batch `step` of `epoch`."""
        if self._next != (epoch, step):
            self.close()
            self._next = self.sampler.start = (epoch, step)

    def __iter__(self) -> Iterator[Any]:
        epoch, first = self._next
        for step in range(first, self.plan.steps):
            for part in range(self.plan.num_parts(step)):
                batch = self._take()
                if self.plan.is_stand_in(step, part):
                    batch["counted"] = False
                yield batch
            self._next = (epoch, step + 1)
        self._next = (epoch + 1, 0)

    def _take(self) -> Any:
        started = time.monotonic()
        if self._iterator is None:
            self._iterator = iter(self._loader)
        batch = next(self._iterator)
        self.wait_seconds += time.monotonic() - started
        return batch

    def close(self) -> None:
        """End the processes that load."""
        end_workers(self._iterator)
        self._iterator = None
        self.sampler.start = self._next

"""Which frames a process sees at which step, and at which rate it learns from them: functions of seed and position.

Nothing here remembers anything, so a training that was broken off goes on exactly where it was, and the result does not
depend on how many processes share the work.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from flows.errors import DataError, ParamsError
from flows.training.distributed.seat import ALONE, Seat


@dataclass(frozen=True)
class BatchPlan:
    """How the frames of an epoch become batches, and a batch the shares of processes.

    A batch is dealt out in turn: process r of W takes every W-th frame from r on. Each process cuts its share into
    `num_parts` parts of nearly one size, the same number in all, and sums gradients over them: the optimiser steps once
    a batch. A process that has no frame for a part computes a stand-in, which does not count. The last batch of an
    epoch may be smaller.

    Where batch normalisation needs two frames at once (`min_frames`), a part never has fewer, and a last batch that
    cannot give each process two is left out; another epoch leaves out other frames.
    """

    num_frames: int
    batch: int
    seat: Seat = ALONE
    micro_batch: int | None = None
    min_frames: int = 1

    @classmethod
    def of(
        cls, num_frames: int, batch: int, size_wh: tuple[int, int], seat: Seat = ALONE, micro_batch: int | None = None
    ) -> BatchPlan:
        """The plan for images of `size_wh` (px).

        Raises:
            ParamsError: A batch is too small to give each process what it needs.
            DataError: There are too few frames for that.
        """
        # The deepest map of a 32 px image is one value a channel, whose variance needs two frames.
        needed = 2 if max(size_wh) <= 32 else 1
        least = needed * seat.world_size
        each = f"{needed} for each of {seat.world_size} processes" if seat.world_size > 1 else f"at {max(size_wh)} px"
        if batch < least:
            raise ParamsError(f"train.batch: {batch} is too small, at least {least} ({each})", f"Take {least} or more")
        if num_frames < least:
            raise DataError(f"too few frames to train on: {num_frames}, at least {least} ({each})", "Add frames")
        return cls(num_frames, min(batch, num_frames), seat, micro_batch, needed)

    @property
    def steps(self) -> int:
        """Steps of the optimiser in an epoch."""
        full, rest = divmod(self.num_frames, self.batch)
        least = 1 if self.min_frames == 1 else self.min_frames * self.seat.world_size
        return full + (rest >= least)

    @property
    def parts_per_epoch(self) -> int:
        """Forward passes of a process in an epoch."""
        return (self.steps - 1) * self.num_parts(0) + self.num_parts(self.steps - 1)

    @property
    def largest_part(self) -> int:
        """Most frames that a process takes at once."""
        return max(len(part) for part in _cut(range(-(-self.batch // self.seat.world_size)), self.num_parts(0)))

    def num_parts(self, step: int) -> int:
        """Parts into which each process cuts its share of the batch of `step`."""
        size, count = self.size(step), self.seat.world_size
        largest, smallest = -(-size // count), size // count
        wanted = math.ceil(largest / (self.micro_batch or largest))
        return wanted if self.min_frames == 1 else min(wanted, smallest // self.min_frames)

    def size(self, step: int) -> int:
        """Frames of the batch of `step`, over all processes."""
        return min(self.batch, self.num_frames - step * self.batch)

    def part_size(self, step: int, part: int) -> int:
        """Frames that all processes together take for a part."""
        return sum(len(self._parts(range(self.size(step)), step, rank)[part]) for rank in range(self.seat.world_size))

    def is_stand_in(self, step: int, part: int) -> bool:
        """Whether this process has no frame for that part."""
        return not self._parts(range(self.size(step)), step, self.seat.rank)[part]

    def parts(self, seed: int, epoch: int, start_step: int = 0) -> Iterator[list[int]]:
        """Indices of this process's frames, part by part, from the batch `start_step` of an epoch to its end."""
        order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(self.num_frames).tolist()
        for step in range(start_step, self.steps):
            batch = order[step * self.batch : (step + 1) * self.batch]
            for part in self._parts(batch, step, self.seat.rank):
                yield part or batch[:1]

    def _parts(self, batch: Sequence[int], step: int, rank: int) -> list[list[int]]:
        return _cut(batch[rank :: self.seat.world_size], self.num_parts(step))


def _cut(share: Sequence[int], number: int) -> list[list[int]]:
    ends = [-(-len(share) * part // number) for part in range(number + 1)]
    return [list(share[start:end]) for start, end in pairwise(ends)]


def draw_seed(*keys: int | str) -> int:
    """A number below 2**63 that depends on nothing but `keys`: the seed of whatever is drawn for them."""
    text = " ".join(map(str, keys))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def count_warmup_steps(warmup_epochs: float, epochs: int, steps: int) -> int:
    """Steps of warm-up; the last epoch is never part of it."""
    return round(min(warmup_epochs, max(epochs - 1, 0)) * steps)


def warm_up(
    groups: Sequence[dict[str, Any]],
    step: int,
    num_steps: int,
    share: float,
    start_bias_rate: float,
    momentum: Momentum,
) -> None:
    """Set rates and momentum of an optimiser's groups at global step `step` of a linear warm-up; after it, do nothing.

    Rates rise from nothing to `share` of their full value; those of biases begin at `start_bias_rate`. The formula is
    Ultralytics' (engine/trainer.py), counted in steps of the optimiser over the whole training.
    """
    if not num_steps or step > num_steps:
        return
    for group in groups:
        start = start_bias_rate if group.get("param_group") == "bias" else 0.0
        group["lr"] = float(np.interp(step, [0, num_steps], [start, group["initial_lr"] * share]))
        if "momentum" in group:
            group["momentum"] = float(np.interp(step, [0, num_steps], [momentum.start, momentum.full]))


@dataclass(frozen=True)
class Momentum:
    """Momentum of SGD at the start and at the end of the warm-up."""

    start: float
    full: float

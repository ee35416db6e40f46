"""How batches are cut among processes and parts, and the rates of the warm-up."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import DataError, ParamsError
from flows.training.distributed.seat import ALONE, Seat
from flows.training.loop.schedule import BatchPlan, Momentum, count_warmup_steps, draw_seed, warm_up

SIZE_WH = (64, 64)


def seats(world_size: int) -> list[Seat]:
    return [Seat(rank, world_size, rank, 1) for rank in range(world_size)]


def batches_of(plans: list[BatchPlan], epoch: int, start_step: int = 0) -> list[list[int]]:
    """The frames that all processes together take for each step, in the order of the deal; stand-ins left out."""
    streams = [plan.parts(3, epoch, start_step) for plan in plans]
    batches = []
    for step in range(start_step, plans[0].steps):
        shares = []
        for plan, stream in zip(plans, streams, strict=True):
            parts = list(islice(stream, plan.num_parts(step)))
            assert all(parts)
            shares.append([i for n, part in enumerate(parts) if not plan.is_stand_in(step, n) for i in part])
        size = max(map(len, shares))
        batches.append([share[row] for row in range(size) for share in shares if row < len(share)])
    assert all(next(stream, None) is None for stream in streams)
    return batches


@given(
    num_frames=st.integers(1, 60),
    batch=st.integers(1, 20),
    world_size=st.integers(1, 5),
    micro_batch=st.none() | st.integers(1, 8),
    epoch=st.integers(0, 3),
)
def test_every_cut_sees_the_same_batches(
    num_frames: int, batch: int, world_size: int, micro_batch: int | None, epoch: int
) -> None:
    batch, num_frames = max(batch, world_size), max(num_frames, world_size)
    alone = BatchPlan.of(num_frames, batch, SIZE_WH)
    shared = [BatchPlan.of(num_frames, batch, SIZE_WH, seat, micro_batch) for seat in seats(world_size)]
    expected = batches_of([alone], epoch)
    assert batches_of(shared, epoch) == expected
    assert sorted(index for one in expected for index in one) == list(range(num_frames))
    assert [len(one) for one in expected] == [alone.size(step) for step in range(alone.steps)]
    for start in range(alone.steps + 1):
        assert batches_of(shared, epoch, start) == expected[start:]
    for plan in shared:
        assert plan.largest_part <= (micro_batch or batch)
        assert plan.parts_per_epoch == len(list(plan.parts(3, epoch)))
        for step in range(plan.steps):
            sizes = [plan.part_size(step, part) for part in range(plan.num_parts(step))]
            assert sum(sizes) == plan.size(step)


@given(
    num_frames=st.integers(2, 40),
    batch=st.integers(2, 12),
    world_size=st.integers(1, 3),
    micro_batch=st.none() | st.integers(1, 5),
)
def test_no_part_of_the_smallest_images_holds_a_single_frame(
    num_frames: int, batch: int, world_size: int, micro_batch: int | None
) -> None:
    batch, num_frames = max(batch, 2 * world_size), max(num_frames, 2 * world_size)
    for seat in seats(world_size):
        plan = BatchPlan.of(num_frames, batch, (32, 32), seat, micro_batch)
        parts = list(plan.parts(0, 0))
        assert parts
        assert all(len(part) >= 2 for part in parts)
        assert num_frames - plan.steps * plan.batch < 2 * world_size


def test_another_epoch_or_seed_is_another_order() -> None:
    plan = BatchPlan.of(50, 50, SIZE_WH)
    first = list(plan.parts(0, 0))
    assert list(plan.parts(0, 0)) == first
    assert list(plan.parts(0, 1)) != first
    assert list(plan.parts(1, 0)) != first


def test_what_is_too_small_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"train\.batch: 3 is too small, at least 4 \(1 for each of 4 processes\)"):
        BatchPlan.of(10, 3, SIZE_WH, seats(4)[0])
    with pytest.raises(ParamsError, match=r"train\.batch: 1 is too small, at least 2 \(at 32 px\)"):
        BatchPlan.of(10, 1, (32, 32))
    with pytest.raises(DataError, match=r"too few frames to train on: 1, at least 2"):
        BatchPlan.of(1, 4, SIZE_WH, seats(2)[0])


def test_a_batch_is_no_larger_than_the_data() -> None:
    plan = BatchPlan.of(5, 8, SIZE_WH)
    assert (plan.batch, plan.steps, plan.largest_part) == (5, 1, 5)
    assert replace(plan, micro_batch=2).num_parts(0) == 3


def test_seeds_depend_on_every_key() -> None:
    assert draw_seed(1, 2, 3) == draw_seed(1, 2, 3)
    assert len({draw_seed(*keys) for keys in ((1, 2, 3), (1, 23), (12, 3), (1, 2, "3", 0), (0, 2, 3))}) == 5
    assert 0 <= draw_seed("any") < 2**63


@given(st.floats(0, 5), st.integers(1, 6), st.integers(1, 30))
def test_rates_and_momentum_are_those_of_ultralytics(warmup_epochs: float, epochs: int, steps: int) -> None:
    import numpy as np

    num_warmup = count_warmup_steps(warmup_epochs, epochs, steps)
    # engine/trainer.py: _get_warmup_iterations and _do_train, with one part a batch
    limited = min(warmup_epochs, max(epochs - 1, 0))
    assert num_warmup == (round(limited * steps) if limited > 0 else 0)
    for epoch in range(epochs):
        share = max(1 - epoch / epochs, 0) * 0.99 + 0.01
        for ni in range(epoch * steps, (epoch + 1) * steps):
            groups = [
                {"param_group": name, "lr": 0.5, "initial_lr": 0.01, "momentum": 0.5} for name in ("weight", "bias")
            ]
            warm_up(groups, ni, num_warmup, share, 0.1, Momentum(0.8, 0.937))
            for group in groups:
                expected = (0.5, 0.5)
                if num_warmup and ni <= num_warmup:
                    xi, bias = [0, num_warmup], 0.1 if group["param_group"] == "bias" else 0.0
                    expected = (np.interp(ni, xi, [bias, 0.01 * share]), np.interp(ni, xi, [0.8, 0.937]))
                assert (group["lr"], group["momentum"]) == expected


def test_adaptive_optimisers_have_no_momentum_to_set() -> None:
    groups = [{"param_group": "weight", "lr": 1.0, "initial_lr": 1.0, "betas": (0.9, 0.999)}]
    warm_up(groups, 0, 4, 1.0, 0.0, Momentum(0.8, 0.9))
    assert groups == [{"param_group": "weight", "lr": 0.0, "initial_lr": 1.0, "betas": (0.9, 0.999)}]


def test_a_process_alone_takes_everything() -> None:
    assert BatchPlan.of(8, 4, SIZE_WH, ALONE).part_size(0, 0) == 4

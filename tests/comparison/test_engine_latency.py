from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.comparison.engine_latency import EngineTimes, engine_latency, quantile_estimate, time_side_by_side


class Recorder:
    """A detector that notes whose turn it was, and with which frame."""

    def __init__(self, name: str, calls: list[tuple[str, bytes]]) -> None:
        self.name, self.calls = name, calls

    def __call__(self, frame: bytes) -> None:
        self.calls.append((self.name, frame))


def test_both_see_the_same_frames_and_take_turns_in_going_first() -> None:
    calls: list[tuple[str, bytes]] = []
    times = time_side_by_side(Recorder("new", calls), Recorder("old", calls), [b"a", b"b", b"c"], num_pairs=6)
    assert len(times.challenger_ms) == len(times.champion_ms) == 6
    timed = calls[-12:]
    assert timed[:4] == [("new", b"a"), ("old", b"a"), ("old", b"b"), ("new", b"b")]
    assert [frame for name, frame in timed if name == "new"] == [frame for name, frame in timed if name == "old"]
    assert len(calls) > 12  # the first calls, which are slower, are not timed


def test_without_a_champion_one_is_timed_alone() -> None:
    times = time_side_by_side(lambda _: time.sleep(0.002), None, [b"a"], num_pairs=3)
    assert times.champion_ms == ()
    assert min(times.challenger_ms) >= 2
    assert engine_latency(times, 0.05).champion is None


def test_no_frames_no_times() -> None:
    with pytest.raises(ValueError, match="no frames"):
        time_side_by_side(lambda _: None, None, [])


@pytest.mark.parametrize(("new", "old"), [((), ()), ((1.0,), (1.0, 2.0)), ((), (1.0,))])
def test_times_that_are_no_pairs_are_refused(new: tuple[float, ...], old: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="no pairs"):
        engine_latency(EngineTimes(challenger_ms=new, champion_ms=old), 0.05)


@given(st.integers(1, 400), st.sampled_from([0.5, 0.95]), st.integers(0, 2**32 - 1))
def test_bounds_enclose_the_value_or_are_missing(num: int, share: float, seed: int) -> None:
    values = np.random.default_rng(seed).lognormal(size=num)
    estimate = quantile_estimate(values, share, 0.05)
    assert estimate.lower is None or estimate.lower <= estimate.value
    assert estimate.upper is None or estimate.upper >= estimate.value
    assert estimate.num_units == num


@pytest.mark.parametrize(("share", "fewest"), [(0.95, 59), (0.5, 5)])
def test_so_few_bound_from_above(share: float, fewest: int) -> None:
    values = np.arange(float(fewest))
    assert quantile_estimate(values, share, 0.05).upper == values[-1]
    assert quantile_estimate(values[1:], share, 0.05).upper is None


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_bounds_cover_whatever_the_shape(share: float) -> None:
    """Log-normal with a second hump: as real times are."""
    rng = np.random.default_rng(0)
    draws = rng.lognormal(0, 0.2, (2000, 120)) + (rng.random((2000, 120)) < 0.08) * 3
    truth = np.quantile(rng.lognormal(0, 0.2, 10**6) + (rng.random(10**6) < 0.08) * 3, share)
    estimates = [quantile_estimate(row, share, 0.05) for row in draws]
    assert np.mean([one.lower <= truth for one in estimates]) > 0.94
    assert np.mean([truth <= one.upper for one in estimates]) > 0.94


def test_slowdown_is_that_of_the_same_frame() -> None:
    """The machine is busy for half of the frames: the ratio does not notice."""
    busy = np.where(np.arange(120) < 60, 1.0, 5.0)
    new, old = tuple(12 * busy), tuple(10 * busy)
    latency = engine_latency(EngineTimes(challenger_ms=new, champion_ms=old), 0.05)
    assert latency.slowdown.value == pytest.approx(1.2)
    assert latency.slowdown.upper == pytest.approx(1.2)
    assert latency.challenger.p95_ms.value == 60
    assert latency.champion.p50_ms == 30

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.rollout.latencies import Latencies

LN_STEP = np.log(1.02)


def test_without_latencies_nothing_is_known() -> None:
    none = Latencies().plus([None, None])
    assert (none, none.num) == (Latencies(), 0)
    assert none.percentile_ms(0.5) is None
    assert none.interval_ms(0.95, 0.05) == (None, None)


def test_few_latencies_bound_a_percentile_from_below_only() -> None:
    low, high = Latencies().plus([50.0] * 30).interval_ms(0.95, 0.05)
    assert (low, high) == (None, None)
    low, high = Latencies().plus([50.0] * 30 + [200.0] * 20).interval_ms(0.95, 0.05)
    assert low == pytest.approx(50.0, rel=0.03)
    assert high is None


def test_latencies_that_are_all_alike_bound_the_percentile_from_above_too() -> None:
    low, high = Latencies().plus([50.0] * 500).interval_ms(0.95, 0.05)
    assert low is None
    assert high == pytest.approx(50.0, rel=0.03)


def test_the_interval_closes_in_on_the_percentile() -> None:
    latencies_ms = np.random.default_rng(3).lognormal(4, 0.5, 20_000)
    expected = float(np.quantile(latencies_ms, 0.95))
    widths = []
    for num in (500, 5_000, 20_000):
        low, high = Latencies().plus(latencies_ms[:num].tolist()).interval_ms(0.95, 0.05)
        assert low is not None
        assert high is not None
        assert low < expected < high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.1 * expected


def test_the_interval_covers_the_true_percentile_at_all_looks_together() -> None:
    rng = np.random.default_rng(5)
    true_ms = float(np.exp(4 + 0.5 * 1.6448536))
    missed = 0
    for _ in range(60):
        latencies = Latencies()
        for batch in rng.lognormal(4, 0.5, (20, 25)):
            latencies = latencies.plus(batch.tolist())
            low, high = latencies.interval_ms(0.95, 0.05)
            if (low is not None and low > true_ms) or (high is not None and high < true_ms):
                missed += 1
                break
    assert missed / 60 <= 0.05


@given(st.lists(st.floats(0.1, 1e5), max_size=50), st.lists(st.floats(0.1, 1e5), max_size=50))
def test_latencies_add_up_in_any_pieces(first: list[float], second: list[float]) -> None:
    both = Latencies().plus(first).plus(second)
    assert both == Latencies().plus([*first, *second])
    assert both.num == len(first) + len(second)
    low, high = both.interval_ms(0.5, 0.05)
    middle = both.percentile_ms(0.5)
    assert low is None or middle is None or low <= middle * 1.02
    assert high is None or middle is None or high >= middle / 1.02

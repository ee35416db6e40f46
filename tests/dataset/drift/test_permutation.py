from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from flows.dataset.drift.permutation import MIN_SIDE, Comparison, compare_columns

VALUES = st.sampled_from([0.0, 1.0, 2.5, -3.0, float("nan")])
UNTESTED = Comparison(None, None, None)


def test_distance_is_the_wasserstein_distance() -> None:
    generator = np.random.default_rng(0)
    values, is_current = generator.normal(size=40), generator.random(40) < 0.4
    values[[3, 20]] = np.nan
    (found,) = compare_columns([values], is_current, 0.05)
    sides = [values[is_current == side] for side in (False, True)]
    expected = wasserstein_distance(*(side[np.isfinite(side)] for side in sides))
    assert found.distance == pytest.approx(expected, rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 2.5, -3.0, float("nan")]), min_size=14, max_size=14), max_size=4
    ),
    num_current=st.integers(0, 14),
    seed=st.integers(0, 5),
)
def test_limit_and_p_value_say_the_same(values: list[list[float]], num_current: int, seed: int) -> None:
    is_current = np.arange(14) < num_current
    alpha = 0.05
    for column, found in zip(
        values, compare_columns([np.array(one) for one in values], is_current, alpha, 99, seed), strict=True
    ):
        known = np.isfinite(column)
        if min((known & is_current).sum(), (known & ~is_current).sum()) < MIN_SIDE:
            assert found == UNTESTED
            continue
        assert found.distance is not None
        assert found.limit is not None
        assert found.p_value is not None
        assert 1 / 100 <= found.p_value <= 1
        assert found.distance >= 0
        if found.p_value <= alpha:
            assert found.distance >= found.limit * (1 - 1e-6)
        elif len(set(np.array(column)[known])) > 1:
            assert found.distance <= found.limit * (1 + 1e-6)


def test_what_does_not_vary_has_not_moved() -> None:
    (found,) = compare_columns([np.full(20, 7.0)], np.arange(20) < 10, 0.05)
    assert (found.distance, found.p_value) == (0.0, 1.0)


def test_no_columns_and_no_units() -> None:
    assert compare_columns([], np.zeros(10, dtype=np.bool_), 0.05) == []
    assert compare_columns([np.zeros(0)], np.zeros(0, dtype=np.bool_), 0.05) == [UNTESTED]


def test_the_same_seed_gives_the_same_answer() -> None:
    values, is_current = np.random.default_rng(1).normal(size=30), np.arange(30) < 15
    first, second, other = (compare_columns([values], is_current, 0.05, seed=seed) for seed in (3, 3, 4))
    assert first == second
    assert first != other


def test_false_alarms_over_many_dependent_columns_keep_to_alpha() -> None:
    """Heavy tails, correlated columns, groups of few units: 300 worlds in which nothing has changed."""
    alpha, alarms, worlds = 0.1, 0, 300
    for seed in range(worlds):
        generator = np.random.default_rng([seed, 1])
        common = generator.standard_t(2, size=(40, 1))
        table = np.exp(0.5 * common + generator.normal(size=(40, 8)))
        few = np.where(np.arange(40)[:, None] % 4 == 0, table, np.nan)
        columns = [*table.T, *few.T]
        found = compare_columns(columns, generator.permutation(40) < 18, alpha, 99, seed)
        alarms += any(one.p_value is not None and one.p_value <= alpha for one in found)
    assert alarms <= 44  # 30 are expected; more than 44 have a probability of 0.3 %
    assert alarms >= 12  # nor is it so careful that it sees nothing


def test_p_values_of_one_column_are_uniform() -> None:
    values = []
    for seed in range(400):
        generator = np.random.default_rng([seed, 2])
        (found,) = compare_columns([generator.normal(size=24)], np.arange(24) < 12, 0.05, 99, seed)
        values.append(found.p_value)
    shares = [np.mean(np.array(values) <= level) for level in (0.1, 0.25, 0.5, 0.75)]
    assert shares == pytest.approx([0.1, 0.25, 0.5, 0.75], abs=0.08)


def test_a_column_that_moved_is_found_among_many() -> None:
    generator = np.random.default_rng(5)
    is_current = np.arange(200) < 100
    columns = [generator.normal(size=200) for _ in range(50)]
    columns[17] = columns[17] + 2 * is_current
    columns[31] = columns[31] * np.where(is_current, 6, 1)  # same mean, other spread
    found = compare_columns(columns, is_current, 0.05)
    moved = [at for at, one in enumerate(found) if one.p_value is not None and one.p_value <= 0.05]
    assert moved == [17, 31]

"""The one question over all candidates: rarely yes where nobody is better, though they resemble one another."""

from __future__ import annotations

import numpy as np
import pytest

from flows.comparison.max_t import p_any_better, pseudo_values


def test_pseudo_values_of_a_mean_are_the_values_themselves() -> None:
    values = np.random.default_rng(0).normal(size=(3, 7))
    left_out = (values.sum(axis=1, keepdims=True) - values) / 6
    samples = np.hstack([values.mean(axis=1, keepdims=True), left_out])
    np.testing.assert_allclose(pseudo_values(samples), values, atol=1e-12)


def test_one_that_is_better_everywhere_is_found_among_others_that_are_not() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0.5, 0.2, (1, 8)) + rng.normal(0, 0.01, (4, 8))
    values[3] += 0.05
    assert p_any_better(values, 2000, seed=0) < 0.01


def test_worse_ones_do_not_count_as_better() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(0.5, 0.2, (1, 8)) + rng.normal(0, 0.01, (4, 8))
    values[1:] -= 0.05
    assert p_any_better(values, 2000, seed=0) > 0.5


def test_same_models_and_too_little_say_nothing() -> None:
    assert p_any_better(np.ones((3, 8)), 500, seed=0) == 1.0
    assert p_any_better(np.ones((3, 1)), 500, seed=0) is None
    assert p_any_better(np.ones((1, 8)), 500, seed=0) is None
    assert p_any_better(np.full((2, 8), np.nan), 500, seed=0) is None


def test_same_seed_same_answer() -> None:
    values = np.random.default_rng(3).normal(size=(3, 8))
    assert p_any_better(values, 1500, seed=5) == p_any_better(values, 1500, seed=5)


@pytest.mark.parametrize("num_candidates", [1, 5])
def test_equal_models_are_called_better_in_alpha_of_the_cases(num_candidates: int) -> None:
    """Cameras differ far more than models, and their effects are skewed: 600 sets of eight cameras."""
    rng = np.random.default_rng(num_candidates)
    rejected = 0
    for case in range(600):
        cameras = rng.lognormal(0, 1, (1, 8))
        values = cameras * (1 + rng.normal(0, 0.05, (num_candidates + 1, 8)))
        rejected += p_any_better(values, 199, seed=case) <= 0.05
    assert rejected / 600 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.rollout.eprocess import (
    FLOOR,
    ShareBets,
    SignBets,
    ln_e_below,
    ln_e_share,
    upper_bound,
)

LN_20 = math.log(20)


def test_nothing_seen_is_no_evidence() -> None:
    assert ln_e_below(0, 0, 0.05) == 0.0
    assert (ShareBets(0.05).ln_e, SignBets().ln_e) == (0.0, 0.0)


@pytest.mark.parametrize("limit", [0.01, 0.3, 0.5])
def test_the_mean_over_all_outcomes_is_at_most_one_at_the_limit(limit: float) -> None:
    num = 40
    mean = sum(
        math.comb(num, s) * limit**s * (1 - limit) ** (num - s) * math.exp(ln_e_below(num, s, limit))
        for s in range(num + 1)
    )
    assert mean == pytest.approx(1.0, abs=1e-6)


@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.001, 0.05, 0.5, 0.95]))
def test_the_certificate_is_finite_and_falls_with_the_events(num: int, share: float, limit: float) -> None:
    events = min(num - 1, int(share * num))
    assert FLOOR <= ln_e_below(num, events + 1, limit) <= ln_e_below(num, events, limit) + 1e-6


@pytest.mark.parametrize(
    ("num", "events", "limit"), [(350, 253, 0.001), (350, 254, 0.001), (350, 350, 0.001), (5000, 4000, 0.5)]
)
def test_evidence_for_a_low_rate_is_exact_where_a_float_ends(num: int, events: int, limit: float) -> None:
    mpmath.mp.dps = 50
    a, b, x = mpmath.mpf("0.5"), 5 / mpmath.mpf(limit) - mpmath.mpf("0.5"), mpmath.mpf(limit)

    def mass(a: Any, b: Any) -> Any:
        return mpmath.betainc(a, b, 0, x)  # not regularised: prior times likelihood, up to the limit

    likelihood_at_limit = events * mpmath.log(x) + (num - events) * mpmath.log(1 - x)
    exact = mpmath.log(mass(a + events, b + num - events)) - mpmath.log(mass(a, b)) - likelihood_at_limit
    assert ln_e_below(num, events, limit) == pytest.approx(float(exact), abs=1e-8)


def test_a_low_rate_is_certified_after_about_three_over_the_limit() -> None:
    for limit in (0.01, 0.1):
        needed = next(n for n in range(1, 1000) if ln_e_below(n, 0, limit) >= LN_20)
        assert 3.0 / limit <= needed <= 4.5 / limit
    assert ln_e_below(400, 4, 0.01) < LN_20 < ln_e_below(400, 0, 0.01)


def beta_scores(rng: np.random.Generator, mean: float, sd: float, num: int) -> np.ndarray:
    strength = mean * (1 - mean) / sd**2 - 1
    return rng.beta(mean * strength, (1 - mean) * strength, num)


def first_win(bets: ShareBets, shares: np.ndarray) -> int | None:
    for number, share in enumerate(shares, 1):
        bets = bets.bet(float(share))
        if bets.ln_e >= LN_20:
            return number
    return None


def test_false_alarms_stay_below_alpha_when_looked_at_after_every_frame() -> None:
    rng = np.random.default_rng(7)
    alarms = sum(first_win(ShareBets(0.05), rng.random(400) < 0.05) is not None for _ in range(300))
    assert alarms / 300 <= 0.05


def test_low_agreement_is_found_within_the_stated_samples() -> None:
    rng = np.random.default_rng(1)
    needed = [first_win(ShareBets(0.05), 1 - beta_scores(rng, 0.90, 0.13, 300)) or 301 for _ in range(60)]
    assert 20 < np.median(needed) < 80
    assert np.quantile(needed, 0.9) < 130


def test_agreement_at_the_floor_raises_few_false_alarms() -> None:
    rng = np.random.default_rng(2)
    alarms = sum(first_win(ShareBets(0.05), 1 - beta_scores(rng, 0.95, 0.13, 300)) is not None for _ in range(200))
    assert alarms / 200 <= 0.05


def test_bets_refuse_what_is_no_share() -> None:
    for share in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="a share in"):
            ShareBets(0.5).bet(share)


@given(st.lists(st.floats(0, 1), max_size=60), st.floats(0.001, 0.95))
def test_capital_never_runs_out(shares: list[float], limit: float) -> None:
    bets = ShareBets(limit).bet(*shares)
    assert bets.num == len(shares)
    assert math.isfinite(bets.ln_e)
    assert bets.ln_e >= -math.log(4 * (len(shares) + 1)) - 1e-9  # what is not bet yet


def test_capital_is_finite_however_long_it_wins() -> None:
    assert math.isfinite(ShareBets(0.001).bet(*[1.0] * 1000).ln_e)


def test_who_goes_bad_after_a_long_good_time_is_found_soon() -> None:
    shares, signs = ShareBets(0.05).bet(*[0.0] * 5000), SignBets()
    for _ in range(5000):
        signs = signs.bet(-1)
    assert max(shares.ln_e, signs.ln_e) < 0
    needed = 0
    while min(shares.ln_e, signs.ln_e) < math.log(100):
        shares, signs, needed = shares.bet(0.5), signs.bet(8), needed + 1
    assert needed < 50


@pytest.mark.parametrize(("num", "events"), [(0, 0), (5, 5)])
def test_an_upper_bound_without_information_is_one(num: int, events: int) -> None:
    assert upper_bound(num, events, 0.05) == 1.0


def test_the_upper_bound_is_clopper_pearsons() -> None:
    bound = upper_bound(240, 20, 0.01)
    tail = sum(math.comb(240, s) * bound**s * (1 - bound) ** (240 - s) for s in range(21))
    assert tail == pytest.approx(0.01, rel=1e-6)


def test_bets_on_many_shares_are_bets_on_one_after_the_other() -> None:
    shares = np.random.default_rng(0).random(40).tolist()
    one_by_one = ShareBets(0.6)
    for share in shares:
        one_by_one = one_by_one.bet(share)
    assert ShareBets(0.6).bet(*shares) == one_by_one


@pytest.mark.parametrize("limit", [0.01, 0.05, 0.5])
def test_shares_at_the_limit_win_nothing_on_average(limit: float) -> None:
    """Over all outcomes of windows of three frames; the frames of a window may be as alike as they like."""
    num, windows = 3, 4
    for alike in (False, True):
        weights = (
            {0.0: 1 - limit, 1.0: limit}
            if alike
            else {s / num: math.comb(num, s) * limit**s * (1 - limit) ** (num - s) for s in range(num + 1)}
        )
        assert _mean_capital(ShareBets(limit), weights, windows) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("weights", [{-1: 0.5, 1: 0.5}, {-16: 0.1, -2: 0.2, 0: 0.4, 2: 0.2, 16: 0.1}])
def test_differences_of_either_sign_win_nothing_on_average(weights: dict[float, float]) -> None:
    assert _mean_capital(SignBets(), weights, 4) == pytest.approx(1.0, abs=1e-9)


def _mean_capital(bets: Any, weights: dict[float, float], num: int) -> float:
    if num == 0:
        return math.exp(bets.ln_e)
    return sum(weight * _mean_capital(bets.bet(value), weights, num - 1) for value, weight in weights.items())


@given(st.lists(st.integers(-1000, 1000), max_size=60))
def test_bets_on_signs_stay_finite_and_rise_with_the_differences(differences: list[int]) -> None:
    bets, higher = SignBets(), SignBets()
    for difference in differences:
        bets, higher = bets.bet(difference), higher.bet(difference + 1)
    assert bets.ln_e <= higher.ln_e + 1e-9
    assert math.isfinite(bets.ln_e)
    assert bets.ln_e <= len(differences) * math.log(2) + 1e-9  # a window doubles the capital at most


def test_windows_find_a_slower_challenger_soon_enough() -> None:
    """Of the frames 13 % are slow instead of 5 %, as when a p95 rises from 100 to 130 ms (lognormal, sigma 0.5)."""
    rng = np.random.default_rng(1)
    needed = []
    for _ in range(60):
        shares, signs, windows = ShareBets(0.05), SignBets(), 0
        while min(shares.ln_e, signs.ln_e) < math.log(100):
            ours, theirs = rng.binomial(16, [0.131, 0.05])
            shares, signs, windows = shares.bet(ours / 16), signs.bet(int(ours) - int(theirs)), windows + 1
        needed.append(16 * windows)
    assert np.median(needed) < 400
    assert max(needed) < 1000


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_evidence_on_a_share_has_a_mean_of_one_at_that_share(share: float) -> None:
    mean = sum(
        math.comb(30, s) * share**s * (1 - share) ** (30 - s) * math.exp(ln_e_share(30, s, share)) for s in range(31)
    )
    assert mean == pytest.approx(1.0, abs=1e-9)
    assert ln_e_share(0, 0, share) == 0.0
    assert ln_e_share(400, round(400 * share), share) < 0 < ln_e_share(400, 100, share)

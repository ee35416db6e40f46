"""E-processes: evidence that may be looked at after every frame without raising false alarms.

An e-process starts at 1 and, while its hypothesis holds, reaches 1/alpha with probability at most alpha however often
it is looked at (Ville). All functions return its natural logarithm, so that long runs neither overflow nor vanish.

Sources: Lindon et al., KDD 2022 (arXiv 2205.14762) for the Beta mixtures; Waudby-Smith and Ramdas, "Estimating means
of bounded random variables by betting", 2024, for the bets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FLOOR = -700.0
"""The least logarithm returned: e to this is as good as nothing, and JSON knows no infinity."""


def ln_e_above(num_trials: int, num_events: int, limit: float) -> float:
    """Evidence against "events are no more frequent than `limit`" (F1), with a uniform prior above the limit."""
    if num_trials == 0:
        return 0.0
    ln_mass = _ln_beta_tail(1 + num_trials - num_events, 1 + num_events, 1 - limit)
    return _ln_mixture(num_trials, num_events, limit, 1.0, 1.0, ln_mass - math.log1p(-limit))


def ln_e_below(num_trials: int, num_events: int, limit: float) -> float:
    """Evidence against "events are as frequent as `limit` or more" (F6): the certificate of a low rate.

    The prior lies below the limit, a tenth of it on average, so that about 3.3 / limit trials without an event
    suffice for 1/0.05.
    """
    a, b = 0.5, 5 / limit - 0.5
    ln_mass = _ln_beta_tail(a + num_events, b + num_trials - num_events, limit)
    return _ln_mixture(num_trials, num_events, limit, a, b, ln_mass - _ln_beta_tail(a, b, limit))


def ln_e_discordant(num_worse: int, num_better: int) -> float:
    """Evidence against "of the pairs that differ, at most half are worse" (F3); pairs that agree say nothing."""
    return ln_e_above(num_worse + num_better, num_worse, 0.5)


def ln_e_share(num_trials: int, num_events: int, share: float) -> float:
    """Evidence against "the share of events is exactly `share`" (F5); the prior is about it, as heavy as 40 trials."""
    a, b = 40 * share, 40 * (1 - share)
    return _ln_mixture(num_trials, num_events, share, a, b, 0.0)


def upper_bound(num_trials: int, num_events: int, alpha: float) -> float:
    """Upper one-sided 1 - alpha bound of a rate (Clopper and Pearson, 1934); 1 without trials."""
    from scipy.special import betaincinv

    if num_events >= num_trials:
        return 1.0
    return float(betaincinv(num_events + 1, num_trials - num_events, 1 - alpha))


def _ln_mixture(num_trials: int, num_events: int, limit: float, a: float, b: float, ln_mass: float) -> float:
    """`ln_mass`: by what the share of the prior's mass on its side of the limit has changed."""
    from scipy.special import betaln

    if num_trials == 0:
        return 0.0
    spared = num_trials - num_events
    ln_marginal = float(betaln(a + num_events, b + spared) - betaln(a, b)) + ln_mass
    return max(FLOOR, ln_marginal - num_events * math.log(limit) - spared * math.log1p(-limit))


def _ln_beta_tail(a: float, b: float, x: float) -> float:
    """The logarithm of I_x(a, b), the regularised incomplete beta function, also where it is too small for a float.

    There by the series of DLMF 8.17.8, all of whose terms are positive and which falls quickly so far out in the tail.
    """
    from scipy.special import betainc, betaln

    mass = float(betainc(a, b, x))
    if mass > 1e-290:  # below, floats lose their digits before they become zero
        return math.log(mass)
    term = total = 1.0
    k = 0
    while term > 1e-17 * total:
        term *= (a + b + k) / (a + 1 + k) * x
        total += term
        k += 1
    return a * math.log(x) + b * math.log1p(-x) - math.log(a) - float(betaln(a, b)) + math.log(total)


@dataclass(frozen=True)
class Bets:
    """Capital won by betting that the mean of scores in [0, 1] is below `mean_at_least` (F4, d = -1).

    Each stake rests on past scores only. `num` scores so far; `total` and `squares` are their sum and sum of squares.
    """

    mean_at_least: float
    num: int = 0
    total: float = 0.0
    squares: float = 0.0
    ln_e: float = 0.0

    @property
    def mean(self) -> float | None:
        """Mean of the scores; None before the first."""
        return self.total / self.num if self.num else None

    def bet(self, *scores: float) -> Bets:
        """The capital after more scores, one by one. Raises ValueError when one is not in [0, 1]."""
        floor, num, total, squares, ln_e = self.mean_at_least, self.num, self.total, self.squares, self.ln_e
        most = 0.5 / (1 - floor)
        for score in scores:
            if not 0 <= score <= 1:
                raise ValueError(f"a score in [0, 1] was expected, not {score}")
            # One imagined score at the hypothesis, with the variance of a coin, keeps the first stakes small.
            gap = floor - (floor + total) / (num + 1)
            variance = (0.25 + max(0.0, squares - (total * total / num if num else 0.0))) / (num + 1)
            stake = min(max(gap / (variance + gap * gap), 0.0), most)
            ln_e = max(FLOOR, ln_e + math.log1p(stake * (floor - score)))
            num, total, squares = num + 1, total + score, squares + score * score
        return Bets(floor, num, total, squares, ln_e)


_SHARE_STAKES = (0.05, 0.15, 0.5)
"""In parts of 1 / limit, so that not even a share of nothing costs more than half of the capital."""
_SIGN_STAKES = (0.1, 0.2, 0.4, 0.8, 1.6)
_LN_2 = math.log(2)


@dataclass(frozen=True)
class ShareBets:
    """Capital won by betting that shares in [0, 1] are above `mean_at_most` on average (F4, d = +1).

    The capital is spread over three fixed stakes: shares of rare events are found sooner so than by stakes that learn.
    """

    mean_at_most: float
    ln_e_by_stake: tuple[float, ...] = (0.0,) * len(_SHARE_STAKES)

    def bet(self, share: float) -> ShareBets:
        """The capital after one more share."""
        excess = share / self.mean_at_most - 1
        won = [math.log1p(stake * excess) for stake in _SHARE_STAKES]
        return ShareBets(self.mean_at_most, _add(self.ln_e_by_stake, won))

    @property
    def ln_e(self) -> float:
        """The mean of the capitals."""
        return _ln_mean(self.ln_e_by_stake)


@dataclass(frozen=True)
class SignBets:
    """Capital won by betting that differences are positive, while they are as often so much below zero as above.

    A difference d multiplies the capital by exp(l d) / cosh(l d), which is 1 on average where d and -d are equally
    likely, whatever their size; the capital is spread over five stakes l. After de la Peña, "A general class of
    exponential inequalities", 1999, and Ramdas et al., "Admissible anytime-valid sequential inference", 2020.
    """

    ln_e_by_stake: tuple[float, ...] = (0.0,) * len(_SIGN_STAKES)

    def bet(self, difference: float) -> SignBets:
        """The capital after one more difference."""
        if not difference:
            return self
        return SignBets(_add(self.ln_e_by_stake, [_ln_tilt(stake * difference) for stake in _SIGN_STAKES]))

    @property
    def ln_e(self) -> float:
        """The mean of the capitals."""
        return _ln_mean(self.ln_e_by_stake)


def _add(ln_e_by_stake: tuple[float, ...], won: list[float]) -> tuple[float, ...]:
    return tuple(max(FLOOR, ln_e + more) for ln_e, more in zip(ln_e_by_stake, won, strict=True))


def _ln_mean(ln_e_by_stake: tuple[float, ...]) -> float:
    most = max(ln_e_by_stake)
    return most + math.log(sum(math.exp(ln_e - most) for ln_e in ln_e_by_stake) / len(ln_e_by_stake))


def _ln_tilt(x: float) -> float:
    """ln(exp(x) / cosh(x)), for any x."""
    return x - abs(x) - math.log1p(math.exp(-2 * abs(x))) + _LN_2

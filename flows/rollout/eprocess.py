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

    def bet(self, score: float) -> Bets:
        """The capital after one more score. Raises ValueError when it is not in [0, 1]."""
        if not 0 <= score <= 1:
            raise ValueError(f"a score in [0, 1] was expected, not {score}")
        won = math.log1p(self._stake() * (self.mean_at_least - score))
        return Bets(
            self.mean_at_least,
            self.num + 1,
            self.total + score,
            self.squares + score * score,
            max(FLOOR, self.ln_e + won),
        )

    def _stake(self) -> float:
        # One imagined score at the hypothesis, with the variance of a coin, keeps the first stakes small.
        mean = (self.mean_at_least + self.total) / (self.num + 1)
        variance = (0.25 + max(0.0, self.squares - (self.total**2 / self.num if self.num else 0.0))) / (self.num + 1)
        gap = self.mean_at_least - mean
        stake = gap / (variance + gap * gap)
        return min(max(stake, 0.0), 0.5 / (1 - self.mean_at_least))

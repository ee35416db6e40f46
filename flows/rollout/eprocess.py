"""E-processes: evidence that may be looked at after every frame without raising false alarms.

An e-process starts at 1 and, while its hypothesis holds, reaches 1/alpha with probability at most alpha however often
it is looked at (Ville). All functions return its natural logarithm, so that long runs neither overflow nor vanish.

Sources: Lindon et al., KDD 2022 (arXiv 2205.14762) for the Beta mixtures; Waudby-Smith and Ramdas, "Estimating means
of bounded random variables by betting", 2024, for the bets; Shin, Ramdas and Rinaldo, "E-detectors", 2023, for bets
that begin at all times (weighted, their mixture is an e-process).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FLOOR = -700.0
"""The least logarithm returned: e to this is as good as nothing, and JSON knows no infinity."""


def ln_e_below(num_trials: int, num_events: int, limit: float) -> float:
    """Evidence against "events are as frequent as `limit` or more" (F6): the certificate of a low rate.

    The prior lies below the limit, a tenth of it on average, so that about 3.3 / limit trials without an event
    suffice for 1/0.05.
    """
    a, b = 0.5, 5 / limit - 0.5
    ln_mass = _ln_beta_tail(a + num_events, b + num_trials - num_events, limit)
    return _ln_mixture(num_trials, num_events, limit, a, b, ln_mass - _ln_beta_tail(a, b, limit))


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


_SHARE_STAKES = (0.05, 0.15, 0.5)
"""In parts of 1 / limit, so that not even a share of nothing costs more than half of the capital."""
_SIGN_STAKES = (0.1, 0.2, 0.4, 0.8, 1.6)
_AT_ONCE = 0.75
"""What is bet with from the beginning; the rest joins bit by bit, 0.25 / (n (n + 1)) after bet n.

What was lost in good times would otherwise have to be won back first, and who goes bad late would hardly be found.
"""
_MOST = 1e300
_MOST_EXPONENT = 700.0
"""The largest power of e that is a float."""


@dataclass(frozen=True)
class ShareBets:
    """Capital won by betting that shares in [0, 1] are above `mean_at_most` on average (F4, d = +1).

    The capital is spread over three fixed stakes: shares of rare events are found sooner so than by stakes that learn,
    and stakes that learnt in good times are slow to see that these are over.
    """

    mean_at_most: float
    num: int = 0
    capitals: tuple[float, ...] = (_AT_ONCE,) * len(_SHARE_STAKES)

    def bet(self, *shares: float) -> ShareBets:
        """The capital after more shares, one by one. Raises ValueError when one is not in [0, 1]."""
        num, capitals = self.num, self.capitals
        for share in shares:
            if not 0 <= share <= 1:
                raise ValueError(f"a share in [0, 1] was expected, not {share}")
            excess = share / self.mean_at_most - 1
            num += 1
            capitals = _multiply(capitals, [1 + stake * excess for stake in _SHARE_STAKES], num)
        return ShareBets(self.mean_at_most, num, capitals)

    @property
    def ln_e(self) -> float:
        """Of the mean of the capitals, and what is not bet yet."""
        return _ln_capital(self.capitals, self.num)


@dataclass(frozen=True)
class SignBets:
    """Capital won by betting that differences are positive, while they are as often so much below zero as above.

    A difference d multiplies the capital by exp(l d) / cosh(l d), which is 1 on average where d and -d are equally
    likely, whatever their size; the capital is spread over five stakes l. After de la Peña, "A general class of
    exponential inequalities", 1999, and Ramdas et al., "Admissible anytime-valid sequential inference", 2020.
    """

    num: int = 0
    capitals: tuple[float, ...] = (_AT_ONCE,) * len(_SIGN_STAKES)

    def bet(self, difference: float) -> SignBets:
        """The capital after one more difference."""
        factors = [2 / (1 + math.exp(min(_MOST_EXPONENT, -2 * stake * difference))) for stake in _SIGN_STAKES]
        return SignBets(self.num + 1, _multiply(self.capitals, factors, self.num + 1))

    @property
    def ln_e(self) -> float:
        """Of the mean of the capitals, and what is not bet yet."""
        return _ln_capital(self.capitals, self.num)


def _multiply(capitals: tuple[float, ...], factors: list[float], num: int) -> tuple[float, ...]:
    """After bet number `num`, with what joins then. Beyond 1e300 nothing more is won: that decided long ago."""
    joins = (1 - _AT_ONCE) / (num * (num + 1))
    return tuple([min(_MOST, capital * factor + joins) for capital, factor in zip(capitals, factors, strict=True)])


def _ln_capital(capitals: tuple[float, ...], num: int) -> float:
    return math.log(sum(capitals) / len(capitals) + (1 - _AT_ONCE) / (num + 1))

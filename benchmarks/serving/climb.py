"""The highest rate that a service stands, searched with few tries."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.loopback import Tally

_SHRINK = 1.6
_LOWEST = 0.15  # of the first rate: below it the search ends without a rate
_MAX_CONFIRMATIONS = 6


@dataclass(frozen=True)
class Step:
    """One rate for some seconds, and what came of it. `is_hopeless`: no second try is worth its time."""

    rate: float
    tally: Tally
    passed: bool
    is_hopeless: bool = False


def judge(rate: float, tally: Tally, budget_ms: float) -> Step:
    """A rate passes with p99 below the budget and every answer 200; far above, or with errors, it is hopeless."""
    p99_ms = tally.p(99)
    passed = tally.all_good and p99_ms < budget_ms
    return Step(rate, tally, passed, is_hopeless=not tally.all_good or p99_ms > 2 * budget_ms)


@dataclass
class Climb:
    """All steps in their order; `headline` is the one whose rate was confirmed."""

    steps: list[Step] = field(default_factory=list)
    headline: Step | None = None

    @property
    def rate(self) -> float:
        """The confirmed rate; 0 where there is none."""
        return self.headline.rate if self.headline else 0.0


def climb(
    attempt: Callable[[float, float], Step],
    first: float,
    *,
    grow: float = 1.25,
    resolution: float = 0.025,
    step_s: float = 4.0,
    confirm_s: float = 8.0,
) -> Climb:
    """Search the highest rate that passes.

    From `first` in coarse steps up, or down, to a rate that passes and one that fails; then by halves; at last the rate
    has to stand for longer, or gives way by `resolution`. A rate that fails by little gets a second try.

    Args:
        attempt: Tries a rate, 1/s, for so many seconds.
        first: Rate to begin with, 1/s.
        grow: Factor of a coarse step up.
        resolution: Share of the rate at which the search ends.
        step_s: How long a rate is tried; in a shorter time the backlog of too high a rate does not show.
        confirm_s: How long the last rate has to stand.
    """
    found = Climb()

    def passes(rate: float, seconds: float) -> bool:
        for _ in range(2):
            found.steps.append(attempt(rate, seconds))
            if found.steps[-1].passed or found.steps[-1].is_hopeless:
                break
        return found.steps[-1].passed

    low, high, rate = 0.0, math.inf, first
    while not (low and high < math.inf) and rate >= _LOWEST * first:
        if passes(rate, step_s):
            low, rate = rate, rate * grow
        else:
            high, rate = rate, rate / _SHRINK
    if not low:
        return found
    while high - low > resolution * high:
        rate = (low + high) / 2
        low, high = (rate, high) if passes(rate, step_s) else (low, rate)
    for _ in range(_MAX_CONFIRMATIONS):
        if passes(low, confirm_s):
            found.headline = found.steps[-1]
            break
        low *= 1 - resolution
    return found

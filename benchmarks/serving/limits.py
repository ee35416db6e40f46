"""What the parts of the ladder allow together, and what was asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

LARGE_PX = 640
EFFICIENCY = {"large": 0.90, "small": 0.85}
"""Least share of the limit, for inputs from `LARGE_PX` on and below."""
BEST_PEER, EACH_DEFAULT = 1.5, 3.0
LONE_FACTOR, LONE_MS = 1.25, 5.0
MEMORY_MB, COLD_S = 600.0, 5.0
GOODPUT, REFUSED_MS = 0.90, 100.0


@dataclass(frozen=True)
class Target:
    """One thing that was asked for. `got` is None where it was not measured."""

    model: str
    what: str
    wanted: float
    got: float | None
    sense: Literal["at least", "under"]
    unit: str = ""

    @property
    def is_met(self) -> bool | None:
        """Whether it was reached; None: not measured."""
        if self.got is None:
            return None
        return self.got >= self.wanted if self.sense == "at least" else self.got < self.wanted

    def __str__(self) -> str:
        verdict = {True: "met", False: "MISSED", None: "not measured"}[self.is_met]
        got = "" if self.got is None else f", got {self.got:.3g}{self.unit}"
        return f"{self.model}: {self.what} {self.sense} {self.wanted:.3g}{self.unit}{got}: {verdict}"


def limit(loop: float, decode: float, http: float, *, has_own_device: bool) -> float:
    """Frames a second that the rungs 2, 3 and 5 allow together.

    Where all share the cores their times add up; where inference has hardware of its own the slowest decides.
    """
    parts = (loop, decode, http)
    return min(parts) if has_own_device else 1 / sum(1 / part for part in parts)


def lone_bound_ms(bare_ms: float) -> float:
    """What the p99 of a lone camera has to stay under, given the time of one frame in the bare loop, ms."""
    return LONE_FACTOR * bare_ms + LONE_MS


def ratio(ours: float, theirs: float) -> float | None:
    """How many times as fast; infinite where only the other delivers nothing, None where neither does."""
    if not theirs:
        return math.inf if ours else None
    return ours / theirs


def least_ratio(ratios: Mapping[str, float | None]) -> float | None:
    """The ratio to the best of the others; None when there are none."""
    known = [value for value in ratios.values() if value is not None]
    return min(known) if known else None

"""Progress lines: what is measured now, and about how long all of it still takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One piece of the work and how long it is thought to take, s."""

    label: str
    seconds: float


class Pace:
    """Prints a line for each part. Parts come in the order of the plan; one may be left out."""

    def __init__(self, plan: Sequence[Part]) -> None:
        self._plan = list(plan)
        self._done = 0
        self._began = time.monotonic()

    def begin(self, label: str) -> None:
        """Say that the part `label` begins."""
        while self._done < len(self._plan) and self._plan[self._done].label != label:
            self._done += 1
        elapsed = time.monotonic() - self._began
        left = time_left_s(self._plan, self._done, elapsed)
        number = f"{min(self._done + 1, len(self._plan)):{len(str(len(self._plan)))}}/{len(self._plan)}"
        print(f"[{number}] {label}, about {_clock(left)} left", file=sys.stderr, flush=True)
        self._done += 1


def time_left_s(plan: Sequence[Part], done: int, elapsed_s: float) -> float:
    """What the parts after the first `done` were planned to take, times what planned time has cost until now."""
    planned = sum(part.seconds for part in plan[:done])
    # The first parts say little about the rest: the plan counts as two minutes of experience.
    factor = (elapsed_s + 120) / (planned + 120)
    return sum(part.seconds for part in plan[done:]) * factor


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"

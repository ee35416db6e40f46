"""Failures on request, to rehearse what the promotion does about them: DETECTOR_DRILL.

`slow:150@300` makes every answer from the 300th on 150 ms later; `fail:0.5@300` makes half of the answers from the
300th on a 500. Without `@` it begins with the first answer.
"""

from __future__ import annotations

import asyncio
import itertools
import re

from bentos.detector.errors import DrillFailure, LoadError

_FORM = re.compile(r"(slow|fail):(\d+(?:\.\d+)?)(?:@(\d+))?")


class Drill:
    """One rehearsed failure. Which answers fail follows from their number alone, so that a drill can be repeated."""

    def __init__(self, kind: str, amount: float, first: int) -> None:
        self._kind = kind
        self._amount = amount
        self._first = first
        self._numbers = itertools.count(1)

    async def act(self) -> None:
        """Delay the answer that is about to go, or raise DrillFailure in its place."""
        number = next(self._numbers) - self._first
        if number < 0:
            return
        if self._kind == "slow":
            await asyncio.sleep(self._amount / 1000)
        elif int((number + 1) * self._amount) > int(number * self._amount):
            raise DrillFailure("this failure is a rehearsal, asked for by DETECTOR_DRILL")


def parse_drill(text: str) -> Drill | None:
    """Read DETECTOR_DRILL; None for no drill. Raises LoadError."""
    if not text:
        return None
    form = _FORM.fullmatch(text)
    if form is None or (form[1] == "fail" and float(form[2]) > 1):
        wanted = "slow:MILLISECONDS@FIRST or fail:SHARE@FIRST, such as fail:0.5@300"
        raise LoadError(f"DETECTOR_DRILL = {text!r}: expected {wanted}")
    return Drill(form[1], float(form[2]), int(form[3] or 1))

"""Calls after one fixed delay, for many of whom nearly all cancel: a timer of the loop for each would cost too much."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

_EARLY_S = 0.001  # timers of the loop come up to a millisecond early


class Reminder:
    """One call to come."""

    __slots__ = ("due_s", "then")

    def __init__(self, due_s: float, then: Callable[[], None]) -> None:
        self.due_s = due_s
        self.then: Callable[[], None] | None = then

    def cancel(self) -> None:
        """It shall not come; what it would have called is let go at once."""
        self.then = None


class Reminders:
    """Calls each `then` once, `after_s` after it was added. All wait equally long, so the first is always next."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._waiting: deque[Reminder] = deque()
        self._armed = False

    def add(self, then: Callable[[], None]) -> Reminder:
        """Call `then` unless it is cancelled before."""
        loop = asyncio.get_running_loop()
        reminder = Reminder(loop.time() + self._after_s, then)
        self._waiting.append(reminder)
        if not self._armed:
            self._arm(loop)
        return reminder

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._armed = True
        loop.call_at(self._waiting[0].due_s, self._fire)

    def _fire(self) -> None:
        loop = asyncio.get_running_loop()
        now_s, waiting = loop.time() + _EARLY_S, self._waiting
        while waiting and (waiting[0].then is None or waiting[0].due_s <= now_s):
            then = waiting.popleft().then
            if then is not None:
                then()
        self._armed = False
        if waiting:
            self._arm(loop)

"""A circuit breaker: an engine that only fails is left alone for a while, and its callers are told at once.

    closed --(max_failures in a row)--> open --(cool-down over, next request)--> half-open: that request is the trial
    half-open --(it succeeds)--> closed            half-open --(it fails)--> open, with twice the cool-down

Failures count in a row: an engine that answers some frames is still worth asking, and what it fails shows as
engine_failed. To be used from one thread, the event loop's.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from enum import IntEnum

from bentos.detector.errors import EngineSuspended

logger = logging.getLogger("bentos.detector")


class BreakerState(IntEnum):
    """As the gauge shows it."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """Ask `allow` before each use of the engine; give its ticket to `succeeded`, `failed` or `undecided` afterwards.

    Args:
        max_failures: Failures in a row that open it.
        cooldown_s: How long it stays open the first time; doubles with every trial that fails.
        max_cooldown_s: Longest cool-down.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        max_failures: int = 5,
        cooldown_s: float = 1.0,
        max_cooldown_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_failures = max_failures
        self._first_cooldown_s = min(cooldown_s, max_cooldown_s)
        self._max_cooldown_s = max_cooldown_s
        self._clock = clock
        self._epoch = 0  # grows whenever tickets lose their meaning
        self._num_failures = 0
        self._cooldown_s = self._first_cooldown_s
        self._until_s = 0.0
        self._on_trial = False
        self.state = BreakerState.CLOSED
        self.num_opened = 0

    @property
    def refuses(self) -> bool:
        """Whether `allow` would raise now."""
        if self.state is BreakerState.OPEN:
            return self._clock() < self._until_s
        return self._on_trial

    def allow(self) -> int:
        """A ticket for one use of the engine. Raises EngineSuspended while it rests, or while a trial is under way."""
        if self.state is BreakerState.CLOSED:
            return self._epoch
        if self.refuses:
            raise self._refusal()
        if self.state is BreakerState.OPEN:
            self.state = BreakerState.HALF_OPEN
            logger.info("the engine is tried again after %g s", self._cooldown_s)
        self._on_trial = True
        self._epoch += 1
        return self._epoch

    def succeeded(self, ticket: int) -> None:
        """The engine answered."""
        if ticket != self._epoch:
            return
        self._num_failures = 0
        if self.state is not BreakerState.CLOSED:
            self._on_trial = False
            self._cooldown_s = self._first_cooldown_s
            self.state = BreakerState.CLOSED
            logger.info("the engine answers again: frames are accepted")

    def failed(self, ticket: int) -> None:
        """The engine raised, or did not answer in time."""
        if ticket != self._epoch:
            return
        self._num_failures += 1
        if self.state is BreakerState.HALF_OPEN:
            self._cooldown_s = min(2 * self._cooldown_s, self._max_cooldown_s)
            self._open("the engine failed its trial")
        elif self._num_failures >= self._max_failures:
            self._open(f"the engine failed {self._num_failures} times in a row")

    def undecided(self, ticket: int) -> None:
        """The engine was not reached: a broken image, a client that left, a full queue."""
        if ticket == self._epoch:
            self._on_trial = False

    def _open(self, reason: str) -> None:
        self._on_trial = False
        self._epoch += 1
        self._num_failures = 0
        self._until_s = self._clock() + self._cooldown_s
        self.state = BreakerState.OPEN
        self.num_opened += 1
        logger.error("%s: frames are refused for %g s", reason, self._cooldown_s)

    def _refusal(self) -> EngineSuspended:
        wait_s = 0.0 if self._on_trial else self._until_s - self._clock()
        retry_after_s = max(1, math.ceil(wait_s))
        return EngineSuspended(
            f"the engine failed repeatedly and is tried again soon; come back in {retry_after_s} s", retry_after_s
        )

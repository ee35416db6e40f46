"""Frames sent again, to the arm that did not answer the user: a few at a time, and the first to go under load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from bentos.router.arms import Arms, Frame
from bentos.router.metrics import Metrics
from bentos.router.observations import Answer
from bentos.router.routing import Arm, RoutingTable

PAUSE_S = 1.0
"""After a champion that had no room for a user there are no copies for so long."""
Reason = Literal["full", "busy", "overloaded", "unrouted"]


class Copies:
    """Sends copies in the background, and counts those that it does not send."""

    def __init__(self, arms: Arms, table: RoutingTable, metrics: Metrics) -> None:
        self.num_dropped: dict[Reason, int] = {"full": 0, "busy": 0, "overloaded": 0, "unrouted": 0}
        self.num_sent = 0
        self._arms = arms
        self._table = table
        self._metrics = metrics
        self._in_flight: set[asyncio.Task[None]] = set()
        self._paused_until_s = 0.0

    def send(self, frame: Frame, arm: Arm, num_users: int, then: Callable[[Answer | None], None]) -> None:
        """Copy `frame` to `arm` unless there is no room; `then` gets the answer, or None at once when it is dropped."""
        reason = self._reason_to_drop(frame, arm, num_users)
        if reason is not None:
            self.num_dropped[reason] += 1
            self._metrics.count_dropped()
            then(None)
            return
        self.num_sent += 1
        task = asyncio.get_running_loop().create_task(self._send(frame, arm, then))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    def pause(self) -> None:
        """No copies for a while: a user was turned away, and on one machine every copy takes from the users."""
        self._paused_until_s = asyncio.get_running_loop().time() + PAUSE_S

    async def settle(self) -> None:
        """Drop the copies in flight; nobody waits for them."""
        for task in list(self._in_flight):
            task.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)

    def _reason_to_drop(self, frame: Frame, arm: Arm, num_users: int) -> Reason | None:
        limits, current = self._arms.limits, self._table.current
        if frame.snapshot is not current:
            backend = frame.backend(arm)
            if backend is None or backend.url not in current.urls:
                return "unrouted"
        if num_users >= limits.busy_requests:
            return "busy"
        if asyncio.get_running_loop().time() < self._paused_until_s:
            return "overloaded"
        return "full" if len(self._in_flight) >= limits.copies_in_flight else None

    async def _send(self, frame: Frame, arm: Arm, then: Callable[[Answer | None], None]) -> None:
        then(await self._arms.ask(frame, arm, self._arms.limits.candidate_timeout_s, is_copy=True))

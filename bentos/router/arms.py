"""Asking the two arms of a routing snapshot: with which budget, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bentos.router.backends import Pools
from bentos.router.connections import BackendError, Patience
from bentos.router.messages import Request, render_request
from bentos.router.metrics import Metrics
from bentos.router.observations import Answer
from bentos.router.reminders import Reminder, Reminders
from bentos.router.routing import Arm, Backend, Snapshot

SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_IDEMPOTENT = SAFE | {b"PUT", b"DELETE"}
OTHER: dict[Arm, Arm] = {"champion": "candidate", "candidate": "champion"}


@dataclass(frozen=True)
class ForwardingLimits:
    """Budgets of time and of work in flight."""

    champion_timeout_s: float = 30.0
    """A frame that nobody answered by then is lost."""
    candidate_timeout_s: float = 1.0
    """After this the other arm is asked as well, whichever was asked first; and no copy may take longer."""
    hedged_share: float = 0.2
    """A champion that answers others while a frame is overdue is slow, not hung: at most this share of the frames is
    then given to the candidate as well. To ask twice for every one would keep an overload alive for ever."""
    hedges_at_once: int = 8
    """So many in a burst, whatever the share."""
    copies_in_flight: int = 8
    busy_requests: int = 64
    """No copies while this many users wait: they are dropped first."""
    requests_in_flight: int = 1024
    """More users than this are told to come back."""


@dataclass(slots=True)
class Frame:
    """One request, with the snapshot that it keeps to its end. `time` in seconds since the epoch."""

    request: Request
    request_id: bytes
    camera: str
    snapshot: Snapshot
    time: float
    is_detection: bool = field(init=False)
    """Whether it is a camera's frame, and not one of a detector's other doors."""

    def __post_init__(self) -> None:
        self.is_detection = self.request.method == b"POST" and self.request.path == b"/v1/detect"

    def backend(self, arm: Arm) -> Backend | None:
        """Who is that arm for this request."""
        return self.snapshot.champion if arm == "champion" else self.snapshot.candidate


class Arms:
    """Asks champions and candidates. That one does not answer is an answer too."""

    def __init__(self, pools: Pools, metrics: Metrics, limits: ForwardingLimits) -> None:
        self.limits = limits
        self._pools = pools
        self._metrics = metrics
        self._overdue = Reminders(limits.candidate_timeout_s)
        self._hedges_left = float(limits.hedges_at_once)

    async def ask(
        self, frame: Frame, arm: Arm, timeout_s: float, *, is_copy: bool = False, patience: Patience | None = None
    ) -> Answer:
        """Ask one arm of the frame's snapshot, which must have it; whoever holds `patience` may end the wait."""
        backend, request = frame.backend(arm), frame.request
        assert backend is not None
        parts = render_request(request, frame.request_id, [(b"x-shadow-copy", b"1")] if is_copy else [])
        idempotent = request.method in _IDEMPOTENT or frame.is_detection
        began = time.perf_counter()
        reply, error = None, None
        try:
            reply = await self._pools[backend.url].ask(
                parts, timeout_s, idempotent=idempotent, is_head=request.method == b"HEAD", patience=patience
            )
        except BackendError as failure:
            error = str(failure)
        answer = Answer(arm, backend, reply.status if reply else 0, (time.perf_counter() - began) * 1000, error, reply)
        if reply is not None and answer.failed:
            answer.error = f"status {reply.status}"
        if arm == "candidate" and frame.is_detection:
            answer.read()  # the candidate is on trial: what is no detector's answer must not reach a client
        self._metrics.count_backend(answer)
        return answer

    def when_overdue(self, then: Callable[[], None]) -> Reminder:
        """Call `then` after the time that a frame may wait for one arm alone. Once for each frame."""
        self._hedges_left = min(self.limits.hedges_at_once, self._hedges_left + self.limits.hedged_share)
        return self._overdue.add(then)

    def take_hedge(self, frame: Frame, arm: Arm) -> bool:
        """Whether `arm` may be asked for a frame that is overdue at the other one; if so, it counts as asked.

        The champion always: it had the candidate's frames before. The candidate, if the champion answered nobody
        meanwhile, or within the budget (as retries have one in Finagle and Envoy).
        """
        champion = frame.backend("champion")
        if arm == "champion" or champion is None:
            return True
        if not self._pools[champion.url].heard_within(self.limits.candidate_timeout_s):
            return True
        if self._hedges_left < 1.0:
            return False
        self._hedges_left -= 1.0
        return True

    def hangs(self, frame: Frame, arm: Arm) -> bool:
        """Whether there is such an arm, and it lets its users wait."""
        backend = frame.backend(arm)
        return backend is not None and self._pools[backend.url].hangs

    def can_answer(self, frame: Frame, arm: Arm) -> bool:
        """Whether there is such an arm, it does not say itself that it cannot answer, and it does not hang."""
        backend = frame.backend(arm)
        if backend is None:
            return False
        pool = self._pools[backend.url]
        return pool.ready is not False and not pool.hangs

"""Asking the two arms of a routing snapshot: with which budget, and what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bentos.router.backends import Pools
from bentos.router.connections import BackendError, Patience
from bentos.router.messages import Request, render_request
from bentos.router.metrics import Metrics
from bentos.router.observations import Answer
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

    def backend(self, arm: Arm) -> Backend | None:
        """Who is that arm for this request."""
        return self.snapshot.champion if arm == "champion" else self.snapshot.candidate

    @property
    def is_detection(self) -> bool:
        """Whether it is a camera's frame, and not one of a detector's other doors."""
        return self.request.method == b"POST" and self.request.path == b"/v1/detect"


class Arms:
    """Asks champions and candidates. That one does not answer is an answer too."""

    def __init__(self, pools: Pools, metrics: Metrics, limits: ForwardingLimits) -> None:
        self.limits = limits
        self._pools = pools
        self._metrics = metrics

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

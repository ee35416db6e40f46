"""A request to its answer: the champion, or in a canary the candidate with the champion behind it; then the copies."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from bentos.router.backends import BackendError, Pools
from bentos.router.cameras import CameraSplit
from bentos.router.messages import Reply, Request, end_to_end, error_reply, read_camera, read_request_id, render_request
from bentos.router.metrics import Metrics
from bentos.router.observations import Answer, Observation, ObservationRing
from bentos.router.routing import Arm, Backend, RoutingTable, Snapshot

_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))
_OTHER: dict[Arm, Arm] = {"champion": "candidate", "candidate": "champion"}


@dataclass(frozen=True)
class ForwardingLimits:
    """Budgets of time and of work in flight."""

    champion_timeout_s: float = 30.0
    candidate_timeout_s: float = 1.0
    """After this a canary's frame falls back to the champion."""
    copies_in_flight: int = 8
    busy_requests: int = 64
    """No copies while this many users wait: they are dropped first."""
    requests_in_flight: int = 1024
    """More users than this are told to come back."""


@dataclass(slots=True)
class Frame:
    """One POST /v1/detect, with the snapshot that it keeps to its end."""

    request: Request
    request_id: bytes
    camera: str
    snapshot: Snapshot
    time: float


@dataclass(slots=True)
class Outcome:
    """Who answered a frame, what each arm said so far, and whom a copy shall still go to."""

    served: Answer
    champion: Answer | None = None
    candidate: Answer | None = None
    fallback: bool = False
    copy_to: Arm | None = None


class Forwarder:
    """Carries requests to back ends by the routing table, and keeps what is learnt from them."""

    def __init__(
        self,
        table: RoutingTable,
        cameras: CameraSplit,
        pools: Pools,
        metrics: Metrics,
        observations: ObservationRing,
        limits: ForwardingLimits,
    ) -> None:
        self._table = table
        self._cameras = cameras
        self._pools = pools
        self._metrics = metrics
        self._observations = observations
        self._limits = limits
        self._copies: set[asyncio.Task[None]] = set()
        self._num_users = 0

    async def handle(self, request: Request) -> Reply:
        """Answer a client."""
        request_id = read_request_id(request.headers)
        snapshot = self._table.current
        if snapshot.champion is None:
            return self._own(503, "no_champion", "no model is in service yet: start it with `tca serve`", request_id)
        if self._num_users >= self._limits.requests_in_flight:
            return self._own(503, "overloaded", f"{self._num_users} requests are in flight already", request_id)
        self._num_users += 1
        began = time.perf_counter()
        try:
            if request.method == b"POST" and request.path == b"/v1/detect":
                served, reply = await self._detect(request, request_id, snapshot)
            else:
                served, reply = await self._pass_on(request, request_id, snapshot.champion)
        except asyncio.CancelledError:
            self._metrics.count_left()
            raise
        finally:
            self._num_users -= 1
        self._metrics.count_answer(served, reply.status, (time.perf_counter() - began) * 1000)
        return reply

    async def settle(self) -> None:
        """Drop the copies in flight; nobody waits for them."""
        for task in list(self._copies):
            task.cancel()
        await asyncio.gather(*self._copies, return_exceptions=True)

    def _own(self, status: int, code: str, message: str, request_id: bytes) -> Reply:
        self._metrics.count_answer("router", status, None)
        return error_reply(status, code, message, request_id=request_id, retry_after_s=1)

    async def _pass_on(self, request: Request, request_id: bytes, champion: Backend) -> tuple[str, Reply]:
        answer = await self._ask("champion", champion, request, request_id)
        return _relay(Outcome(answer, champion=answer), request, request_id)

    async def _detect(self, request: Request, request_id: bytes, snapshot: Snapshot) -> tuple[str, Reply]:
        frame = Frame(request, request_id, read_camera(request), snapshot, time.time())
        self._cameras.see(frame.camera)
        if (
            snapshot.mode == "canary"
            and snapshot.promotion == self._cameras.promotion
            and frame.camera in self._cameras.taken
        ):
            outcome = await self._canary(frame)
        else:
            outcome = await self._champion(frame)
        if outcome.fallback:
            self._metrics.count_fallback(outcome.served.arm)
        served, reply = _relay(outcome, request, request_id)
        reply.after_sent = lambda: self._after_sent(frame, outcome)
        return served, reply

    async def _champion(self, frame: Frame) -> Outcome:
        """The champion answers. If it cannot, the candidate of a canary or a warm standby is asked once."""
        champion = await self._ask_arm("champion", frame)
        candidate_stands_by = frame.snapshot.candidate is not None and frame.snapshot.mode != "shadow"
        if champion.failed and candidate_stands_by and self._seems_ready("candidate", frame):
            candidate = await self._ask_arm("candidate", frame)
            if candidate.good:
                return Outcome(candidate, champion, candidate, fallback=True)
            return Outcome(champion, champion, candidate)
        copies = frame.snapshot.mode == "shadow" and not champion.limited
        return Outcome(champion, champion, copy_to="candidate" if copies else None)

    async def _canary(self, frame: Frame) -> Outcome:
        """The candidate answers. Anything but a 2xx of it is checked with the champion, at once; a client that sends
        more than it may gets no second try.
        """
        candidate = await self._ask_arm("candidate", frame)
        if candidate.good or candidate.limited:
            return Outcome(candidate, None, candidate, copy_to="champion" if candidate.good else None)
        champion = await self._ask_arm("champion", frame)
        # both refuse the frame (a broken image, say): the client is wrong, not the candidate
        agreed = not candidate.failed and not champion.failed and not champion.good
        served = candidate if agreed or (champion.failed and not candidate.failed) else champion
        return Outcome(served, champion, candidate, fallback=served is champion)

    def _after_sent(self, frame: Frame, outcome: Outcome) -> None:
        """The client has its answer: now the copy, and the record."""
        if outcome.copy_to is not None and self._may_copy(frame, outcome.copy_to):
            task = asyncio.get_running_loop().create_task(self._copy(frame, outcome, outcome.copy_to))
            self._copies.add(task)
            task.add_done_callback(self._copies.discard)
            return
        if outcome.copy_to is not None:
            self._metrics.count_dropped()
        self._record(frame, outcome)

    def _may_copy(self, frame: Frame, arm: Arm) -> bool:
        backend = getattr(frame.snapshot, arm)
        return (
            len(self._copies) < self._limits.copies_in_flight
            and self._num_users < self._limits.busy_requests
            and backend.url in self._table.current.urls
        )

    async def _copy(self, frame: Frame, outcome: Outcome, arm: Arm) -> None:
        answer = await self._ask_arm(arm, frame, is_copy=True)
        setattr(outcome, arm, answer)
        self._record(frame, outcome)

    def _record(self, frame: Frame, outcome: Outcome) -> None:
        self._observations.record(
            Observation(
                time=frame.time,
                promotion=frame.snapshot.promotion,
                mode=frame.snapshot.mode,
                camera=frame.camera,
                request_id=frame.request_id.decode(),
                served_by=outcome.served.arm,
                fallback=outcome.fallback,
                champion=outcome.champion,
                candidate=outcome.candidate,
            )
        )

    def _seems_ready(self, arm: Arm, frame: Frame) -> bool:
        return self._pools[getattr(frame.snapshot, arm).url].ready is not False

    async def _ask_arm(self, arm: Arm, frame: Frame, is_copy: bool = False) -> Answer:
        return await self._ask(arm, getattr(frame.snapshot, arm), frame.request, frame.request_id, is_copy)

    async def _ask(
        self, arm: Arm, backend: Backend, request: Request, request_id: bytes, is_copy: bool = False
    ) -> Answer:
        """Ask one back end; that it does not answer is an answer too."""
        parts = render_request(request, request_id, [(b"x-shadow-copy", b"1")] if is_copy else [])
        timeout_s = self._limits.champion_timeout_s if arm == "champion" else self._limits.candidate_timeout_s
        idempotent = request.method in _IDEMPOTENT or request.path == b"/v1/detect"
        began = time.perf_counter()
        reply, error = None, None
        try:
            reply = await self._pools[backend.url].ask(
                parts, timeout_s, idempotent=idempotent, is_head=request.method == b"HEAD"
            )
        except BackendError as failure:
            error = str(failure)
        answer = Answer(arm, backend, reply.status if reply else 0, (time.perf_counter() - began) * 1000, error, reply)
        if reply is not None and answer.failed:
            answer.error = f"status {reply.status}"
        self._metrics.count_backend(answer)
        return answer


def _relay(outcome: Outcome, request: Request, request_id: bytes) -> tuple[str, Reply]:
    """Who served, and the answer as the client gets it: the serving arm's, or an envelope where there is none."""
    answer = outcome.served
    if answer.reply is None:
        details: dict[str, str | None] = {
            arm.arm: arm.error for arm in (outcome.champion, outcome.candidate) if arm is not None
        }
        message = "the model in service does not answer: try again"
        return "router", error_reply(503, "no_answer", message, request_id=request_id, details=details, retry_after_s=1)
    headers = end_to_end(answer.reply.headers, b"x-request-id", b"x-served-by", b"x-served-version")
    if request.method == b"HEAD":
        headers += [header for header in answer.reply.headers if header[0] == b"content-length"]
    if answer.status in (429, 503) and answer.reply.headers and not any(name == b"retry-after" for name, _ in headers):
        headers.append((b"retry-after", b"1"))
    headers += [
        (b"x-request-id", request_id),
        (b"x-served-by", answer.arm.encode()),
        (b"x-served-version", answer.backend.version.encode()),
    ]
    return answer.arm, Reply(answer.status, headers, answer.reply.body)

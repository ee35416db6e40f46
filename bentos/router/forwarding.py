"""A client's request to its answer: whom it is meant for, what the client gets, and what is kept of it."""

from __future__ import annotations

import asyncio
import time

from bentos.router.arms import OTHER, SAFE, Arms, Frame
from bentos.router.cameras import CameraSplit
from bentos.router.copies import Copies
from bentos.router.fallback import Outcome, serve
from bentos.router.messages import HOP_BY_HOP, Reply, Request, end_to_end, error_reply, read_camera, read_request_id
from bentos.router.metrics import Metrics
from bentos.router.observations import Answer, Observation, ObservationRing
from bentos.router.routing import Arm, RoutingTable

_NOT_RELAYED = HOP_BY_HOP | {b"x-request-id", b"x-served-by", b"x-served-version"}
_OVERLOADED = 503


class Forwarder:
    """Carries requests to back ends by the routing table, and keeps what is learnt from them."""

    def __init__(
        self,
        table: RoutingTable,
        cameras: CameraSplit,
        arms: Arms,
        copies: Copies,
        metrics: Metrics,
        observations: ObservationRing,
    ) -> None:
        self._table = table
        self._cameras = cameras
        self._arms = arms
        self._copies = copies
        self._metrics = metrics
        self._observations = observations
        self._num_users = 0

    async def handle(self, request: Request) -> Reply:
        """Answer a client."""
        request_id = read_request_id(request.headers)
        snapshot = self._table.current
        if snapshot.champion is None:
            return self._own(503, "no_champion", "no model is in service yet: start it with `tca serve`", request_id)
        if self._num_users >= self._arms.limits.requests_in_flight:
            return self._own(503, "overloaded", f"{self._num_users} requests are in flight already", request_id)
        frame = Frame(request, request_id, read_camera(request), snapshot, time.time())
        self._num_users += 1
        began = time.perf_counter()
        try:
            served, reply = await (self._detect(frame) if frame.is_detection else self._pass_on(frame))
        except asyncio.CancelledError:
            self._metrics.count_left()
            raise
        finally:
            self._num_users -= 1
        self._metrics.count_answer(served, reply.status, (time.perf_counter() - began) * 1000)
        return reply

    def _own(self, status: int, code: str, message: str, request_id: bytes) -> Reply:
        self._metrics.count_answer("router", status, None)
        return error_reply(status, code, message, request_id=request_id, retry_after_s=1)

    async def _pass_on(self, frame: Frame) -> tuple[str, Reply]:
        """The champion's other doors. Only what changes nothing may go to the candidate when the champion cannot."""
        if frame.request.method in SAFE:
            return _relay(await serve(self._arms, frame, "champion"), frame)
        told = await self._arms.ask(frame, "champion", self._arms.limits.champion_timeout_s)
        return _relay(Outcome(told, champion=told), frame)

    async def _detect(self, frame: Frame) -> tuple[str, Reply]:
        self._cameras.see(frame.camera)
        meant = self._meant(frame)
        outcome = await serve(self._arms, frame, meant)
        if outcome.fallback:
            self._metrics.count_fallback(outcome.served.arm)
        if outcome.champion is not None and outcome.champion.status == _OVERLOADED:
            self._copies.pause()
        served, reply = _relay(outcome, frame)
        reply.after_sent = lambda: self._after_sent(frame, outcome, meant)
        return served, reply

    def _meant(self, frame: Frame) -> Arm:
        """Who shall answer this frame: in a canary, for its cameras, the candidate."""
        ours = frame.snapshot.mode == "canary" and frame.snapshot.promotion == self._cameras.promotion
        return "candidate" if ours and frame.camera in self._cameras.taken else "champion"

    def _after_sent(self, frame: Frame, outcome: Outcome, meant: Arm) -> None:
        """The client has its answer: now the copy, and the record."""
        arm = self._copy_to(frame, outcome, meant)
        if arm is None:
            self._record(frame, outcome)
            return

        def keep(copied: Answer | None) -> None:
            setattr(outcome, arm, copied)
            self._record(frame, outcome)

        self._copies.send(frame, arm, self._num_users, keep)

    def _copy_to(self, frame: Frame, outcome: Outcome, meant: Arm) -> Arm | None:
        """The other arm in a shadow, and behind a canary's answer; and one that hangs, so that it is seen to return."""
        served, other = outcome.served, OTHER[outcome.served.arm]
        if getattr(outcome, other) is not None or served.limited or frame.backend(other) is None:
            return None
        is_pair = frame.snapshot.mode == "shadow" or (meant == "candidate" and served.good)
        return other if is_pair or other == meant else None

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


def _relay(outcome: Outcome, frame: Frame) -> tuple[str, Reply]:
    """Who served, and the answer as the client gets it: the serving arm's, or an envelope where there is none."""
    answer, request_id = outcome.served, frame.request_id
    if answer.reply is None:
        details: dict[str, str | None] = {
            arm.arm: arm.error for arm in (outcome.champion, outcome.candidate) if arm is not None
        }
        message = "the model in service does not answer: try again"
        return "router", error_reply(503, "no_answer", message, request_id=request_id, details=details, retry_after_s=1)
    headers = end_to_end(answer.reply.headers, _NOT_RELAYED)
    if frame.request.method == b"HEAD":
        headers += [header for header in answer.reply.headers if header[0] == b"content-length"]
    if answer.status in (429, 503) and answer.reply.headers and not any(name == b"retry-after" for name, _ in headers):
        headers.append((b"retry-after", b"1"))
    headers += [
        (b"x-request-id", request_id),
        (b"x-served-by", answer.arm.encode()),
        (b"x-served-version", answer.backend.version.encode()),
    ]
    return answer.arm, Reply(answer.status, headers, answer.reply.body)

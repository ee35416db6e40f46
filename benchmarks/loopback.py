"""A client of few instructions, in a closed or an open loop, so that not the client is measured."""

from __future__ import annotations

import asyncio
import gc
import itertools
import re
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvloop

from benchmarks.report import percentile

T = TypeVar("T")
LOST = 0
"""The status of a request without an answer."""
_PATIENCE_S = 30.0  # how long after its last frame a load waits for answers
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def post(path: str, body: bytes, content_type: str, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """A POST as it goes over the wire."""
    lines = [
        f"POST {path} HTTP/1.1", "host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers),
        f"content-type: {content_type}", f"content-length: {len(body)}", "", "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + body


def detect_request(body: bytes, camera: str) -> bytes:
    """POST /v1/detect as it goes over the wire."""
    return post("/v1/detect", body, "image/jpeg", [("x-camera-id", camera)])


@dataclass
class Tally:
    """What became of some requests.

    Attributes:
        seconds: How long it all took.
        client_cpu_s: CPU time of this process.
        latencies_ms: From the scheduled moment to the last byte of the answer; in a closed loop from the sending.
        answer_ms: From the sending to the last byte, by status.
        late_ms: How late the client itself was, for frames that had a free connection when they were due.
        statuses: Answers by status.
    """

    seconds: float = 0.0
    client_cpu_s: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    answer_ms: dict[int, list[float]] = field(default_factory=dict)
    late_ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def count(self, status: int, latency_ms: float, answer_ms: float | None = None) -> None:
        self.statuses[status] += 1
        self.latencies_ms.append(latency_ms)
        self.answer_ms.setdefault(status, []).append(latency_ms if answer_ms is None else answer_ms)

    @property
    def num_sent(self) -> int:
        return sum(self.statuses.values())

    @property
    def all_good(self) -> bool:
        return set(self.statuses) == {200}

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.statuses[200] / self.seconds

    @property
    def client_cpu_ms(self) -> float:
        """CPU time that this process spent on one request, ms."""
        return 1000 * self.client_cpu_s / max(1, self.num_sent)

    def p(self, percent: float) -> float:
        """A percentile of the latency, ms."""
        return percentile(self.latencies_ms, percent / 100)

    def p_late(self, percent: float) -> float:
        """A percentile of the client's own lateness, ms; 0 when no frame had a free connection."""
        return percentile(self.late_ms, percent / 100) if self.late_ms else 0.0

    def require_good(self, what: str) -> Tally:
        """Return self. Raises RuntimeError unless every answer was 200: a rate of errors is no rate."""
        if not self.all_good:
            raise RuntimeError(f"{what}: answers other than 200: {dict(self.statuses)} ({LOST}: none)")
        return self


class Connection(asyncio.Protocol):
    """One kept connection, one request at a time; answers carry their length or come in chunks."""

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect to `port` of the loopback address."""
        return (await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port))[1]

    def __init__(self) -> None:
        self._answer: asyncio.Future[int] | None = None
        self._pending = bytearray()
        self._end = 0  # of the answer, of a chunked one of its head; 0: the head is not complete
        self._is_chunked = False

    async def ask(self, request: bytes) -> int:
        """Send a ready-made request and return the status, `LOST` if the connection ends."""
        if self.is_closed:
            return LOST
        self._pending.clear()
        self._end = 0
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    @property
    def is_closed(self) -> bool:
        """Whether it ended, from either side."""
        return bool(self._transport.is_closing())

    def close(self) -> None:
        """Close at once."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(LOST)

    def data_received(self, data: bytes) -> None:
        self._pending += data
        if not self._end and (head := self._pending.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._pending, 0, head)
            self._is_chunked = length is None and b"chunked" in self._pending[:head].lower()
            self._end = head + 4 + (int(length[1]) if length else 0)
        is_whole = not self._is_chunked or self._pending.endswith(b"\r\n0\r\n\r\n")
        if self._end and is_whole and len(self._pending) >= self._end:
            self._finish(int(self._pending[9:12]))

    def _finish(self, status: int) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)


def closed_loop(port: int, requests: Sequence[bytes], num_connections: int, seconds: float) -> Tally:
    """Each connection sends its next request as soon as it has the answer to the last."""
    return _run(_closed_loop(port, requests, num_connections, seconds))


def open_loop(
    port: int, requests: Sequence[Sequence[bytes]], rate: float, seconds: float, phases: Sequence[float]
) -> Tally:
    """Cameras that wait for nobody: one connection and one fixed schedule each, together `rate` frames a second.

    Args:
        port: Port of the service.
        requests: For each camera what it sends, over and over.
        rate: Frames a second of all cameras.
        seconds: Frames are scheduled for so long; all of them are sent, late ones too.
        phases: For each camera when its first frame is due, in periods of a camera, 0..1.

    Returns:
        The tally; latency counts from the scheduled moment, so that waiting for the frame before counts too.
    """
    return _run(_open_loop(port, requests, rate, seconds, phases))


def _run(load: Coroutine[Any, Any, T]) -> T:
    """Run a load with the garbage collector off: its pauses would count as the service's."""
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(load)
    finally:
        gc.enable()


async def _closed_loop(port: int, requests: Sequence[bytes], num_connections: int, seconds: float) -> Tally:
    tally = Tally()
    connections = [await Connection.open(port) for _ in range(num_connections)]
    began, cpu = time.perf_counter(), time.process_time()

    async def keep_asking(number: int) -> None:
        for index in itertools.count(number):
            sent = time.perf_counter()
            if sent > began + seconds:
                return
            status = await connections[number].ask(requests[index % len(requests)])
            tally.count(status, (time.perf_counter() - sent) * 1000)
            if status == LOST:
                return

    patience = asyncio.create_task(_give_up(connections, seconds))
    await asyncio.gather(*map(keep_asking, range(num_connections)))
    patience.cancel()
    return _ended(tally, connections, began, cpu)


async def _open_loop(
    port: int, requests: Sequence[Sequence[bytes]], rate: float, seconds: float, phases: Sequence[float]
) -> Tally:
    tally = Tally()
    connections = [await Connection.open(port) for _ in requests]
    period_s = len(requests) / rate
    began, cpu = time.perf_counter() + 0.05, time.process_time()

    async def film(camera: int) -> None:
        for index in itertools.count():
            due = began + (phases[camera] + index) * period_s
            if due > began + seconds:
                return
            if (delay_s := due - time.perf_counter()) > 0:
                await asyncio.sleep(delay_s)
                tally.late_ms.append((time.perf_counter() - due) * 1000)
            sent = time.perf_counter()
            if connections[camera].is_closed:  # some servers close after a refusal; a camera then connects anew
                if patience.done():
                    return
                connections[camera] = await Connection.open(port)
            status = await connections[camera].ask(requests[camera][index % len(requests[camera])])
            now = time.perf_counter()
            # The loop's timer has steps of 1 ms: a frame sent early must not look faster for it.
            tally.count(status, (now - min(due, sent)) * 1000, (now - sent) * 1000)

    patience = asyncio.create_task(_give_up(connections, seconds))
    await asyncio.gather(*map(film, range(len(requests))))
    patience.cancel()
    return _ended(tally, connections, began, cpu)


async def _give_up(connections: Sequence[Connection], seconds: float) -> None:
    """A service that has not answered long after the end answers no more."""
    await asyncio.sleep(seconds + _PATIENCE_S)
    for connection in connections:
        connection.close()


def _ended(tally: Tally, connections: Sequence[Connection], began: float, cpu: float) -> Tally:
    tally.seconds, tally.client_cpu_s = time.perf_counter() - began, time.process_time() - cpu
    for connection in connections:
        connection.close()
    return tally

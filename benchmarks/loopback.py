"""Real processes on free loopback ports, and a client of few instructions, so that not the client is measured."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import uvloop

from benchmarks.report import ROOT, percentile

T = TypeVar("T")
LOST = 0
"""The status of a request without an answer."""
_GRACE_S = 15.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@contextlib.contextmanager
def started(module: str, *arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m module` in a session of its own; its output goes to `log`. On leaving the block it is stopped."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def await_line(process: subprocess.Popen[bytes], log: Path, pattern: str, patience_s: float = 30.0) -> re.Match[str]:
    """Wait until the output of `process` matches. Raises RuntimeError when it ends, or does not by then."""
    deadline = time.monotonic() + patience_s
    while not (found := re.search(pattern, log.read_text(encoding="utf-8", errors="replace"))):
        _require_hope(process, log, deadline)
        time.sleep(0.02)
    return found


def await_ready(process: subprocess.Popen[bytes], log: Path, url: str, patience_s: float = 120.0) -> None:
    """Wait until `url`/readyz answers 200. Raises RuntimeError when `process` ends, or does not by then."""
    deadline = time.monotonic() + patience_s
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/readyz", timeout=2.0) as answer:
            if answer.status == 200:
                return
        _require_hope(process, log, deadline)
        time.sleep(0.1)


def _require_hope(process: subprocess.Popen[bytes], log: Path, deadline: float) -> None:
    if process.poll() is not None or time.monotonic() > deadline:
        state = "did not start in time" if process.poll() is None else f"ended with {process.returncode}"
        tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(map(str, process.args))} {state}:\n{tail}")  # type: ignore[arg-type]


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its children, s; the kernel counts in steps of 10 ms."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return float(sum(sum(one.cpu_times()[:2]) for one in family))


def detect_request(body: bytes, camera: str) -> bytes:
    """POST /v1/detect as it goes over the wire."""
    head = (
        f"POST /v1/detect HTTP/1.1\r\nhost: 127.0.0.1\r\nx-camera-id: {camera}\r\n"
        f"content-type: image/jpeg\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass
class Tally:
    """What became of some requests."""

    seconds: float = 0.0
    client_cpu_s: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def count(self, status: int, latency_ms: float) -> None:
        self.statuses[status] += 1
        self.latencies_ms.append(latency_ms)

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

    def require_good(self, what: str) -> Tally:
        """Return self. Raises RuntimeError unless every answer was 200: a rate of errors is no rate."""
        if not self.all_good:
            raise RuntimeError(f"{what}: answers other than 200: {dict(self.statuses)} ({LOST}: none)")
        return self


class Connection(asyncio.Protocol):
    """One kept connection, one request at a time; answers must carry their length."""

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect to `port` of the loopback address."""
        return (await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port))[1]

    def __init__(self) -> None:
        self._answer: asyncio.Future[int] | None = None
        self._pending = bytearray()
        self._end = 0

    async def ask(self, request: bytes) -> int:
        """Send a ready-made request and return the status, `LOST` if the connection ends."""
        if self._transport.is_closing():
            return LOST
        self._pending.clear()
        self._end = 0
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

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
            self._end = head + 4 + (int(length[1]) if length else 0)
        if self._end and len(self._pending) >= self._end:
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
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(load)


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

    await asyncio.gather(*map(keep_asking, range(num_connections)))
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
            status = await connections[camera].ask(requests[camera][index % len(requests[camera])])
            tally.count(status, (time.perf_counter() - due) * 1000)

    await asyncio.gather(*map(film, range(len(requests))))
    return _ended(tally, connections, began, cpu)


def _ended(tally: Tally, connections: Sequence[Connection], began: float, cpu: float) -> Tally:
    tally.seconds, tally.client_cpu_s = time.perf_counter() - began, time.process_time() - cpu
    for connection in connections:
        connection.close()
    return tally

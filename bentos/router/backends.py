"""Pooled HTTP/1.1 client connections to the detectors, and whether each says it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import cast
from urllib.parse import urlsplit

import httptools

from bentos.router.messages import Headers, Reply, Request, render_request

MAX_IDLE_CONNECTIONS = 64
MAX_IDLE_S = 4.0
"""Servers of the uvicorn family close a kept connection after 5 s: leave it before they do."""
CONNECT_TIMEOUT_S = 1.0
_log = logging.getLogger("router")


class BackendError(Exception):
    """A back end gave no answer; the message says how, in a word or two."""


class DroppedUnanswered(BackendError):
    """The connection ended before the first byte of an answer."""


class BackendConnection(asyncio.Protocol):
    """One connection to a back end, one request at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser: httptools.HttpResponseParser | None = None
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Reply] | None = None
        self._is_head = False
        self.reusable = False
        self.idle_since = 0.0

    async def exchange(self, parts: list[bytes], timeout_s: float, is_head: bool = False) -> Reply:
        """Send a rendered request and return its whole answer. Raises BackendError."""
        if self._transport is None or self._transport.is_closing():
            raise DroppedUnanswered("closed before answering")
        self._parser = httptools.HttpResponseParser(self)
        self._headers: Headers = []
        self._body: list[bytes] = []
        self._answered = self._in_body = self.reusable = False
        self._ends_with_connection = True
        self._is_head = is_head
        self._answer = self._loop.create_future()
        timer = self._loop.call_later(
            timeout_s, self._fail, BackendError(f"no answer within {timeout_s * 1000:.0f} ms")
        )
        self._transport.writelines(parts)
        try:
            return await self._answer
        finally:
            timer.cancel()
            self._answer = self._parser = None
            self.idle_since = self._loop.time()
            if not self.reusable:
                self.close()

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._transport is None or self._transport.is_closing()

    def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._in_flight() and self._in_body and self._ends_with_connection and exc is None:
            self._finish(keep_alive=False)
        elif self._in_flight() and self._answered:
            self._fail(BackendError("closed in the middle of its answer"))
        else:
            self._fail(DroppedUnanswered("closed before answering"))

    def data_received(self, data: bytes) -> None:
        if self._parser is None:  # nobody asked: whatever it is, it must not be taken for the next answer
            self.close()
            return
        self._answered = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(BackendError(f"its answer is not HTTP/1.1: {error}"))

    # What the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        if self._parser.get_status_code() < 200:
            self._headers.clear()
            return
        self._in_body = True
        self._ends_with_connection = not any(
            name in (b"content-length", b"transfer-encoding") for name, _ in self._headers
        )
        if self._is_head:
            self._finish(keep_alive=False)  # the parser would wait for the body that content-length announces

    def on_body(self, chunk: bytes) -> None:
        self._body.append(chunk)

    def on_message_complete(self) -> None:
        if self._in_body and self._parser is not None:
            self._finish(keep_alive=self._parser.should_keep_alive())

    def _in_flight(self) -> bool:
        return self._answer is not None and not self._answer.done()

    def _finish(self, keep_alive: bool) -> None:
        if self._answer is not None and not self._answer.done() and self._parser is not None:
            # an answer that came before the body was sent leaves the rest of it in the way
            unsent = self._transport.get_write_buffer_size() if self._transport is not None else 0
            self.reusable = keep_alive and not unsent
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._answer.set_result(Reply(self._parser.get_status_code(), self._headers, body))

    def _fail(self, error: BackendError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


class Pool:
    """Connections to one back end, and how much is in flight there."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self.url = url
        self.host = address.hostname or ""
        self.port = address.port or 80
        self.in_flight = 0
        self.ready: bool | None = None
        """What /readyz said last; None before the first look."""
        self._idle: deque[BackendConnection] = deque()

    async def ask(self, parts: list[bytes], timeout_s: float, *, idempotent: bool, is_head: bool = False) -> Reply:
        """Send a rendered request, on a kept connection if there is one, and return the whole answer.

        A kept connection that the back end closed just then is replaced once, if the request may be repeated.

        Raises:
            BackendError: No answer: refused, dropped, malformed, or not within `timeout_s`.
        """
        self.in_flight += 1
        try:
            connection = self._take_idle()
            if connection is not None:
                try:
                    return await self._exchange(connection, parts, timeout_s, is_head)
                except DroppedUnanswered:
                    if not idempotent:
                        raise
            return await self._exchange(await self._connect(timeout_s), parts, timeout_s, is_head)
        finally:
            self.in_flight -= 1

    async def look(self, timeout_s: float) -> None:
        """Ask /readyz and keep what it said in `ready`. Is not counted as in flight."""
        request = Request(b"GET", b"/readyz", [(b"host", b"%s:%d" % (self.host.encode(), self.port))], b"")
        ready = False
        with contextlib.suppress(BackendError):
            connection = await self._connect(timeout_s)
            reply = await self._exchange(connection, render_request(request, b"readiness"), timeout_s)
            ready = reply.status == 200
        if ready != self.ready:
            _log.info("%s is %s", self.url, "ready" if ready else "not ready")
        self.ready = ready

    def close_idle(self) -> None:
        """Close the connections on which nothing is in flight."""
        while self._idle:
            self._idle.pop().close()

    async def _connect(self, timeout_s: float) -> BackendConnection:
        loop = asyncio.get_running_loop()
        try:
            # not wait_for: in Python 3.11 it forgets a cancellation that comes together with the connection
            async with asyncio.timeout(min(timeout_s, CONNECT_TIMEOUT_S)):
                _, connection = await loop.create_connection(BackendConnection, self.host, self.port)
        except TimeoutError:
            raise BackendError("no connection in time") from None
        except OSError as error:
            raise BackendError(f"no connection: {error.strerror or type(error).__name__}") from None
        return connection

    async def _exchange(
        self, connection: BackendConnection, parts: list[bytes], timeout_s: float, is_head: bool = False
    ) -> Reply:
        reply = await connection.exchange(parts, timeout_s, is_head)
        if connection.reusable and len(self._idle) < MAX_IDLE_CONNECTIONS:
            self._idle.append(connection)
        else:
            connection.close()
        return reply

    def _take_idle(self) -> BackendConnection | None:
        oldest_allowed = asyncio.get_running_loop().time() - MAX_IDLE_S
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and connection.idle_since > oldest_allowed:
                return connection
            connection.close()
        return None


class Pools:
    """One pool for each back end that is routed to, or that still has something in flight."""

    def __init__(self) -> None:
        self._pools: dict[str, Pool] = {}
        self._routed: frozenset[str] = frozenset()
        self._changed = asyncio.Event()

    def __getitem__(self, url: str) -> Pool:
        pool = self._pools.get(url)
        if pool is None:
            pool = self._pools[url] = Pool(url)
        return pool

    def keep(self, urls: frozenset[str]) -> None:
        """Route to `urls` only: the others lose their idle connections now, and go when they have finished."""
        self._routed = urls
        self._changed.set()
        for url in urls:
            self[url]
        self.sweep()

    def sweep(self) -> None:
        """Forget the pools that are neither routed to nor busy."""
        for url, pool in list(self._pools.items()):
            if url not in self._routed:
                pool.close_idle()
                if not pool.in_flight:
                    del self._pools[url]

    def in_flight(self) -> dict[str, int]:
        """Requests and copies in flight, by url."""
        return {url: pool.in_flight for url, pool in self._pools.items()}

    async def watch(self, interval_s: float) -> None:
        """Look at the readiness of every routed back end, for ever; at once after a change of routing."""
        while True:
            self._changed.clear()
            self.sweep()
            await asyncio.gather(*(self[url].look(timeout_s=2.0) for url in self._routed))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await self._changed.wait()

"""The HTTP/1.1 server: bodies read whole up to a limit, one request of a connection at a time, drained on demand.

A handler is `async (Request) -> Reply`. It is cancelled when its client leaves.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

import httptools

from bentos.router.messages import Headers, Reply, Request, error_reply, read_request_id, render_reply

Handler = Callable[[Request], Awaitable[Reply]]
_log = logging.getLogger("router")


@dataclass(frozen=True)
class ListenerLimits:
    """What one connection may cost, and all together."""

    body_bytes: int = 32 * 1024 * 1024
    all_bodies_bytes: int = 256 * 1024 * 1024
    """Of all connections at one time: beyond it the large ones are refused, so that slow clients cannot fill memory."""
    small_body_bytes: int = 1024 * 1024
    """A body up to this, as a camera's frame is, always finds room."""
    head_bytes: int = 64 * 1024
    idle_s: float = 120.0
    """A kept connection without a request is closed after this."""
    reading_s: float = 60.0
    """A request must have arrived whole after this."""
    lingering_s: float = 10.0
    """How long the rest of a refused body is read and thrown away, so that the client can read why."""


class Listener:
    """Accepts connections and hands their requests to `handler`."""

    def __init__(self, handler: Handler, limits: ListenerLimits | None = None) -> None:
        self.handler = handler
        self.limits = limits or ListenerLimits()
        self.connections: set[Connection] = set()
        self.num_held_bytes = 0
        """Of bodies that are arriving or not yet answered."""
        self.draining = False
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port (useful when `port` is 0). Raises OSError when it is in use."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), host, port, backlog=1024)
        self._sweeper = loop.create_task(self._sweep())
        return int(self._server.sockets[0].getsockname()[1])

    async def drain(self, deadline_s: float) -> bool:
        """Accept nothing more, finish what is in flight, close. Returns False when the deadline cut some off."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close_when_idle()
        finished = True
        if self.connections:
            try:
                async with asyncio.timeout(deadline_s):
                    await self._empty.wait()
            except TimeoutError:
                finished = False
        for connection in list(self.connections):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
        return finished

    def forget(self, connection: Connection) -> None:
        """Called by a connection that is gone."""
        self.connections.discard(connection)
        if self.draining and not self.connections:
            self._empty.set()

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(5.0)
            for connection in list(self.connections):
                connection.close_if_stale(loop.time())


class Connection(asyncio.Protocol):
    """One client connection. httptools calls the `on_...` methods while bytes are fed to it."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[Request | Reply] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._lingering = False
        self._writable = True
        self._since = self._loop.time()
        self._reading = self._ended_one = False
        self._held_bytes = 0  # of the listener's, those that are here
        self._clear()

    def _clear(self) -> None:
        self._target = b""
        self._headers: Headers = []
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._in_head = True

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._listener.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()
        self._waiting.clear()
        self._hold(-self._held_bytes)
        self._parser = None  # parser and connection refer to each other
        self._listener.forget(self)

    def data_received(self, data: bytes) -> None:
        if self._lingering or self._parser is None:
            return
        self._ended_one = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._closing = True  # the request itself is answered; what follows it is no HTTP/1.1
        except httptools.HttpParserError as error:
            if not self._lingering:
                self._refuse(error_reply(400, "bad_request", f"this is not HTTP/1.1: {error}"))
        if self._in_head and self._reading and not self._lingering:
            if not self._ended_one:  # else most of `data` may be the body of the message before
                self._head_bytes += len(data)
            if self._head_bytes > self._listener.limits.head_bytes:
                self._refuse(
                    error_reply(
                        431, "headers_too_large", f"send at most {self._listener.limits.head_bytes} bytes of headers"
                    )
                )
        self._start_next()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._start_next()

    # What the parser calls

    def on_message_begin(self) -> None:
        self._clear()
        self._reading = True
        self._since = self._loop.time()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers of a chunked body are dropped
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        expects = False
        for name, value in self._headers:
            if name == b"content-length" and int(value) > self._listener.limits.body_bytes:
                self._refuse_body()
            elif name == b"expect" and value.lower() == b"100-continue":
                expects = True
        if expects and not self._lingering and self._task is None and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, chunk: bytes) -> None:
        if self._lingering:
            return
        limits = self._listener.limits
        self._body_bytes += len(chunk)
        self._body.append(chunk)
        self._hold(len(chunk))
        if self._body_bytes > limits.body_bytes:
            self._refuse_body()
        elif self._listener.num_held_bytes > limits.all_bodies_bytes and self._body_bytes > limits.small_body_bytes:
            message = "too many large bodies are arriving at once"
            self._refuse(
                error_reply(503, "overloaded", message, request_id=read_request_id(self._headers), retry_after_s=1)
            )

    def on_message_complete(self) -> None:
        self._reading, self._ended_one = False, True
        if self._lingering or self._parser is None:
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        keep_alive = self._parser.should_keep_alive()
        self._waiting.append(Request(self._parser.get_method(), self._target, self._headers, body, keep_alive))
        self._clear()

    # The requests of this connection, one after the other

    def _refuse_body(self) -> None:
        limit = self._listener.limits.body_bytes
        message = f"the body is larger than {limit // 1024**2} MB ({limit} bytes): send a smaller image"
        request_id = read_request_id(self._headers)
        self._refuse(error_reply(413, "body_too_large", message, request_id=request_id, details={"limit_bytes": limit}))

    def _refuse(self, reply: Reply) -> None:
        """Answer `reply` after what is in flight, then close; what still arrives is thrown away."""
        if not self._lingering:
            self._lingering = True
            self._hold(-self._body_bytes)
            self._clear()
            self._waiting.append(reply)

    def _hold(self, num_bytes: int) -> None:
        self._held_bytes += num_bytes
        self._listener.num_held_bytes += num_bytes

    def _start_next(self) -> None:
        if self._task is not None or not self._writable or not self._waiting or self._transport is None:
            return
        message = self._waiting.popleft()
        if isinstance(message, Reply):
            self._write(message, keep_alive=False)
            if not self._transport.is_reading():
                self._transport.resume_reading()
            self._loop.call_later(self._listener.limits.lingering_s, self._transport.close)
            return
        if self._waiting:
            self._transport.pause_reading()
        self._task = self._loop.create_task(self._answer(message))

    async def _answer(self, request: Request) -> None:
        try:
            reply = await self._listener.handler(request)
        except asyncio.CancelledError:
            raise
        except Exception:
            _log.exception("a defect of the router")
            message = "a defect of the router; its log has the trace"
            reply = error_reply(500, "internal", message, request_id=read_request_id(request.headers))
        self._task = None
        if self._held_bytes:  # else the client has left
            self._hold(-len(request.body))
        last = not request.keep_alive or (self._closing and not self._waiting and not self._reading)
        self._write(reply, not last, is_head=request.method == b"HEAD")
        if reply.after_sent is not None:
            self._loop.call_soon(reply.after_sent)
        if self._transport is None:
            return
        if last:
            self._transport.close()
        elif not self._waiting and not self._transport.is_reading() and not self._transport.is_closing():
            self._transport.resume_reading()
        self._start_next()

    def _write(self, reply: Reply, keep_alive: bool, is_head: bool = False) -> None:
        self._since = self._loop.time()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(render_reply(reply, keep_alive, is_head))

    # Closing

    def close_when_idle(self) -> None:
        """Close now if nothing is in flight or arriving, else after the answer."""
        self._closing = True
        if self._task is None and not self._waiting and not self._reading and self._transport is not None:
            self._transport.close()

    def close_if_stale(self, now: float) -> None:
        """Close one that was idle, was sending one request, or did not fetch its answers, for too long."""
        if self._task is not None or self._transport is None:
            return
        limits = self._listener.limits
        if self._reading and not self._waiting:
            if now - self._since > limits.reading_s:
                self._refuse(
                    error_reply(408, "request_timeout", f"the request did not arrive within {limits.reading_s:.0f} s")
                )
                self._start_next()
        elif now - self._since > limits.idle_s:
            self.abort()  # a close would wait for ever for a client that reads nothing

    def abort(self) -> None:
        """Close at once, whatever is in flight."""
        if self._transport is not None:
            self._transport.abort()

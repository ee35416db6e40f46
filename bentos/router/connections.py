"""One HTTP/1.1 client connection to a detector, one request at a time."""

from __future__ import annotations

import asyncio
from typing import cast

import httptools

from bentos.router.messages import Headers, Reply

MAX_REPLY_BYTES = 64 * 1024**2
"""A back end that sends more than this has gone mad; a detector's answer has a thousandth of it."""


class BackendError(Exception):
    """A back end gave no answer; the message says how, in a word or two."""


class DroppedUnanswered(BackendError):
    """The connection ended before the first byte of an answer."""


class Patience:
    """A wait for one answer that somebody else may end. Costs next to nothing where nobody does."""

    def __init__(self) -> None:
        self._connection: BackendConnection | None = None
        self._ended: str | None = None

    def begin(self, connection: BackendConnection) -> None:
        """The wait is on this connection now. Raises BackendError when it was ended before."""
        if self._ended is not None:
            raise BackendError(self._ended)
        self._connection = connection

    def end(self, why: str) -> None:
        """Whoever waits gets BackendError(why)."""
        self._ended = why
        if self._connection is not None:
            self._connection.give_up(why)


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

    async def exchange(
        self, parts: list[bytes], timeout_s: float, is_head: bool = False, patience: Patience | None = None
    ) -> Reply:
        """Send a rendered request and return its whole answer. Raises BackendError."""
        if self._transport is None or self._transport.is_closing():
            raise DroppedUnanswered("closed before answering")
        self._parser = httptools.HttpResponseParser(self)
        self._headers: Headers = []
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._answered = self._in_body = self.reusable = False
        self._ends_with_connection = True
        self._is_head = is_head
        self._answer = self._loop.create_future()
        timer = self._loop.call_later(
            timeout_s, self._fail, BackendError(f"no answer within {timeout_s * 1000:.0f} ms")
        )
        try:
            if patience is not None:
                patience.begin(self)
            self._transport.writelines(parts)
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

    def give_up(self, why: str) -> None:
        """End the exchange under way with BackendError(why); the connection is of no use any more."""
        self._fail(BackendError(why))

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

    def on_message_begin(self) -> None:
        if not self._in_flight():
            self.reusable = False  # an answer nobody asked for, of which the rest may still come

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
        self._body_bytes += len(chunk)
        if self._body_bytes > MAX_REPLY_BYTES:
            self._fail(BackendError(f"its answer is larger than {MAX_REPLY_BYTES // 1024**2} MB"))
        else:
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

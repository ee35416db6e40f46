"""HTTP on the wire, within limits: uvicorn itself bounds neither how large a header is nor how long it takes.

Size and time of a body are the app's business (see `request`); this is about what comes before an app is asked, or
after it has answered: endless headers, clients that send a byte now and then, and what is no HTTP at all. All of it
gets the error envelope, as far as the client listens.
"""

from __future__ import annotations

import asyncio
import resource
import secrets
from typing import Any

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bentos.detector.errors import BadRequest, DetectorError, HeadersTooLarge, HeaderTimeout, Overloaded

MAX_HEADER_BYTES = 32_768
HEADER_TIMEOUT_S = 10.0
_OTHER_PROTOCOL = (b"upgrade", b"connection", b"http2-settings")
_BODY_AT_ONCE_BYTES = 262_144  # more than a frame of a traffic camera usually has
_FILES_KEPT_BACK = 256  # for the model, the records, the log and the libraries


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 over httptools, which drops connections that take too much."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.parser = _Parser(self)
        self._deadline: asyncio.TimerHandle | None = None
        self._in_header = False
        self._num_header_bytes = 0
        self._problem: DetectorError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > max_connections():
            self._problem = Overloaded("too many connections are open; come back in 1 s", 1)
            self.send_400_response("")
        else:
            self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_header:
            self._num_header_bytes += len(data)
        super().data_received(data)
        if self._in_header and self._num_header_bytes > MAX_HEADER_BYTES:
            self._problem = _headers_too_large()
            self.send_400_response("")
        elif self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            # The next header has begun, or the rest of a body arrives that was refused.
            self._start_deadline()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_header, self._num_header_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._in_header = False
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            return  # it begins anew, see `_Parser`
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEADER_BYTES:
            self._problem = _headers_too_large()
            raise ValueError("the parser turns this into `send_400_response`")
        super().on_headers_complete()
        self._stop_deadline()

    def on_body(self, body: bytes) -> None:
        """Wake the app once for a frame, not for each piece of it that arrives."""
        cycle = self.cycle
        if cycle.response_complete or (self.parser.should_upgrade() and self._should_upgrade()):
            return
        cycle.body += body
        if len(cycle.body) > _BODY_AT_ONCE_BYTES:
            self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self.cycle is not None and not self.parser.should_upgrade():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer with the envelope of what is wrong, and close."""
        if self.transport.is_closing():
            return
        error = self._problem or BadRequest("this is no HTTP/1.1 request")
        content = {"code": error.code, "message": error.message, "request_id": secrets.token_hex(16)}
        body = orjson.dumps({"error": {**content, "details": error.details}})
        headers = {**error.headers, "content-type": "application/json", "content-length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in {**headers, "connection": "close"}.items())
        self.transport.write(STATUS_LINE[error.status] + head.encode() + b"\r\n" + body)
        self.transport.close()

    def without_upgrade(self) -> bytes:
        """The header that was just read, less its wish for another protocol."""
        version = self.parser.get_http_version().encode()
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        lines += [name + b": " + value for name, value in self.headers if name not in _OTHER_PROTOCOL]
        return b"\r\n".join([*lines, b"", b""])

    def _start_deadline(self) -> None:
        self._deadline = self.loop.call_later(HEADER_TIMEOUT_S, self._time_out)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _time_out(self) -> None:
        if self._in_header:
            self._problem = HeaderTimeout(f"the header was not complete after {HEADER_TIMEOUT_S:g} s")
            self.send_400_response("")
        else:
            self.transport.close()


class _Parser(httptools.HttpRequestParser):
    """Ignores a wish to upgrade, as HTTP allows. httptools would take the body for the other protocol's, and drop it;
    some clients (Java's) wish for HTTP/2 with whatever they post.
    """

    def __init__(self, protocol: BoundedProtocol) -> None:
        super().__init__(protocol)
        self._protocol = protocol

    def feed_data(self, data: Any) -> None:
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            anew = self._protocol.without_upgrade()
            self._protocol.parser = _Parser(self._protocol)
            self._protocol.parser.feed_data(anew + data[upgrade.args[0] :])
        except httptools.HttpParserError:  # uvicorn would have a line in the log for each
            self._protocol.send_400_response("")


def install() -> None:
    """Make this what uvicorn takes when nobody asks for another."""
    from uvicorn import config

    config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedProtocol.__name__}"


def max_connections() -> int:
    """Connections beyond which the process would run out of files, and could not even refuse."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, min(soft if soft != resource.RLIM_INFINITY else 65_536, 65_536) - _FILES_KEPT_BACK)


def _headers_too_large() -> HeadersTooLarge:
    return HeadersTooLarge(f"the header is larger than {MAX_HEADER_BYTES} bytes", max_header_bytes=MAX_HEADER_BYTES)

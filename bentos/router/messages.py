"""Requests and replies as bytes: headers that travel, headers that do not, and the error envelope."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson

Headers = list[tuple[bytes, bytes]]
"""Names in lower case, values as they came."""

# RFC 9110, 7.6.1, and what this router sets itself: they concern one connection, not the message.
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding "
    b"upgrade http2-settings expect content-length".split()
)
_NOT_ASKED = HOP_BY_HOP | {b"x-request-id", b"x-shadow-copy"}
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}\Z")
MAX_CAMERA_ID_BYTES = 128


@dataclass(slots=True)
class Request:
    """One request, its body read whole."""

    method: bytes
    target: bytes
    headers: Headers
    body: bytes
    keep_alive: bool = True

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]

    def header(self, name: bytes) -> bytes | None:
        """The first value of `name` (lower case), or None."""
        return first_value(self.headers, name)


@dataclass(slots=True)
class Reply:
    """One answer. `after_sent` runs once it is on its way to the client, and never when the client has left."""

    status: int
    headers: Headers
    body: bytes
    after_sent: Callable[[], None] | None = None


def first_value(headers: Headers, name: bytes) -> bytes | None:
    """The first value of `name` (lower case), or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def read_request_id(headers: Headers) -> bytes:
    """The caller's X-Request-ID if it is 1 to 128 visible ASCII characters, else a new one."""
    given = first_value(headers, b"x-request-id")
    return given if given is not None and _REQUEST_ID.match(given) else os.urandom(16).hex().encode()


def read_camera(request: Request) -> str:
    """X-Camera-ID, or "" where it is absent or too long to be remembered."""
    given = request.header(b"x-camera-id") or b""
    return given.decode("utf-8", "replace").strip() if len(given) <= MAX_CAMERA_ID_BYTES else ""


def end_to_end(headers: Headers, dropped: frozenset[bytes] = HOP_BY_HOP) -> Headers:
    """The headers that travel on: not among `dropped`, which holds HOP_BY_HOP, and not named by Connection."""
    for name, value in headers:
        if name == b"connection":
            dropped = dropped.union(part.strip() for part in value.lower().split(b","))
    return [header for header in headers if header[0] not in dropped]


def render_request(request: Request, request_id: bytes, extra: Headers = []) -> list[bytes]:  # noqa: B006 - only read
    """The bytes to send to a back end: [head, body]."""
    lines = [b"%s %s HTTP/1.1\r\n" % (request.method, request.target)]
    for name, value in end_to_end(request.headers, _NOT_ASKED):
        lines.append(b"%s: %s\r\n" % (name, value))
    for name, value in extra:
        lines.append(b"%s: %s\r\n" % (name, value))
    if request.body or request.method not in (b"GET", b"HEAD"):
        lines.append(b"content-length: %d\r\n" % len(request.body))
    lines.append(b"x-request-id: %s\r\n\r\n" % request_id)
    return [b"".join(lines), request.body]


def render_reply(reply: Reply, keep_alive: bool, is_head: bool = False) -> bytes:
    """The bytes to send to the client; `reply.headers` hold no hop-by-hop header except HEAD's content-length."""
    lines = [b"HTTP/1.1 %d %s\r\n" % (reply.status, _REASONS.get(reply.status, b"Unknown"))]
    for name, value in reply.headers:
        lines.append(b"%s: %s\r\n" % (name, value))
    if not is_head and reply.status not in (204, 304):
        lines.append(b"content-length: %d\r\n" % len(reply.body))
    lines.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
    if not is_head:
        lines.append(reply.body)
    return b"".join(lines)


def json_reply(content: Any, status: int = 200) -> Reply:
    """An answer of the router's own, as JSON."""
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    return Reply(status, [(b"content-type", b"application/json")], body)


def error_reply(
    status: int,
    code: str,
    message: str,
    *,
    request_id: bytes = b"",
    details: dict[str, Any] | None = None,
    retry_after_s: int | None = None,
) -> Reply:
    """The error envelope {error: {code, message, request_id, details}}; the message carries the remedy."""
    error = {"code": code, "message": message, "request_id": request_id.decode() or None, "details": details or {}}
    reply = json_reply({"error": error}, status)
    if request_id:
        reply.headers.append((b"x-request-id", request_id))
    if retry_after_s is not None:
        reply.headers.append((b"retry-after", b"%d" % retry_after_s))
    return reply

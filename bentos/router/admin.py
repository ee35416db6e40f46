"""The controller's door, behind a bearer token: routing, observations, figures."""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from bentos.router.messages import Reply, Request, error_reply, json_reply
from bentos.router.observations import MAX_READ, ObservationRing
from bentos.router.routing import RoutingTable, Snapshot, StaleSnapshot, parse_snapshot

_DOORS = {b"/routing": (b"GET", b"PUT"), b"/observations": (b"GET",), b"/stats": (b"GET",)}
_EXAMPLE = (
    '{"epoch": 1, "generation": 1, "mode": "champion", "share": 0.0, "promotion": null, '
    '"champion": {"version": "1", "digest": "...", "url": "http://127.0.0.1:4000"}, "candidate": null}'
)


class Draining(Exception):
    """The router is about to end and takes no orders any more."""


class Admin:
    """Answers the controller. `replace` makes a snapshot count; `stats` gives the figures."""

    def __init__(
        self,
        token: str,
        table: RoutingTable,
        observations: ObservationRing,
        replace: Callable[[Snapshot], Awaitable[None]],
        stats: Callable[[], dict[str, Any]],
    ) -> None:
        self._authorization = b"Bearer " + token.encode()
        self._table = table
        self._observations = observations
        self._replace = replace
        self._stats = stats

    async def handle(self, request: Request) -> Reply:
        """Answer one request of the controller."""
        given = request.header(b"authorization") or b""
        if not hmac.compare_digest(given, self._authorization):
            message = (
                "send `Authorization: Bearer TOKEN`; the token is in the file `token` of the router's state directory"
            )
            return error_reply(401, "unauthorized", message)
        methods = _DOORS.get(request.path)
        if methods is None:
            known = ", ".join(path.decode() for path in _DOORS)
            return error_reply(404, "not_found", f"there is no {request.path.decode('latin-1')} here; there is {known}")
        if request.method not in methods:
            allowed = b", ".join(methods)
            reply = error_reply(405, "method_not_allowed", f"use {allowed.decode()}")
            reply.headers.append((b"allow", allowed))
            return reply
        if request.path == b"/stats":
            return json_reply(self._stats())
        if request.path == b"/observations":
            return self._read_observations(request)
        if request.method == b"GET":
            return json_reply(self._table.current.model_dump())
        return await self._put_routing(request)

    async def _put_routing(self, request: Request) -> Reply:
        try:
            snapshot = parse_snapshot(request.body)
        except ValueError as error:
            details = {"problems": str(error).splitlines(), "expected": _EXAMPLE}
            return error_reply(400, "bad_snapshot", f"this is no routing snapshot: {error}", details=details)
        try:
            await self._replace(snapshot)
        except StaleSnapshot as error:
            epoch, generation = self._table.current.order
            known = {"epoch": epoch, "generation": generation}
            return error_reply(409, "stale_epoch", f"{error}: read GET /routing and write a later one", details=known)
        except Draining:
            return error_reply(503, "draining", "this router is about to end: ask the next one", retry_after_s=1)
        except OSError as error:
            message = f"the snapshot could not be written ({error.strerror}); the one before still counts"
            return error_reply(507, "not_persisted", message)
        return json_reply(self._table.current.model_dump())

    def _read_observations(self, request: Request) -> Reply:
        query = parse_qs(request.target.partition(b"?")[2].decode("latin-1"))
        numbers = {}
        for name, default in (("after", "0"), ("limit", "1000")):
            text = query.get(name, [default])[-1]
            if not (text.isascii() and text.isdecimal()):
                return error_reply(
                    400, "bad_query", f"{name}={text} is not a whole number from 0 on (limit: at most {MAX_READ})"
                )
            numbers[name] = int(text)
        return json_reply(self._observations.read(numbers["after"], numbers["limit"]))


def load_token(path: Path) -> str:
    """The token in `path`, made (readable by its owner only) when there is none. Raises OSError."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        token = ""
    if token:
        return token
    token = secrets.token_urlsafe(32)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(token + "\n")
    return token

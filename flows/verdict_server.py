"""The verdict endpoint: GET /promotions/NUMBER/verdict (or /promotions/latest/verdict), for Argo Rollouts and others.

It reads records and can change nothing. Queries: `version`, the challenger that is expected, and `past`, the state that
must lie behind the promotion for the verdict "advance". With a token it asks for it as bearer token.
"""

from __future__ import annotations

import hmac
import json
import re
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from flows.errors import Conflict, InputError, ProjectError, TcaError
from flows.rollout.states import State
from flows.verdicts import LATEST, Verdicts

_ADDRESS = re.compile(rf"/promotions/([0-9]{{1,9}}|{LATEST})/verdict")
_STATUS = {InputError: HTTPStatus.BAD_REQUEST, ProjectError: HTTPStatus.NOT_FOUND}


class VerdictServer(ThreadingHTTPServer):
    """Answers from the records in one folder.

    Raises:
        Conflict: The address cannot be listened at.
    """

    daemon_threads = True

    def __init__(self, records: Path, host: str, port: int, token: str = "") -> None:
        self.verdicts, self.token = Verdicts(records), token
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _VerdictHandler)
        except OSError as error:
            raise Conflict(
                f"{host}:{port} cannot be listened at: {error.strerror}", "Choose another: --port PORT"
            ) from error


class _VerdictHandler(BaseHTTPRequestHandler):
    server: VerdictServer
    server_version, sys_version = "tca", ""
    timeout = 10.0
    """Seconds that a client may take to say what it wants."""

    def do_GET(self) -> None:
        try:
            address = urlsplit(self.path)
        except ValueError as error:
            return self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        if address.path in ("/livez", "/readyz"):
            return self._answer(HTTPStatus.OK, {"status": "ready"})
        if not self._may_ask():
            return self._refuse(HTTPStatus.UNAUTHORIZED, "send `Authorization: Bearer TOKEN`")
        match = _ADDRESS.fullmatch(address.path)
        if match is None:
            return self._refuse(
                HTTPStatus.NOT_FOUND, "there is /promotions/NUMBER/verdict and /promotions/latest/verdict"
            )
        query = dict(parse_qsl(address.query))
        if unknown := query.keys() - {"version", "past"}:
            return self._refuse(HTTPStatus.BAD_REQUEST, f"{', '.join(sorted(unknown))}: expected version or past")
        number = None if match[1] == LATEST else int(match[1])
        try:
            found = self.server.verdicts.answer(number, query.get("version"), query.get("past", State.DONE))
        except TcaError as error:
            status = next((code for kind, code in reversed(_STATUS.items()) if isinstance(error, kind)), None)
            return self._refuse(status or HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        self._answer(HTTPStatus.OK, found.model_dump(mode="json"))

    def _may_ask(self) -> bool:
        given = self.headers.get("Authorization", "")
        return not self.server.token or hmac.compare_digest(given.encode(), f"Bearer {self.server.token}".encode())

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self._answer(status, {"error": {"code": status.name.lower(), "message": message}})

    def _answer(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """The terminal stays quiet."""

"""The controller's side of the router: routing, observations and figures, over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

from bentos.router.routing import Snapshot
from flows.errors import Conflict, ServiceError

OBSERVATIONS_A_PAGE = 5000
PATIENCE_S = 3.0
"""So long a router that is being started again is asked anew."""
_POLL_S = 0.05
_OTHER_VERSION = "Router and controller are of different versions: start the router of this version"


class RouterAdmin:
    """The admin side of one router.

    Every method raises ServiceError when it does not answer, or not as it should.

    Args:
        find_url: Where it is, looked up anew after it did not answer.
        token: What it asks for, as it is now. May raise OSError.
        remedy: What to do when it does not answer.
    """

    def __init__(self, find_url: Callable[[], str], token: Callable[[], str], remedy: str) -> None:
        self._find_url, self._token, self._remedy = find_url, token, remedy
        self._url = ""
        self._client = httpx.Client(timeout=10.0, trust_env=False)

    def routing(self) -> Snapshot:
        """The snapshot that counts."""
        reply = self._ask("GET", "/routing")
        try:
            return Snapshot.model_validate_json(reply.content)
        except ValueError as error:
            raise ServiceError(f"the router's routing cannot be read: {error}", _OTHER_VERSION) from error

    def route(self, snapshot: Snapshot) -> None:
        """Make a snapshot count. Raises Conflict when a later one does."""
        self._ask("PUT", "/routing", content=snapshot.model_dump_json())

    def observations(self, after: int) -> dict[str, Any]:
        """A page of what each arm answered since `after`."""
        params = {"after": str(after), "limit": str(OBSERVATIONS_A_PAGE)}
        return _tree(self._ask("GET", "/observations", params=params))

    def stats(self) -> dict[str, Any]:
        """Requests in flight by url, and counters."""
        return _tree(self._ask("GET", "/stats"))

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        reply = self._send(method, path, options)
        if reply.status_code == httpx.codes.CONFLICT:
            raise Conflict(f"the router refuses the routing: {_message(reply)}", "Another controller is ahead")
        if reply.status_code != httpx.codes.OK:
            raise ServiceError(f"the router answers {method} {path} with {reply.status_code}: {_message(reply)}")
        return reply

    def _send(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        """Ask, and again while it is being started again: every request here may be repeated."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self._url = self._url or self._find_url()
            try:
                headers = {"authorization": f"Bearer {self._token()}"}
                return self._client.request(method, f"{self._url}{path}", headers=headers, **options)
            except (OSError, httpx.HTTPError) as error:
                where, self._url = self._url, ""
                is_away = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
                if not is_away or time.monotonic() >= deadline:
                    raise ServiceError(
                        f"the router does not answer at {where}: {type(error).__name__}", self._remedy
                    ) from error
            time.sleep(_POLL_S)


def _tree(reply: httpx.Response) -> dict[str, Any]:
    try:
        return dict(reply.json())
    except (ValueError, TypeError) as error:
        raise ServiceError(f"the router answers {reply.url.path} with no JSON object", _OTHER_VERSION) from error


def _message(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return reply.text[:200]

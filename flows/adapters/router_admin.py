"""The controller's side of the router: routing, observations and figures, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from bentos.router.routing import Snapshot
from flows.errors import Conflict, ServiceError

OBSERVATIONS_A_PAGE = 5000


class RouterAdmin:
    """The admin side of one router.

    Every method raises ServiceError when it does not answer.

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
        return Snapshot.model_validate_json(self._ask("GET", "/routing").content)

    def route(self, snapshot: Snapshot) -> None:
        """Make a snapshot count. Raises Conflict when a later one does."""
        self._ask("PUT", "/routing", content=snapshot.model_dump_json())

    def observations(self, after: int) -> dict[str, Any]:
        """A page of what each arm answered since `after`."""
        params = {"after": str(after), "limit": str(OBSERVATIONS_A_PAGE)}
        return dict(self._ask("GET", "/observations", params=params).json())

    def stats(self) -> dict[str, Any]:
        """Requests in flight by url, and counters."""
        return dict(self._ask("GET", "/stats").json())

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        self._url = self._url or self._find_url()
        try:
            headers = {"authorization": f"Bearer {self._token()}"}
            reply = self._client.request(method, f"{self._url}{path}", headers=headers, **options)
        except (OSError, httpx.HTTPError) as error:
            where, self._url = self._url, ""
            raise ServiceError(
                f"the router does not answer at {where}: {type(error).__name__}", self._remedy
            ) from error
        if reply.status_code == httpx.codes.CONFLICT:
            raise Conflict(f"the router refuses the routing: {_message(reply)}", "Another controller is ahead")
        if reply.status_code != httpx.codes.OK:
            raise ServiceError(f"the router answers {method} {path} with {reply.status_code}: {_message(reply)}")
        return reply


def _message(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return reply.text[:200]

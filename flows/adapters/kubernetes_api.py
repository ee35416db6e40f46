"""What is needed of Kubernetes' API: read, list, server-side apply, compare-and-swap, delete, and wait by watching.

Objects are plain dictionaries. Every call may be repeated: an apply says the whole truth of one manager, a replacement
carries the resourceVersion that was read, a deletion the uid. So what got lost on the way is simply sent again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx

from flows.adapters.kubernetes_credentials import Access
from flows.errors import Conflict, ServiceError

MANAGER = "tca"
"""Our name among those who own fields of an object."""
TIMEOUT_S = 5.0
"""Of one attempt: all of them together stay below the lease of a promotion."""
_PAUSES_S = (0.2, 0.6)
"""Between attempts, where the API server did not answer or asked to come later."""
_LONGEST_PAUSE_S = 2.0
"""Where it says itself when to come again."""
_LATER = frozenset({429, 500, 502, 503, 504})
_ACCESS = "Rights: infra/kubernetes/promotion/access.yaml"

Object = dict[str, Any]


@dataclass(frozen=True)
class Resource:
    """A kind of object: its API version, and its name in addresses."""

    version: str
    plural: str

    @property
    def root(self) -> str:
        """Where the address begins."""
        return f"/api/{self.version}" if self.version == "v1" else f"/apis/{self.version}"


DEPLOYMENTS = Resource("apps/v1", "deployments")
SERVICES = Resource("v1", "services")
PODS = Resource("v1", "pods")
HTTP_ROUTES = Resource("gateway.networking.k8s.io/v1", "httproutes")


class StaleObject(Conflict):
    """Somebody else has written the object since it was read."""


class Cluster:
    """One namespace of a cluster.

    Every method raises ServiceError when the API server does not answer or refuses, with what it said.
    """

    def __init__(self, access: Access) -> None:
        self.namespace, self.in_cluster = access.namespace, access.in_cluster
        self._access = access
        self._client = httpx.Client(base_url=access.server, verify=access.tls, timeout=TIMEOUT_S, trust_env=False)

    def get(self, resource: Resource, name: str) -> Object | None:
        """The object, if there is one."""
        reply = self._ask("GET", self._path(resource, name))
        return None if _is_missing(reply) else _object(reply)

    def list(self, resource: Resource, labels: str) -> list[Object]:
        """The objects with these labels (`name=value,...`)."""
        reply = self._ask("GET", self._path(resource), params={"labelSelector": labels})
        return list(_object(reply)["items"])

    def apply(self, resource: Resource, body: Object) -> Object:
        """Have our part of the object be `body` (server-side apply), and return the whole of it.

        Raises:
            Conflict: A field belongs to somebody else, who wants another value.
        """
        reply = self._ask(
            "PATCH",
            self._path(resource, body["metadata"]["name"]),
            params={"fieldManager": MANAGER, "force": "false"},
            content=json.dumps(body),
            headers={"content-type": "application/apply-patch+yaml"},  # JSON is YAML
        )
        if reply.status_code == httpx.codes.CONFLICT:
            raise Conflict(
                f"{_named(resource, body)} is not ours alone: {_said(reply)}", "Settle who sets these fields"
            )
        return _object(reply)

    def replace(self, resource: Resource, body: Object) -> Object:
        """Compare and swap: write `body` if nobody has written since it was read.

        Raises:
            StaleObject: Somebody has.
        """
        path = self._path(resource, body["metadata"]["name"])
        reply = self._ask("PUT", path, params={"fieldManager": MANAGER}, json=body)
        if reply.status_code == httpx.codes.CONFLICT:
            raise StaleObject(f"{_named(resource, body)} was changed meanwhile: {_said(reply)}")
        return _object(reply)

    def delete(self, resource: Resource, name: str, uid: str) -> None:
        """Delete this very object and, before it, what it owns. One that is gone, or a namesake, is left alone."""
        options = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}
        reply = self._ask("DELETE", self._path(resource, name), json=options)
        if not _is_missing(reply) and reply.status_code != httpx.codes.CONFLICT:
            _object(reply)

    def wait_for(
        self, resource: Resource, name: str, condition: Callable[[Object | None], bool], limit_s: float
    ) -> bool:
        """Watch an object until `condition` holds of it (None: it is not there); False when it did not in time."""
        deadline = time.monotonic() + limit_s
        while True:
            found = self.get(resource, name)
            if condition(found):
                return True
            if time.monotonic() >= deadline:
                return False
            try:
                # An object that is not there yet has no version to watch from: from now on, which begins with a look.
                version = found["metadata"]["resourceVersion"] if found else ""
                if any(condition(seen) for seen in self._watch(resource, name, version, deadline)):
                    return True
            except _Gone:  # it was away for too long: look again
                time.sleep(_PAUSES_S[0])

    def proxy(self, service: str, port: int, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask a Service through the API server, for those outside the cluster."""
        return self._ask(method, f"{self._path(SERVICES, f'{service}:{port}')}/proxy{path}", **options)

    def _watch(self, resource: Resource, name: str, version: str, deadline: float) -> Iterator[Object | None]:
        """The object after each change since `version`, until the deadline. Raises _Gone when that is too long ago."""
        while (remaining_s := deadline - time.monotonic()) > 0:
            params = {
                "watch": "true",
                "fieldSelector": f"metadata.name={name}",
                "resourceVersion": version,
                "allowWatchBookmarks": "true",
                "timeoutSeconds": str(max(1, round(remaining_s))),
            }
            for event in self._events(self._path(resource), params, remaining_s):
                kind, seen = event.get("type"), event.get("object") or {}
                if kind == "ERROR":
                    raise (
                        _Gone if seen.get("code") == httpx.codes.GONE else ServiceError(f"watch: {seen.get('message')}")
                    )
                version = seen["metadata"]["resourceVersion"]
                if kind != "BOOKMARK":  # a bookmark only says how far we have come
                    yield None if kind == "DELETED" else seen
                if time.monotonic() >= deadline:
                    return
            # Watches are cut off by proxies, restarts, overload and time: ask again from where it was.
            time.sleep(min(_PAUSES_S[0], max(0.0, deadline - time.monotonic())))

    def _events(self, path: str, params: dict[str, str], limit_s: float) -> Iterator[dict[str, Any]]:
        """What a watch says until it breaks off, which may be at once."""
        timeout = httpx.Timeout(TIMEOUT_S, read=limit_s + 1.0)
        with (
            suppress(httpx.TransportError, ValueError),
            self._client.stream("GET", path, params=params, headers=self._headers(), timeout=timeout) as reply,
        ):
            if reply.status_code == httpx.codes.GONE:
                raise _Gone
            if reply.status_code in _LATER or self._may_be_renewed(reply):
                return
            if reply.status_code != httpx.codes.OK:
                reply.read()
                _object(reply)
            for line in reply.iter_lines():
                yield json.loads(line)

    def _ask(self, method: str, path: str, headers: dict[str, str] | None = None, **options: Any) -> httpx.Response:
        error: httpx.TransportError | None = None
        for pause_s in (*_PAUSES_S, None):
            try:
                reply = self._client.request(method, path, headers=self._headers() | (headers or {}), **options)
                error = None
            except httpx.TransportError as problem:
                error = problem
            if error is None and self._may_be_renewed(reply):
                continue
            if error is None and reply.status_code not in _LATER:
                return reply
            if pause_s is not None:
                time.sleep(pause_s if error else max(pause_s, _asked_pause_s(reply)))
        if error is None:
            return reply
        raise ServiceError(
            f"Kubernetes' API server does not answer at {self._access.server}: {type(error).__name__}",
            "Check it: kubectl cluster-info",
        ) from error

    def _may_be_renewed(self, reply: httpx.Response) -> bool:
        return reply.status_code == httpx.codes.UNAUTHORIZED and self._access.renew()

    def _headers(self) -> dict[str, str]:
        token = self._access.token()
        return {"authorization": f"Bearer {token}"} if token else {}

    def _path(self, resource: Resource, name: str = "") -> str:
        path = f"{resource.root}/namespaces/{self.namespace}/{resource.plural}"
        return f"{path}/{name}" if name else path


class _Gone(Exception):
    """The API server no longer knows what happened since the version that was asked from (410)."""


def _is_missing(reply: httpx.Response) -> bool:
    """Whether the object is not there. A kind that the API server does not know is another matter."""
    return reply.status_code == httpx.codes.NOT_FOUND and bool(_status(reply).get("details", {}).get("name"))


def _asked_pause_s(reply: httpx.Response) -> float:
    """How long the server asks to stay away; 0 where it does not say."""
    text = reply.headers.get("retry-after", "")
    return min(float(text), _LONGEST_PAUSE_S) if text.isascii() and text.isdecimal() else 0.0


def _object(reply: httpx.Response) -> Object:
    asked = f"{reply.request.method} {reply.request.url.path}"
    if reply.is_success:
        try:
            return dict(reply.json())
        except (ValueError, TypeError) as error:
            raise ServiceError(
                f"no API server of Kubernetes answers {asked}, but {reply.text[:40]!r}", "Check the server's address"
            ) from error
    remedies = {401: "Log in again, or renew the token", 403: _ACCESS, 404: "Is the Gateway API installed there?"}
    raise ServiceError(
        f"Kubernetes answers {asked} with {reply.status_code}: {_said(reply)}", remedies.get(reply.status_code)
    )


def _status(reply: httpx.Response) -> dict[str, Any]:
    try:
        content = reply.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) and content.get("kind") == "Status" else {}


def _said(reply: httpx.Response) -> str:
    return str(_status(reply).get("message") or reply.text[:200]).strip()


def _named(resource: Resource, body: Object) -> str:
    return f"{resource.plural}/{body['metadata']['name']}"

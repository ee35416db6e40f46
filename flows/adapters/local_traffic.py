"""Traffic on one machine: detectors as processes that outlive the controller, behind the router of bentos/router.

Nothing is remembered here. What runs is read from the register of services, what is routed from the router, so that a
controller that was killed and started again sees the same as its predecessor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from bentos.router.routing import Backend, Snapshot
from flows.adapters.processes import (
    ServiceRecord,
    end_children,
    find_free_port,
    forget,
    is_alive,
    read_services,
    spawn,
    stop,
)
from flows.adapters.router_admin import RouterAdmin
from flows.adapters.warm_up import warm_up
from flows.errors import Conflict, ServiceError

Command = Callable[[str, int], tuple[Sequence[str], Mapping[str, str]]]
"""From a version and a port to the command line and the environment that serve it there."""

READY_LIMIT_S = 120.0
_POLL_S = 0.05


class LocalTraffic:
    """Starts, finds and stops detectors by version, and talks to the router's admin side.

    Args:
        home: Where the register of services and the logs lie.
        admin_url: The router's admin side.
        state_dir: The router's state directory, which holds the admin token.
        command: How to serve a version.
    """

    def __init__(self, home: Path, admin_url: str, state_dir: Path, command: Command) -> None:
        self._home, self._command = home, command
        token = state_dir / "token"
        self._router = RouterAdmin(
            lambda: admin_url, lambda: token.read_text(encoding="ascii").strip(), "Start it: tca serve"
        )
        self._client = httpx.Client(timeout=10.0, trust_env=False)

    def start(self, version: str, digest: str) -> Backend:
        """Have the version running. Raises ServiceError when its program cannot be started."""
        if (found := self.find(version, digest)) is not None:
            return found
        port = find_free_port()
        argv, env = self._command(version, port)
        name, url = service_name(version, digest), f"http://127.0.0.1:{port}"
        log = self._home / "logs" / f"{name}.log"
        record = spawn(name, argv, env=env, log=log, home=self._home, address=url, once=True)
        return Backend(version=version, digest=digest, url=record.address)

    def find(self, version: str, digest: str) -> Backend | None:
        """The running one, if it runs; of one that died, what it left behind is ended."""
        record = read_services(self._home).get(service_name(version, digest))
        if record is None:
            return None
        if not is_alive(record):
            end_children(record)
            return None
        return Backend(version=version, digest=digest, url=record.address)

    def is_alive(self, backend: Backend) -> bool:
        """Whether the very process behind `backend` runs."""
        return self.find(backend.version, backend.digest) == backend

    def is_ready(self, backend: Backend) -> bool:
        """Whether it says so."""
        try:
            return self._client.get(f"{backend.url}/readyz", timeout=2.0).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def warm_up(self, backend: Backend) -> None:
        """Let it answer some frames, and check that it is the pinned model. Raises ServiceError."""

        def post(body: bytes, headers: dict[str, str]) -> httpx.Response:
            return self._client.post(f"{backend.url}/v1/detect", content=body, headers=headers)

        log = self._home / "logs" / f"{service_name(backend.version, backend.digest)}.log"
        warm_up(backend, post, f"See {log}")

    def stop(self, backend: Backend, grace_s: float) -> None:
        """SIGTERM, after `grace_s` SIGKILL, and out of the register. Nothing happens when it does not run."""
        name = service_name(backend.version, backend.digest)
        record = read_services(self._home).get(name)
        if record is None or record.address != backend.url:
            return
        stop(record, grace_s)
        forget(self._home, name)

    def routing(self) -> Snapshot:
        """The snapshot that counts."""
        return self._router.routing()

    def route(self, snapshot: Snapshot) -> None:
        """Make a snapshot count. Raises Conflict when a later one does."""
        self._router.route(snapshot)

    def observations(self, after: int) -> dict[str, Any]:
        """A page of what each arm answered since `after`."""
        return self._router.observations(after)

    def stats(self) -> dict[str, Any]:
        """Requests in flight by url, and counters."""
        return self._router.stats()

    def ensure_champion(self, version: str, digest: str) -> Backend:
        """Have this version running, ready and routed as champion; the one that it replaces is drained and stopped.

        Raises:
            Conflict: A promotion is open, and it is about another champion.
            ServiceError: It does not become ready, or the router does not answer.
        """
        self._require_no_other_promotion(version)
        backend = self.start(version, digest)
        self._wait_ready(backend)
        before = self.routing()
        if before.champion == backend:
            return backend
        self._require_no_other_promotion(version)
        changes = {"champion": backend, "generation": before.generation + 1}
        if before.promotion is None:
            changes |= {"mode": "champion", "candidate": None, "share": 0.0}
        self.warm_up(backend)
        self.route(before.model_copy(update=changes))
        if before.champion is not None and before.champion.version != version:
            self._drain(before.champion, limit_s=10.0)
            self.stop(before.champion, grace_s=10.0)
        return backend

    def _require_no_other_promotion(self, version: str) -> None:
        now = self.routing()
        if now.promotion is not None and (now.champion is None or now.champion.version != version):
            raise Conflict(
                f"promotion {now.promotion} is open, so the champion cannot be changed to version {version}",
                f"Wait for it, or give it up: tca promotion abort {now.promotion}",
            )

    def _wait_ready(self, backend: Backend) -> None:
        record = read_services(self._home)[service_name(backend.version, backend.digest)]
        deadline = time.monotonic() + READY_LIMIT_S
        while not self.is_ready(backend):
            if not is_alive(record):
                raise ServiceError(f"version {backend.version} ended while it started", f"See {record.log}")
            if time.monotonic() > deadline:
                raise ServiceError(f"version {backend.version} is not ready after {READY_LIMIT_S:.0f} s", _see(record))
            time.sleep(_POLL_S)

    def _drain(self, backend: Backend, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while self.stats()["in_flight"].get(backend.url, 0) and time.monotonic() < deadline:
            time.sleep(_POLL_S)


def service_name(version: str, digest: str) -> str:
    """The name of a version's detector in the register of services."""
    return f"detector-{version}-{digest[:6]}"


def _see(record: ServiceRecord) -> str:
    return f"See {record.log}"

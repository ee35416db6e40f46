"""The router put together: two listeners, one table, and the state directory they live on."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bentos.router.admin import Admin, load_token
from bentos.router.backends import Pools
from bentos.router.cameras import CameraSplit
from bentos.router.forwarding import Forwarder, ForwardingLimits
from bentos.router.listener import Listener, ListenerLimits
from bentos.router.messages import Reply, Request, error_reply, json_reply
from bentos.router.metrics import Metrics
from bentos.router.observations import ObservationRing
from bentos.router.routing import RoutingTable, Snapshot

_log = logging.getLogger("router")


class StateError(Exception):
    """A file of the state directory cannot be used; the message names it and the remedy."""


@dataclass(frozen=True)
class RouterSettings:
    """Where the router listens, where its state lies, and what it may cost."""

    state_dir: Path
    host: str = "127.0.0.1"
    port: int = 3000
    admin_port: int = 3001
    watch_interval_s: float = 1.0
    drain_deadline_s: float = 30.0
    num_observations: int = 10_000
    forwarding: ForwardingLimits = field(default_factory=ForwardingLimits)
    listener: ListenerLimits = field(default_factory=ListenerLimits)


class Router:
    """One router. `start`, then `drain`; `port` and `admin_port` are the ones it got."""

    def __init__(self, settings: RouterSettings) -> None:
        """Read the state directory. Raises StateError when a file in it is broken, OSError when it is out of reach."""
        self._settings = settings
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.table = _load_table(settings.state_dir / "routing.json")
        self.cameras = _load_cameras(settings.state_dir / "cameras.json")
        self.token = load_token(settings.state_dir / "token")
        self.metrics = Metrics()
        self.pools = Pools()
        observations = ObservationRing(settings.num_observations)
        self.forwarder = Forwarder(
            self.table, self.cameras, self.pools, self.metrics, observations, settings.forwarding
        )
        admin = Admin(self.token, self.table, observations, self.replace, self.stats)
        self._public = Listener(self.handle, settings.listener)
        self._private = Listener(admin.handle)
        self._watcher: asyncio.Task[None] | None = None
        self._draining = False
        self._adopt(self.table.current)

    async def start(self) -> None:
        """Listen. Raises OSError when a port is in use."""
        self.admin_port = await self._private.start("127.0.0.1", self._settings.admin_port)
        self.port = await self._public.start(self._settings.host, self._settings.port)
        self._watcher = asyncio.get_running_loop().create_task(self.pools.watch(self._settings.watch_interval_s))

    async def drain(self) -> bool:
        """Stop accepting, finish what is in flight, close. False when the deadline cut some requests off."""
        self._draining = True
        finished = await self._public.drain(self._settings.drain_deadline_s)
        await self.forwarder.settle()
        if self._watcher is not None:
            self._watcher.cancel()
        await self._private.drain(1.0)
        self.pools.keep(frozenset())
        return finished

    async def replace(self, snapshot: Snapshot) -> None:
        """Make `snapshot` count for the requests that begin from now on. Raises StaleSnapshot, OSError."""
        if await self.table.replace(snapshot):
            self._adopt(snapshot)

    def _adopt(self, snapshot: Snapshot) -> None:
        if snapshot.mode == "canary" and snapshot.promotion is not None:
            self.cameras.adopt(snapshot.promotion, snapshot.share)
        self.pools.keep(snapshot.urls)
        champion, candidate = (arm.version if arm else "-" for arm in (snapshot.champion, snapshot.candidate))
        _log.info(
            "epoch %d generation %d: mode %s, champion %s, candidate %s, share %.2f",
            *snapshot.order, snapshot.mode, champion, candidate, snapshot.share,
        )  # fmt: skip

    async def handle(self, request: Request) -> Reply:
        """Answer a public request: the router's own three, the rest forwarded."""
        if request.path == b"/livez":
            return json_reply({"status": "alive"})
        if request.path == b"/readyz":
            return self._readiness()
        if request.path == b"/metrics":
            self._set_gauges()
            return Reply(200, [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")], self.metrics.render())
        return await self.forwarder.handle(request)

    def stats(self) -> dict[str, Any]:
        """The figures of GET /stats."""
        snapshot = self.table.current
        by_url = self.pools.in_flight()
        by_arm = {
            arm: by_url.get(backend.url, 0) if backend else 0
            for arm, backend in (("champion", snapshot.champion), ("candidate", snapshot.candidate))
        }
        return {
            "routing": snapshot.model_dump(),
            "in_flight": {**by_arm, **by_url},
            "cameras_seen": self.cameras.num_seen,
            "canary_cameras": list(self.cameras.taken) if snapshot.mode == "canary" else [],
            **self.metrics.stats(),
        }

    def _readiness(self) -> Reply:
        champion = self.table.current.champion
        if self._draining:
            problem = "the router is draining"
        elif champion is None:
            problem = "no champion is routed: start one with `tca serve`"
        elif not self.pools[champion.url].ready:
            problem = f"champion {champion.version} at {champion.url} is not ready"
        else:
            return json_reply({"status": "ready", "champion": champion.version})
        return error_reply(503, "not_ready", problem, retry_after_s=1)

    def _set_gauges(self) -> None:
        gauge = self.metrics.gauge
        snapshot = self.table.current
        gauge("router_cameras_seen", "Cameras seen since the start", self.cameras.num_seen)
        gauge("router_canary_cameras", "Cameras that the canary answers", len(self.stats()["canary_cameras"]))
        gauge("router_epoch", "Epoch of the routing snapshot", snapshot.epoch)
        gauge("router_generation", "Generation of the routing snapshot", snapshot.generation)
        in_flight = self.stats()["in_flight"]
        for arm in ("champion", "candidate"):
            gauge("router_in_flight", "Requests and copies in flight", in_flight[arm], arm=arm)


def _load_table(path: Path) -> RoutingTable:
    try:
        return RoutingTable(path)
    except ValueError as error:
        problem = str(error).replace("\n", "; ")
        raise StateError(
            f"{path} holds no routing snapshot: {problem}. Move it away to start with nothing routed"
        ) from None


def _load_cameras(path: Path) -> CameraSplit:
    cameras = CameraSplit()
    if path.exists():
        try:
            cameras.restore(path.read_bytes())
        except ValueError as error:
            raise StateError(f"{path} holds no canary cameras: {error}. Move it away to choose them anew") from None
    cameras.on_growth = lambda text: _keep_cameras(path, text)
    return cameras


def _keep_cameras(path: Path, text: bytes) -> None:
    """Written without fsync, on the loop: rare, small, and worth no more than the same cameras after a restart."""
    try:
        draft = path.with_name(f".{path.name}.draft")
        draft.write_bytes(text)
        draft.replace(path)
    except OSError as error:
        _log.warning("%s could not be written (%s): after a restart the canary may take other cameras", path, error)

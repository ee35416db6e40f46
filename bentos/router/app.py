"""The router put together: two listeners, one table, and the state directory they live on."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bentos.router.admin import Admin, Draining, load_token
from bentos.router.arms import Arms, ForwardingLimits
from bentos.router.backends import Pools
from bentos.router.copies import Copies
from bentos.router.forwarding import Forwarder
from bentos.router.listener import Listener, ListenerLimits
from bentos.router.messages import Reply, Request, error_reply, json_reply
from bentos.router.metrics import Metrics
from bentos.router.observations import ObservationRing
from bentos.router.routing import Arm, Backend, Snapshot
from bentos.router.state import load_cameras, load_table, lock_state

_log = logging.getLogger("router")


@dataclass(frozen=True)
class RouterSettings:
    """Where the router listens, where its state lies, and what it may cost."""

    state_dir: Path
    host: str = "127.0.0.1"
    port: int = 3000
    admin_host: str = "127.0.0.1"
    admin_port: int = 3001
    watch_interval_s: float = 1.0
    drain_deadline_s: float = 30.0
    num_observations: int = 10_000
    forwarding: ForwardingLimits = field(default_factory=ForwardingLimits)
    listener: ListenerLimits = field(default_factory=ListenerLimits)


class Router:
    """One router. `start`, then `drain`; `port` and `admin_port` are the ones it got."""

    def __init__(self, settings: RouterSettings) -> None:
        """Take the state directory, and read it.

        Raises:
            StateError: Another router has it, or a file in it is broken.
            OSError: It is out of reach.
        """
        self._settings = settings
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = lock_state(settings.state_dir)  # before it is read: who has it may still write
        self.table = load_table(settings.state_dir / "routing.json")
        self.cameras = load_cameras(settings.state_dir / "cameras.json")
        self.token = load_token(settings.state_dir / "token")
        self.metrics = Metrics()
        self.pools = Pools(settings.forwarding.candidate_timeout_s)
        observations = ObservationRing(settings.num_observations)
        arms = Arms(self.pools, self.metrics, settings.forwarding)
        self.copies = Copies(arms, self.table, self.metrics)
        self.forwarder = Forwarder(self.table, self.cameras, arms, self.copies, self.metrics, observations)
        admin = Admin(self.token, self.table, observations, self.replace, self.stats)
        self._public = Listener(self.handle, settings.listener)
        self._private = Listener(admin.handle)
        self._watcher: asyncio.Task[None] | None = None
        self.draining = False
        self._replacing: set[asyncio.Task[None]] = set()
        self._adopt(self.table.current)

    async def start(self) -> None:
        """Listen. Raises OSError when a port is in use."""
        self.admin_port = await self._private.start(self._settings.admin_host, self._settings.admin_port)
        self.port = await self._public.start(self._settings.host, self._settings.port)
        self._watcher = asyncio.get_running_loop().create_task(self.pools.watch(self._settings.watch_interval_s))

    async def drain(self) -> bool:
        """Stop accepting, finish what is in flight, close. False when the deadline cut some requests off."""
        self.draining = True
        await asyncio.gather(*self._replacing, return_exceptions=True)
        self.cameras.on_growth = lambda _: None
        self._lock.close()  # from here on the state may be another router's
        finished = await self._public.drain(self._settings.drain_deadline_s)
        await self.copies.settle()
        if self._watcher is not None:
            self._watcher.cancel()
        await self._private.drain(1.0)
        self.pools.keep(frozenset())
        return finished

    async def replace(self, snapshot: Snapshot) -> None:
        """Make `snapshot` count for the requests that begin from now on.

        It is done even if whoever asked for it is gone meanwhile: disk and memory must say the same.

        Raises:
            StaleSnapshot: A later one counts.
            OSError: It could not be written.
            Draining: This router is about to end.
        """
        if self.draining:
            raise Draining
        replacing = asyncio.get_running_loop().create_task(self._replace(snapshot))
        self._replacing.add(replacing)
        replacing.add_done_callback(self._replaced)
        await asyncio.shield(replacing)

    def _replaced(self, task: asyncio.Task[None]) -> None:
        self._replacing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.info("the routing stays as it is: %s", error)

    async def _replace(self, snapshot: Snapshot) -> None:
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
        path = request.path
        if path == b"/livez":
            return json_reply({"status": "alive"})
        if path == b"/readyz":
            return self._readiness()
        if path == b"/metrics":
            self._set_gauges()
            return Reply(200, [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")], self.metrics.render())
        return await self.forwarder.handle(request)

    def stats(self) -> dict[str, Any]:
        """The figures of GET /stats."""
        snapshot = self.table.current
        by_url = self.pools.in_flight()
        return {
            "routing": snapshot.model_dump(),
            "in_flight": {
                **{arm: by_url.get(backend.url, 0) if backend else 0 for arm, backend in self._arms()},
                **by_url,
            },
            "arms": {arm: self.pools.state(backend.url) if backend else None for arm, backend in self._arms()},
            "shadow_sent_total": self.copies.num_sent,
            "shadow_dropped": dict(self.copies.num_dropped),
            "cameras_seen": self.cameras.num_seen,
            "canary_cameras": list(self.cameras.taken) if snapshot.mode == "canary" else [],
            **self.metrics.stats(),
        }

    def _readiness(self) -> Reply:
        """Ready as long as somebody can answer: it need not be the champion."""
        champion = self.table.current.champion
        able = [arm for arm, backend in self._arms() if backend is not None and self.pools[backend.url].ready]
        if self.draining:
            problem = "the router is draining"
        elif champion is None:
            problem = "no champion is routed: start one with `tca serve`"
        elif not able:
            problem = f"champion {champion.version} at {champion.url} is not ready"
        else:
            return json_reply({"status": "ready", "champion": champion.version, "able": able})
        return error_reply(503, "not_ready", problem, retry_after_s=1)

    def _arms(self) -> tuple[tuple[Arm, Backend | None], ...]:
        snapshot = self.table.current
        return ("champion", snapshot.champion), ("candidate", snapshot.candidate)

    def _set_gauges(self) -> None:
        gauge = self.metrics.gauge
        snapshot = self.table.current
        gauge("router_cameras_seen", "Cameras seen since the start", self.cameras.num_seen)
        gauge("router_canary_cameras", "Cameras that the canary answers", len(self.stats()["canary_cameras"]))
        gauge("router_epoch", "Epoch of the routing snapshot", snapshot.epoch)
        gauge("router_generation", "Generation of the routing snapshot", snapshot.generation)
        stats = self.stats()
        for arm, _ in self._arms():
            gauge("router_in_flight", "Requests and copies in flight", stats["in_flight"][arm], arm=arm)
            state = stats["arms"][arm] or {"ready": False, "hangs": False}
            gauge("router_arm_ready", "Whether the arm says that it is ready", bool(state["ready"]), arm=arm)
            gauge("router_arm_hangs", "Whether it lets users wait and answers none", state["hangs"], arm=arm)

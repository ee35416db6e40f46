"""What a promotion does to the world, each effect in the same way: INTENT, look, act if need be, look again, DONE.

Because every effect looks before it acts and may be repeated, a controller that was killed anywhere simply does the
effects of its state again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bentos.router.routing import Backend, Snapshot
from flows.errors import Conflict, ServiceError
from flows.rollout.journal import Journal
from flows.rollout.leases import LEASE_S, Lease
from flows.rollout.record import Record
from flows.rollout.traffic import Clock, Registry, Traffic, Version

POLL_S = 0.5


@dataclass(frozen=True)
class Routing:
    """The content of a routing snapshot, without its fence."""

    mode: str
    champion: Backend | None
    candidate: Backend | None = None
    share: float = 0.0
    promotion: int | None = None

    def is_in(self, snapshot: Snapshot) -> bool:
        """Whether `snapshot` says this."""
        return self == Routing(snapshot.mode, snapshot.champion, snapshot.candidate, snapshot.share, snapshot.promotion)

    def fenced(self, epoch: int, generation: int) -> Snapshot:
        """The snapshot that says this."""
        content = {name: getattr(self, name) for name in ("mode", "champion", "candidate", "share", "promotion")}
        return Snapshot(epoch=epoch, generation=generation, **content)


class FencedRecord(Record):
    """A record that whoever lost the lease adds nothing to. `append` raises Conflict then."""

    def __init__(self, path: Path, journal: Journal, lease: Lease) -> None:
        self._journal, self._lease = journal, lease
        super().__init__(path)

    def append(self, kind: str, state: str, sentence: str, at: float, **content: Any) -> None:
        self._journal.check(self._lease)
        super().append(kind, state, sentence, at, **content)


@dataclass(frozen=True)
class Effects:
    """The effects of one promotion under one lease. Any may raise Conflict, ServiceError or OutsideError."""

    journal: Journal
    lease: Lease
    promotion: int
    record: Record
    traffic: Traffic
    registry: Registry
    clock: Clock

    def start(self, state: str, version: Version) -> Backend:
        """Have a version running, and say where; whether it lives on is for the caller to watch."""
        backends: list[Backend] = []

        def found() -> bool:
            running = self.traffic.find(version.version, version.digest)
            backends.extend([running] if running else [])
            return running is not None

        def act() -> None:
            backends.append(self.traffic.start(version.version, version.digest))

        self._do(state, f"start version {version.version}", found, act, lambda: True)
        return backends[-1]

    def stop(self, state: str, backend: Backend, grace_s: float) -> None:
        """Have a version stopped, when nothing is in flight there or after `grace_s`."""
        self.wait_until(lambda: self._in_flight(backend) == 0, grace_s)
        self._do(
            state,
            f"stop version {backend.version}",
            lambda: not self.traffic.is_alive(backend),
            lambda: self.traffic.stop(backend, grace_s),
        )

    def stopped(self, state: str, version: Version) -> None:
        """Mark that a version is gone which a controller meant to stop, and died over."""
        name = f"stop version {version.version}"
        if self.journal.effects(self.promotion).get(name) == "INTENT":
            self._do(state, name, lambda: True, lambda: None)

    def enthrone(self, state: str, version: Version | None) -> None:
        """Have a version reign in the registry, or nobody."""
        wanted = version and (version.version, version.digest)

        def reigns() -> bool:
            champion = self.registry.champion()
            return wanted == (champion and (champion.version, champion.digest))

        def act() -> None:
            with self.journal.fenced(self.lease):  # a registry knows no epochs: nobody may take over meanwhile
                self.registry.set_champion(*wanted) if wanted else self.registry.clear_champion()

        # Alias and pointer are two things: the act is repeated even where the alias is right already.
        name = f"enthrone version {version.version}" if version else "enthrone nobody"
        self._do(state, name, lambda: False, act, reigns)

    def route(self, state: str, wanted: Routing) -> None:
        """Have the router route so, under the epoch of this lease."""

        def routed() -> bool:
            current = self.traffic.routing()
            return current.epoch == self.lease.epoch and wanted.is_in(current)

        def act() -> None:
            current = self.traffic.routing()
            if current.epoch > self.lease.epoch:
                raise Conflict(
                    f"the router follows epoch {current.epoch}, this controller is of epoch {self.lease.epoch}",
                    "Another controller took over; nothing was changed",
                )
            generation = current.generation + 1 if current.epoch == self.lease.epoch else 1
            self.traffic.route(wanted.fenced(self.lease.epoch, generation))

        share = f" {wanted.share:.0%}" if wanted.mode == "canary" else ""
        champion = "none" if wanted.champion is None else wanted.champion.version
        self._do(state, f"route {wanted.mode}{share}, champion {champion}", routed, act)

    def raise_fence(self) -> None:
        """Have the router refuse earlier epochs from now on: what is routed, written again under this one."""
        current = self.traffic.routing()
        if current.epoch < self.lease.epoch:
            self.traffic.route(current.model_copy(update={"epoch": self.lease.epoch, "generation": 1}))

    def wait_until(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Poll `condition`, renewing the lease; False when it did not come true within `limit_s`."""
        deadline = self.clock.now() + limit_s
        while not condition():
            if self.clock.now() >= deadline:
                return False
            self.renew()
            self.clock.sleep(POLL_S)
        return True

    def renew(self) -> None:
        """Keep the lease. Raises Conflict when it was lost."""
        self.journal.renew(self.lease, self.clock.now(), LEASE_S)

    def _in_flight(self, backend: Backend) -> int:
        return int(self.traffic.stats().get("in_flight", {}).get(backend.url, 0))

    def _do(
        self,
        state: str,
        name: str,
        look: Callable[[], bool],
        act: Callable[[], object],
        look_again: Callable[[], bool] | None = None,
    ) -> None:
        self.journal.intend(self.lease, self.promotion, name, self.clock.now())
        if not look():
            self.journal.check(self.lease)
            act()
            if not (look_again or look)():
                self.journal.check(self.lease)  # was it undone by whoever took over?
                raise ServiceError(f"{name}: it was done but cannot be seen", "Run the same command again")
        self.record.append("effect", state, name, self.clock.now())
        self.journal.complete(self.lease, self.promotion, name, self.clock.now())

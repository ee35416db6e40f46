"""A simulated street: cameras, router, detectors, registry and clock in memory, deterministic for a seed.

It keeps the router's rules (fencing, sticky cameras, paired canary, instant fallback) so that whole promotions with
their faults run in milliseconds. It does not know queues: latencies are drawn, never caused by load.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bentos.router.routing import NOTHING_ROUTED, Backend, Snapshot
from flows.errors import Conflict, ServiceError

BOXES = [[10.0, 10.0, 60.0, 50.0, 0.9, 0], [100.0, 20.0, 180.0, 90.0, 0.8, 1], [200.0, 40.0, 260.0, 80.0, 0.7, 0]]


@dataclass(frozen=True)
class Behaviour:
    """How a version answers; from its `from_answer`-th answer on, as `then` says."""

    latency_ms: float = 30.0
    sigma: float = 0.2
    """Of the logarithm of the latency."""
    fail_share: float = 0.0
    miss_share: float = 0.02
    """Share of objects that it does not find."""
    becomes_ready: bool = True
    digest: str | None = None
    """Answers with this digest instead of its own."""
    from_answer: int = 0
    then: Behaviour | None = None


@dataclass
class FakeProcess:
    """A running version."""

    backend: Backend
    num_answers: int = 0


@dataclass
class FakeClock:
    """Time that passes when somebody sleeps."""

    time_s: float = 1_800_000_000.0

    def now(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.time_s += seconds


@dataclass
class FakeRegistry:
    """Who reigns, and who reigned before."""

    reigning: Backend | None = None
    previous: Backend | None = None

    def champion(self) -> Backend | None:
        return self.reigning

    def set_champion(self, version: str, digest: str) -> None:
        if self.reigning is None or self.reigning.version != version:
            self.previous, self.reigning = self.reigning, Backend(version=version, digest=digest, url="http://x:1")

    def clear_champion(self) -> None:
        self.reigning = None


@dataclass
class FakeTraffic:
    """Frames of `num_cameras` cameras at `fps` each, answered by the versions of `behaviours`."""

    clock: FakeClock
    behaviours: Mapping[str, Behaviour] = field(default_factory=dict)
    num_cameras: int = 8
    fps: float = 2.0
    seed: int = 0
    garble: Callable[[dict[str, Any]], Any] = lambda entry: entry
    """What the telemetry makes of an observation; None loses it."""
    shared_fault: Callable[[float], str] = lambda time_s: ""
    """"outage" or "slow": what hits all versions at that time."""
    processes: dict[str, FakeProcess] = field(default_factory=dict)
    snapshot: Snapshot = NOTHING_ROUTED
    silent: bool = False
    """The router's admin side does not answer."""
    history: list[Snapshot] = field(default_factory=list)
    num_frames: int = 0
    num_lost: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._until = self._began = self.clock.now()
        self._next = 0
        self._ring: list[dict[str, Any]] = []
        self._num_started = 0
        self._due: list[tuple[float, Callable[[], None]]] = []

    def at(self, after_s: float, action: Callable[[], None]) -> None:
        """Let something happen `after_s` seconds after the beginning."""
        self._due.append((self._began + after_s, action))

    def enthrone(self, version: str, digest: str) -> Backend:
        """A champion that runs and is routed, as before the first promotion that it must defend itself in."""
        backend = self.start(version, digest)
        self.route(
            Snapshot(
                epoch=0, generation=1, mode="champion", share=0.0, promotion=None, champion=backend, candidate=None
            )
        )
        return backend

    def kill(self, version: str) -> None:
        """End a process without notice."""
        self._advance()
        self.processes.pop(version, None)

    # Traffic

    def start(self, version: str, digest: str) -> Backend:
        self._advance()
        if version not in self.processes:
            self._num_started += 1
            backend = Backend(version=version, digest=digest, url=f"http://127.0.0.1:{4000 + self._num_started}")
            self.processes[version] = FakeProcess(backend)
        return self.processes[version].backend

    def find(self, version: str, digest: str) -> Backend | None:
        self._advance()
        process = self.processes.get(version)
        return process.backend if process and process.backend.digest == digest else None

    def is_alive(self, backend: Backend) -> bool:
        self._advance()
        process = self.processes.get(backend.version)
        return process is not None and process.backend == backend

    def is_ready(self, backend: Backend) -> bool:
        return self.is_alive(backend) and self._behaviour(backend.version).becomes_ready

    def warm_up(self, backend: Backend) -> None:
        digest = self._behaviour(backend.version).digest or backend.digest
        if digest != backend.digest:
            raise ServiceError(f"version {backend.version} answers with digest {digest}, not {backend.digest}")

    def stop(self, backend: Backend, grace_s: float) -> None:
        self.kill(backend.version)

    def routing(self) -> Snapshot:
        self._require_answer()
        return self.snapshot

    def route(self, snapshot: Snapshot) -> None:
        self._require_answer()
        if snapshot == self.snapshot:
            return
        if self.snapshot is not NOTHING_ROUTED and snapshot.order <= self.snapshot.order:
            raise Conflict(f"stale snapshot {snapshot.order}, {self.snapshot.order} counts")
        self.snapshot = snapshot
        self.history.append(snapshot)

    def observations(self, after: int) -> dict[str, Any]:
        self._require_answer()
        found = self._ring[after:]
        kept = [entry for entry in map(self.garble, found) if entry is not None]
        return {"next": len(self._ring), "dropped": 0, "observations": kept}

    def stats(self) -> dict[str, Any]:
        self._require_answer()
        return {"in_flight": {process.backend.url: 0 for process in self.processes.values()}}

    # The street

    def _require_answer(self) -> None:
        self._advance()
        if self.silent:
            raise ServiceError("the router does not answer")

    def _advance(self) -> None:
        """Let the frames and the planned events up to now happen."""
        while self._until < (now := self.clock.now()):
            for due in [one for one in self._due if one[0] <= self._until]:
                self._due.remove(due)
                due[1]()
            self._until = min(self._until + 0.25, now)
            self._frames(self._until)

    def _frames(self, end_s: float) -> None:
        """The frames up to `end_s`: cameras take turns, so that all frames come at even distances."""
        if not self.num_cameras:
            return
        while (time_s := self._began + self._next / (self.fps * self.num_cameras)) < end_s:
            self._frame(self._next, time_s)
            self._next += 1

    def _frame(self, number: int, time_s: float) -> None:
        now, camera = self.snapshot, number % self.num_cameras
        if now.champion is None:
            return
        takes = max(1, int(now.share * self.num_cameras))
        in_canary = now.mode == "canary" and (camera + (now.promotion or 0)) % self.num_cameras < takes
        served_by, other = ("candidate", "champion") if in_canary else ("champion", "candidate")
        arms: dict[str, Any] = {"champion": None, "candidate": None}
        arms[served_by] = self._answer(getattr(now, served_by), number, time_s)
        good = arms[served_by]["status"] == 200
        fallback = not good and now.mode != "shadow" and getattr(now, other) is not None
        if fallback or in_canary or now.mode == "shadow":
            arms[other] = self._answer(getattr(now, other), number, time_s)
        if fallback and arms[other]["status"] == 200:
            served_by, good = other, True
        self.num_frames += 1
        self.num_lost += not good
        self._ring.append(
            {
                "seq": len(self._ring) + 1,
                "time": time_s,
                "promotion": now.promotion,
                "mode": now.mode,
                "camera": f"cam{camera:02d}",
                "request_id": f"r{self.num_frames}",
                "served_by": served_by,
                "fallback": fallback,
                **arms,
            }
        )

    def _answer(self, backend: Backend, number: int, time_s: float) -> dict[str, Any]:
        process = self.processes.get(backend.version)
        if process is None or process.backend.url != backend.url:
            return arm(backend.version, 0, 1.0, "no connection", [])
        process.num_answers += 1
        return self.draw(backend.version, number, time_s)

    def draw(self, version: str, number: int, time_s: float) -> dict[str, Any]:
        """What a running version makes of a frame; frames are numbered from 0 on."""
        behaviour, shared = self._behaviour(version), self.shared_fault(time_s)
        latency_ms = behaviour.latency_ms * math.exp(self._random.gauss(0, behaviour.sigma))
        if shared == "slow":
            latency_ms += 200
        if shared == "outage" or self._random.random() < behaviour.fail_share:
            return arm(version, 500, latency_ms, "status 500", [])
        return arm(
            version, 200, latency_ms, None, [box for box in BOXES if self._random.random() >= behaviour.miss_share]
        )

    def _behaviour(self, version: str) -> Behaviour:
        behaviour = self.behaviours.get(version, Behaviour())
        process = self.processes.get(version)
        while behaviour.then is not None and process is not None and process.num_answers >= behaviour.from_answer:
            behaviour = behaviour.then
        return behaviour


def arm(
    version: str, status: int, latency_ms: float, error: str | None, detections: list[list[float]]
) -> dict[str, Any]:
    """An answer as the router observes it."""
    return {
        "version": version,
        "status": status,
        "latency_ms": round(latency_ms, 3),
        "error": error,
        "detections": detections,
    }

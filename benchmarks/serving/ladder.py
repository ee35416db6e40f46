"""The ladder on one model: every rung alone, then the whole service, closed loop and open loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.loopback import Tally, closed_loop, open_loop
from benchmarks.serving.climb import Climb, Step, climb, judge
from benchmarks.serving.limits import limit
from benchmarks.serving.process import Service, stage_means
from benchmarks.serving.rungs import BATCHER, DECODE, LONE, LOOP, Rung, batcher_rate
from bentos.detector.detector import Detector
from bentos.detector.settings import Settings

FIRST_SHARE = 0.5
"""Of the limit, or of a peer's closed loop: where a climb begins."""


@dataclass(frozen=True)
class Effort:
    """How long things are measured, and what passes.

    Attributes:
        budget_ms: What p99 has to stay under.
        rung_s: Of each rung in a round.
        closed_s: Of a closed loop.
        step_s: Of each rate of a climb.
        confirm_s: Of the last rate of a climb.
        resolution: Of our climbs, share of the rate.
        peer_resolution: Of all climbs where peers are compared.
        lone_s: Of the lone camera.
        overload_s: Of the overload.
    """

    budget_ms: float = 100.0
    rung_s: float = 1.0
    closed_s: float = 4.0
    step_s: float = 4.0
    confirm_s: float = 8.0
    resolution: float = 0.025
    peer_resolution: float = 0.05
    lone_s: float = 10.0
    overload_s: float = 8.0


@dataclass(frozen=True)
class Cameras:
    """The load: what each camera sends, over and over, and when in its period it sends."""

    images: Sequence[bytes]
    requests: Sequence[Sequence[bytes]]
    phases: Sequence[float]

    @classmethod
    def of(cls, images: Sequence[bytes], num: int, encode: Callable[[bytes], bytes]) -> Cameras:
        """`num` cameras, each beginning with another image; `encode` makes a request of an image."""
        sent = [encode(image) for image in images]
        starts = [number % len(sent) for number in range(num)]
        phases = np.random.default_rng(0).random(num).tolist()
        return cls(images, [[*sent[start:], *sent[:start]] for start in starts], phases)

    @property
    def mixed(self) -> list[bytes]:
        """One request of each camera: for closed loops."""
        return [requests[0] for requests in self.requests]


@dataclass(frozen=True)
class Round:
    """All rungs once. `rates` by (rung, variant), 1/s; `stages_ms` are the service's own, closed loop."""

    rates: dict[tuple[str, str], float]
    http: Tally
    closed: Tally
    service_cpu_ms: float
    stages_ms: dict[str, float]
    has_own_device: bool
    climb: Climb = field(default_factory=Climb)

    def best(self, name: str) -> float:
        """The best variant of a rung."""
        return max(rate for (rung, _), rate in self.rates.items() if rung == name)

    @property
    def limit(self) -> float:
        """What the parts allow."""
        return limit(self.best(LOOP), self.best(DECODE), self.http.rate, has_own_device=self.has_own_device)

    @property
    def bare_ms(self) -> float:
        """Time of one frame in the bare loop, one at a time."""
        return 1000 / self.rates[LOOP, LONE]


@dataclass(frozen=True)
class Bench:
    """Everything that a round needs."""

    detector: Detector
    settings: Settings
    cameras: Cameras
    rungs: Sequence[Rung]
    http_port: int
    service: Service
    effort: Effort


def measure_round(bench: Bench) -> Round:
    """All rungs in turn, then a climb."""
    effort, window = bench.effort, len(bench.cameras.requests)
    rates = {(rung.name, rung.variant): rung.rate(effort.rung_s) for rung in bench.rungs}
    rates[BATCHER, f"{window} under way"] = batcher_rate(
        bench.detector, bench.settings, bench.cameras.images, window, 2 * effort.rung_s
    )
    mixed = bench.cameras.mixed
    http = closed_loop(bench.http_port, mixed, window, effort.rung_s).require_good("the trivial server")
    closed_loop(bench.service.port, mixed, window, effort.rung_s / 2)  # warm connections and allocations
    stages, cpu_s = bench.service.stages(), bench.service.cpu_s()
    closed = closed_loop(bench.service.port, mixed, window, effort.closed_s)  # what is refused does not count
    cpu_s = bench.service.cpu_s() - cpu_s
    done = Round(
        rates=rates,
        http=http,
        closed=closed,
        service_cpu_ms=1000 * cpu_s / closed.num_sent,
        stages_ms=stage_means(stages, bench.service.stages()),
        has_own_device=bench.detector.spec.engine.device != "CPU",
    )
    return dataclasses.replace(
        done,
        climb=climb_to(bench.service.port, bench.cameras, FIRST_SHARE * done.limit, effort.resolution, effort),
    )


def climb_to(port: int, cameras: Cameras, first: float, resolution: float, effort: Effort) -> Climb:
    """The highest rate of a service in an open loop, from `first` on."""

    def attempt(rate: float, seconds: float) -> Step:
        tally = open_loop(port, cameras.requests, rate, seconds, cameras.phases)
        return judge(rate, tally, effort.budget_ms)

    return climb(attempt, first, resolution=resolution, step_s=effort.step_s, confirm_s=effort.confirm_s)

"""The order of the work: model after model, section after section, round after round."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loopback import closed_loop, detect_request
from benchmarks.processes import await_line, started
from benchmarks.report import median
from benchmarks.serving.compare import OURS, measure_peers
from benchmarks.serving.ladder import Bench, Cameras, Effort, measure_round
from benchmarks.serving.lineup import Peer
from benchmarks.serving.models import Model
from benchmarks.serving.outcome import Outcome
from benchmarks.serving.pace import Pace, Part
from benchmarks.serving.process import cold_start_s, read_memory, running
from benchmarks.serving.profiling import print_profile
from benchmarks.serving.rungs import LONE, LOOP, benchmark_app_rate, build_rungs
from benchmarks.serving.trials import measure_lone, measure_overload, measure_paced_ms
from bentos.detector.detector import Detector
from bentos.detector.settings import Settings

SECTIONS = ("cold", "ladder", "lone", "overload", "peers")
_NUM_COLD_STARTS = 3
_LOADED_S = {"ladder": 75.0, "lone": 11.0, "overload": 14.0}
_COLD_S, _TURN_S = 15.0, 45.0


@dataclass(frozen=True)
class Run:
    """What is to be done, how thoroughly, and under which load."""

    settings: Settings
    images: Sequence[bytes]
    num_cameras: int
    peers: Sequence[Peer]
    sections: Sequence[str]
    effort: Effort
    rounds: int
    peer_rounds: int
    all_defaults: bool
    profile: bool

    def all(self, models: Sequence[Model]) -> list[Outcome]:
        """Measure every model. Raises LoadError, or RuntimeError when the service does not run."""
        largest = max(model.side for model in models)
        lineups = [self._lineup(model, model.side == largest) for model in models]
        pace = Pace([part for model, peers in zip(models, lineups, strict=True) for part in self._plan(model, peers)])
        return [self._one(model, peers, pace) for model, peers in zip(models, lineups, strict=True)]

    def _lineup(self, model: Model, is_largest: bool) -> list[Peer]:
        """Documented defaults are of large inputs, and only measured there, unless they are asked for everywhere."""
        if "peers" not in self.sections or model.weights is None:
            return []
        return [peer for peer in self.peers if peer.way == "engine" or is_largest or self.all_defaults]

    def _one(self, model: Model, peers: Sequence[Peer], pace: Pace) -> Outcome:
        outcome = Outcome(model)
        if "cold" in self.sections:
            pace.begin(f"{model.label}: cold")
            outcome.cold_s += [cold_start_s(model.folder) for _ in range(_NUM_COLD_STARTS)]
        if self.profile or set(self.sections) & set(_LOADED_S):
            with self._bench(model) as bench:
                for number in range(1, self.rounds + 1):
                    self._measure(bench, outcome, f"{model.label}, round {number}", pace)
                outcome.memory = read_memory(bench.service.pid)
                if self.profile:
                    print_profile(bench.service, bench.cameras)
        for number in range(1, self.peer_rounds + 1):
            if peers:
                where = f"{model.label}, round {number}"
                outcome.peers.append(
                    measure_peers(
                        model, self.images, self.num_cameras, peers, self.effort,
                        lambda name, where=where: pace.begin(f"{where}: {name}"),  # type: ignore[misc]
                    )
                )  # fmt: skip
        return outcome

    def _measure(self, bench: Bench, outcome: Outcome, where: str, pace: Pace) -> None:
        if "ladder" in self.sections:
            pace.begin(f"{where}: ladder")
            if outcome.benchmark_app is None:
                model = outcome.model
                outcome.benchmark_app = benchmark_app_rate(model.folder, model.spec, round(3 * bench.effort.rung_s))
            outcome.rounds.append(measure_round(bench))
        if "lone" in self.sections:
            pace.begin(f"{where}: lone")
            bare = next(rung for rung in bench.rungs if (rung.name, rung.variant) == (LOOP, LONE))
            outcome.bare_ms.append(1000 / bare.rate(bench.effort.rung_s))
            outcome.paced_ms.append(measure_paced_ms(bare.step, bench.effort))
            outcome.lone.append(measure_lone(bench.service.port, bench.cameras, bench.effort))
        if "overload" in self.sections and outcome.overload is None:
            pace.begin(f"{where}: overload")
            peak = median([one.closed.rate for one in outcome.rounds]) if outcome.rounds else _peak(bench)
            outcome.overload = measure_overload(bench.service.port, bench.cameras, self.settings, peak, bench.effort)

    def _plan(self, model: Model, peers: Sequence[Peer]) -> list[Part]:
        plan = [Part(f"{model.label}: cold", _COLD_S)] if "cold" in self.sections else []
        for number in range(1, self.rounds + 1):
            for section, seconds in _LOADED_S.items():
                if section in self.sections and (section != "overload" or number == 1):
                    plan.append(Part(f"{model.label}, round {number}: {section}", seconds))
        if peers:
            names = [OURS, *(peer.name for peer in peers), f"{OURS} again"]
            for number in range(1, self.peer_rounds + 1):
                plan += [Part(f"{model.label}, round {number}: {name}", _TURN_S) for name in names]
        return plan

    @contextlib.contextmanager
    def _bench(self, model: Model) -> Iterator[Bench]:
        """The engine in this process, and two servers: the trivial one and the service."""
        # As the service loads it.
        detector = Detector.load(
            model.folder, hint=self.settings.hint, num_threads=self.settings.num_threads,
            max_pixels=self.settings.max_pixels,
        )  # fmt: skip
        detector.warm_up(self.settings.max_batch)
        cameras = Cameras.of(self.images, self.num_cameras, lambda image: detect_request(image, "cam"))
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            log = Path(folder, "http.log")
            http = stack.enter_context(started("benchmarks.fake_backend", log=log))
            http_port = int(await_line(http, log, r"(\d+)\n")[1])
            service = stack.enter_context(running(model.folder))
            rungs = build_rungs(detector, self.settings, self.images)
            yield Bench(detector, self.settings, cameras, rungs, http_port, service, self.effort)
        detector.close()


def _peak(bench: Bench) -> float:
    """What the service answers in a closed loop."""
    tally = closed_loop(bench.service.port, bench.cameras.mixed, len(bench.cameras.requests), bench.effort.closed_s)
    return tally.require_good("the service").rate

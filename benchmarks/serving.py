"""How much of what engine, decoder and HTTP allow on this machine the whole service delivers, rung by rung.

The headline is the highest rate, in an open loop, with p99 under the budget and no answer other than 200.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loopback import (
    Tally,
    await_line,
    await_ready,
    closed_loop,
    cpu_seconds,
    detect_request,
    open_loop,
    started,
)
from benchmarks.report import ROOT, Result, median, new_parser, publish, read_machine, read_versions
from benchmarks.rungs import Rung, batcher_rate, build_rungs
from bentos.detector.detector import Detector
from bentos.detector.errors import LoadError
from bentos.detector.settings import Settings, read_settings
from flows.dataset.scene import render_dataset
from flows.params_file import read_params

NUM_IMAGES = 32
CLIMB = (0.6, 0.05, 1.2)  # first rate, step and last rate of a climb, in shares of the limit
_BATCHER, _HTTP = "4 batcher, no HTTP", "5 HTTP alone"
_CLOSED, _OPEN = "6 service, closed loop", "6 service, open loop"
_HEADERS = ("rung", "variant", "frames/s", "of the limit", "p50 ms", "p99 ms", "client CPU ms")


@dataclass(frozen=True)
class Step:
    """One rate of a climb, and what came of it."""

    rate: float
    tally: Tally
    passed: bool


@dataclass(frozen=True)
class Round:
    """All rungs once. `rates` by (rung, variant)."""

    rates: dict[tuple[str, str], float]
    closed: Tally
    http: Tally
    climb: list[Step]
    service_cpu_ms: float  # per frame, closed loop
    on_gpu: bool

    def best(self, number: str) -> float:
        return max(rate for (name, _), rate in self.rates.items() if name.startswith(number))

    @property
    def limit(self) -> float:
        """What the rungs 2, 3 and 5 allow together: shared cores add up their times, an accelerator overlaps."""
        parts = [self.best("2"), self.best("3"), self.http.rate]
        return min(parts) if self.on_gpu else 1 / sum(1 / rate for rate in parts)

    @property
    def headline(self) -> Step | None:
        """The highest rate of the climb that passed."""
        return max((step for step in self.climb if step.passed), key=lambda step: step.rate, default=None)


@dataclass(frozen=True)
class Bench:
    """Everything that a round needs."""

    detector: Detector
    settings: Settings
    images: Sequence[bytes]
    requests: Sequence[Sequence[bytes]]  # for each camera
    phases: Sequence[float]
    rungs: Sequence[Rung]
    http_port: int
    service_port: int
    service_pid: int


def main() -> int:
    parser = new_parser("serving", (__doc__ or "").split("\n")[0])
    parser.set_defaults(rounds=3)
    parser.add_argument("--model", type=Path, default=Path("artifacts/model"), help="model directory")
    parser.add_argument("--budget-ms", type=float, default=100.0, help="p99 below this passes (default: %(default)s)")
    parser.add_argument("--cameras", type=int, default=16, help="connections (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each rung in a round (default: %(default)s)")
    parser.add_argument(
        "--step-seconds", type=float, default=4.0, help="of each rate of a climb (default: %(default)s)"
    )
    parser.add_argument("-S", dest="overrides", action="append", default=[], help="another value than in params.yaml")
    given = parser.parse_args()
    machine = read_machine()
    try:
        settings = read_settings()
        detector = Detector.load(given.model, hint=settings.hint, num_threads=settings.num_threads)
    except LoadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    detector.warm_up()
    images = _render(given.overrides)
    with _running(given.model, detector, settings, images, given.cameras) as bench:
        rounds = [_measure(bench, given.seconds, given.step_seconds, given.budget_ms) for _ in range(given.rounds)]
    publish(_result(given, rounds, bench, machine), given.results)
    return 0


def _render(overrides: list[str]) -> list[bytes]:
    """Frames of two cameras as a camera sends them, of the size in params.yaml."""
    params = read_params(ROOT / "params.yaml", overrides)
    few = params.render.model_copy(update={"cameras": 2, "clips_per_camera": 4, "frames_per_clip": NUM_IMAGES // 8})
    with tempfile.TemporaryDirectory() as folder:
        render_dataset(Path(folder, "data"), few, params.seed)
        return [path.read_bytes() for path in sorted(Path(folder).rglob("*.jpg"))]


@contextlib.contextmanager
def _running(
    model: Path, detector: Detector, settings: Settings, images: Sequence[bytes], num_cameras: int
) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        log = Path(folder, "http.log")
        http = stack.enter_context(started("benchmarks.fake_backend", log=log))
        http_port = int(await_line(http, log, r"(\d+)\n")[1])
        port, log = _free_port(), Path(folder, "service.log")
        options = ("--model-dir", str(model.resolve()), "--port", str(port))
        service = stack.enter_context(started("bentos.detector", *options, log=log))
        await_ready(service, log, f"http://127.0.0.1:{port}")
        yield Bench(
            detector=detector,
            settings=settings,
            images=images,
            requests=[
                [detect_request(image, f"cam{camera:02d}") for image in (*images[camera:], *images[:camera])]
                for camera in (number % len(images) for number in range(num_cameras))
            ],
            phases=np.random.default_rng(0).random(num_cameras).tolist(),
            rungs=build_rungs(detector, settings, images),
            http_port=http_port,
            service_port=port,
            service_pid=service.pid,
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _measure(bench: Bench, seconds: float, step_seconds: float, budget_ms: float) -> Round:
    rates = {(rung.name, rung.variant): rung.rate(seconds) for rung in bench.rungs}
    window = len(bench.requests)
    connections = f"{window} connections"
    rates[_BATCHER, f"{window} under way"] = batcher_rate(
        bench.detector, bench.settings, bench.images, window, 2 * seconds
    )
    mixed = [requests[0] for requests in bench.requests]
    http = closed_loop(bench.http_port, mixed, window, seconds).require_good("the trivial server")
    closed_loop(bench.service_port, mixed, window, 0.5)  # warm connections and allocations
    cpu_s = cpu_seconds(bench.service_pid)
    closed = closed_loop(bench.service_port, mixed, window, 2 * seconds)  # a slow model refuses some: they do not count
    cpu_s = cpu_seconds(bench.service_pid) - cpu_s
    rates[_HTTP, connections], rates[_CLOSED, connections] = http.rate, closed.rate
    on_gpu = bench.detector.spec.engine.device != "CPU"
    before = Round(rates, closed, http, [], 1000 * cpu_s / closed.num_sent, on_gpu)
    return Round(
        rates, closed, http, _climb(bench, before.limit, step_seconds, budget_ms), before.service_cpu_ms, on_gpu
    )


def _climb(bench: Bench, limit: float, seconds: float, budget_ms: float) -> list[Step]:
    """Raise the rate until two rates in a row fail; if already the first do, lower it until one passes."""
    first, step, last = CLIMB
    steps: list[Step] = []
    for share in np.arange(first, last, step):
        steps.append(_try(bench, float(share) * limit, seconds, budget_ms))
        if len(steps) > 1 and not (steps[-1].passed or steps[-2].passed):
            break
    for share in np.arange(first - 0.1, 0.05, -0.1):
        if any(one.passed for one in steps):
            break
        steps.append(_try(bench, float(share) * limit, seconds, budget_ms))
    return steps


def _try(bench: Bench, rate: float, seconds: float, budget_ms: float) -> Step:
    tally = open_loop(bench.service_port, bench.requests, rate, seconds, bench.phases)
    return Step(rate, tally, tally.all_good and tally.p(99) < budget_ms)


def _result(given: Any, rounds: list[Round], bench: Bench, machine: dict[str, Any]) -> Result:
    spec = bench.detector.spec
    figures = _figures(rounds)
    width, height = spec.input.size_wh
    return Result(
        name="serving",
        sentence=f"{spec.name} ({spec.engine.kind} {spec.engine.precision}, {width} x {height}) answers "
        f"{figures['headline_rate']:.0f} frames/s with p99 under {given.budget_ms:.0f} ms: "
        f"{figures['efficiency']:.0%} of the {figures['limit']:.0f} that its parts allow.",
        headers=_HEADERS,
        rows=_rows(rounds, figures),
        settings={
            **{name: getattr(given, name) for name in ("rounds", "budget_ms", "cameras", "seconds", "step_seconds")},
            "render": given.overrides,
            "model": {"name": spec.name, "digest": spec.digest, **spec.engine.model_dump()},
            "service": bench.settings.model_dump(include={"hint", "num_threads", "num_decoders", "max_batch"}),
            "mean_image_kb": sum(map(len, bench.images)) / len(bench.images) / 1000,
        },
        figures=figures,
        machine=machine,
        versions=read_versions("bentoml", "openvino", "onnxruntime", "tensorrt", "simplejpeg", "uvloop"),
    )


def _figures(rounds: list[Round]) -> dict[str, Any]:
    """Medians over the rounds; shares of the limit are formed within a round."""
    rates = [round_.headline.rate if round_.headline else 0.0 for round_ in rounds]
    return {
        "rungs": {
            f"{name}, {variant}": {
                "rate": median(round_.rates[name, variant] for round_ in rounds),
                "share": median(round_.rates[name, variant] / round_.limit for round_ in rounds),
            }
            for name, variant in rounds[0].rates
        },
        "limit": median(round_.limit for round_ in rounds),
        "limit_rule": "min(2, 3, 5)" if rounds[0].on_gpu else "1 / (1/(2) + 1/(3) + 1/(5))",
        "headline_rate": median(rates),
        "efficiency": median(rate / round_.limit for rate, round_ in zip(rates, rounds, strict=True)),
        "service_cpu_ms": median(round_.service_cpu_ms for round_ in rounds),
        "closed_loop_statuses": [_statuses(round_.closed) for round_ in rounds],
        "climbs": [[_describe(step) for step in round_.climb] for round_ in rounds],
    }


def _describe(step: Step) -> dict[str, Any]:
    return {
        "rate": step.rate,
        "passed": step.passed,
        "p50_ms": step.tally.p(50),
        "p99_ms": step.tally.p(99),
        "statuses": _statuses(step.tally),
        "client_cpu_ms": step.tally.client_cpu_ms,
    }


def _statuses(tally: Tally) -> dict[str, int]:
    return {str(status): count for status, count in sorted(tally.statuses.items())}


def _rows(rounds: list[Round], figures: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, variant in sorted(rounds[0].rates):
        of = figures["rungs"][f"{name}, {variant}"]
        share = f"{of['share']:.0%}" if name[0] in "46" else ""  # the others are parts, not the whole
        tallies = [round_.http if name == _HTTP else round_.closed for round_ in rounds]
        latencies = _latency_cells(tallies if name in (_HTTP, _CLOSED) else [])
        rows.append([name, variant, f"{of['rate']:.1f}", share, *latencies])
    rows.append(["limit", figures["limit_rule"], f"{figures['limit']:.1f}", "100%", *_latency_cells([])])
    passed = _latency_cells([round_.headline.tally for round_ in rounds if round_.headline])
    headline, share = f"{figures['headline_rate']:.1f}", f"{figures['efficiency']:.0%}"
    return [*rows, [_OPEN, f"median of {len(rounds)} climbs", headline, share, *passed]]


def _latency_cells(tallies: Sequence[Tally]) -> list[str]:
    if not tallies:
        return ["", "", ""]
    p50, p99 = (median(tally.p(percent) for tally in tallies) for percent in (50, 99))
    return [f"{p50:.1f}", f"{p99:.1f}", f"{median(tally.client_cpu_ms for tally in tallies):.2f}"]


if __name__ == "__main__":
    sys.exit(main())

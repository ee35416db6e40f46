"""What the router costs on one core: straight to a back end, through the router, and through HAProxy, taking turns.

The back ends do nothing, so that all there is to see is what stands before them.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.haproxy import HAProxy, haproxy_running, read_haproxy_version
from benchmarks.loopback import Tally, closed_loop, detect_request, open_loop
from benchmarks.processes import await_line, cpu_seconds, started
from benchmarks.report import Result, median, new_parser, publish, read_machine, read_versions

NUM_CAMERAS = 64
SPLIT = (7, 1)
"""Cameras to champion and candidate, where the traffic is split."""
BODY_BYTES = {"1 KB": 1_000, "100 KB": 100_000}
STEADY_RATE = 1500.0
STEADY_BODY = "1 KB"
HAPROXY_SPLIT = "HAProxy, 1/8 split"
ROUTER_WAYS = {  # name: mode and share of a snapshot
    "router, champion": ("champion", 0.0),
    "router, shadow": ("shadow", 0.0),
    "router, canary": ("canary", 1.0),
    "router, 1/8 canary": ("canary", SPLIT[1] / sum(SPLIT)),
}
_HEADERS = (
    "body", "way", "added p50 ms", "p99 ms", "1/s", "CPU us", "copied", "1500/s: p50 ms", "p99 ms",
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """Two back ends, a router before them, and perhaps HAProxy."""

    backend_ports: tuple[int, int]
    router_port: int
    router_pid: int
    admin_url: str
    token: str
    haproxy: HAProxy | None
    generations: Iterator[int]

    @property
    def ways(self) -> tuple[str, ...]:
        """What is measured."""
        return (*ROUTER_WAYS, *([HAPROXY_SPLIT] if self.haproxy else []))

    def prepare(self, way: str) -> tuple[int, int]:
        """Make `way` count; port and process id of what then stands before the back ends."""
        if way == HAPROXY_SPLIT:
            assert self.haproxy is not None
            return self.haproxy.port, self.haproxy.pid
        mode, share = ROUTER_WAYS[way]
        champion, candidate = (
            {"version": str(number), "digest": "", "url": f"http://127.0.0.1:{port}"}
            for number, port in enumerate(self.backend_ports, start=1)
        )
        snapshot = {
            "epoch": 1, "generation": next(self.generations), "mode": mode, "share": share, "promotion": 1,
            "champion": champion, "candidate": None if mode == "champion" else candidate,
        }  # fmt: skip
        self._admin("/routing", "PUT", json.dumps(snapshot).encode())
        return self.router_port, self.router_pid

    def num_copied(self) -> int:
        """Copies of the router since the start, once nothing is in flight any more."""
        while any((stats := self._admin("/stats"))["in_flight"].values()):
            time.sleep(0.01)
        return int(stats["shadow_sent_total"])

    def _admin(self, path: str, method: str = "GET", body: bytes | None = None) -> dict[str, Any]:
        request = urllib.request.Request(
            self.admin_url + path, body, {"authorization": f"Bearer {self.token}"}, method=method
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.load(answer))


@dataclass(frozen=True)
class Turn:
    """One turn of one way. Latency with one connection, rate with many, and cameras that wait for nobody."""

    direct: Tally
    through: Tally
    many: Tally
    steady: Tally | None
    cpu_us: float  # of what stands before the back ends, per request, with many connections
    copied: float  # share of those requests that were sent to the other back end as well


def main() -> int:
    parser = new_parser("router", (__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.75, help="of each measurement (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=16, help="for the rates (default: %(default)s)")
    given = parser.parse_args()
    machine = read_machine()
    turns: dict[tuple[str, str], list[Turn]] = {}
    with tempfile.TemporaryDirectory() as folder, _running(Path(folder)) as bench:
        for _ in range(given.rounds):
            for body, way in itertools.product(BODY_BYTES, bench.ways):
                turn = _take_turn(bench, way, body, given.seconds, given.connections)
                turns.setdefault((body, way), []).append(turn)
        share = bench.haproxy.candidate_share() if bench.haproxy else None
    figures = {f"{body}, {way}": _figures(measured) for (body, way), measured in turns.items()}
    settings = {
        "rounds": given.rounds, "seconds": given.seconds, "connections": given.connections,
        "cameras": NUM_CAMERAS, "steady_rate": STEADY_RATE, "pinned": len(os.sched_getaffinity(0)) > 1,
        "haproxy_candidate_share": share,
    }  # fmt: skip
    result = Result(
        name="router",
        sentence=_sentence(figures),
        headers=_HEADERS,
        rows=[_row(body, way, figures[f"{body}, {way}"]) for body, way in turns],
        settings=settings,
        figures=figures,
        machine=machine,
        versions={**read_versions("uvloop", "httptools", "orjson"), "haproxy": read_haproxy_version()},
    )
    publish(result, given.results)
    return 0


@contextlib.contextmanager
def _running(folder: Path) -> Iterator[Bench]:
    """Router and HAProxy on one core, which they have in turns; client and back ends on the others."""
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        if len(cores) > 1:
            stack.callback(os.sched_setaffinity, 0, cores)
            os.sched_setaffinity(0, cores[1:])  # and the processes that are started from here on
        ports = []
        for name in ("champion", "candidate"):
            log = folder / f"{name}.log"
            process = stack.enter_context(started("benchmarks.fake_backend", log=log))
            ports.append(int(await_line(process, log, r"(\d+)\n")[1]))
        state, log = folder / "state", folder / "router.log"
        options = ("--port", "0", "--admin-port", "0", "--state-dir", str(state))
        router = stack.enter_context(started("bentos.router", *options, log=log))
        found = await_line(router, log, r"listening on http://[\d.]+:(\d+), admin on (http://\S+)\n")
        haproxy = stack.enter_context(haproxy_running(folder, (ports[0], ports[1]), SPLIT))
        for pid in (router.pid, *([haproxy.pid] if haproxy else [])):
            os.sched_setaffinity(pid, cores[:1])
        token = (state / "token").read_text(encoding="ascii").strip()
        yield Bench((ports[0], ports[1]), int(found[1]), router.pid, found[2], token, haproxy, itertools.count(1))


def _take_turn(bench: Bench, way: str, body_name: str, seconds: float, num_connections: int) -> Turn:
    body = os.urandom(BODY_BYTES[body_name])
    requests = [detect_request(body, f"cam{number:02d}") for number in range(NUM_CAMERAS)]
    port, pid = bench.prepare(way)
    closed_loop(port, requests, num_connections, 0.2)  # warm connections, cameras seen
    bench.num_copied()
    direct = closed_loop(bench.backend_ports[0], requests, 1, seconds)
    through = closed_loop(port, requests, 1, seconds)
    num_copied, cpu_s = bench.num_copied(), cpu_seconds(pid)
    many = closed_loop(port, requests, num_connections, seconds)
    num_copied, cpu_s = bench.num_copied() - num_copied, cpu_seconds(pid) - cpu_s
    steady = _steady(port, requests, seconds) if body_name == STEADY_BODY else None
    for tally in (direct, through, many, *([steady] if steady else [])):
        tally.require_good(way)
    return Turn(direct, through, many, steady, 1e6 * cpu_s / many.num_sent, num_copied / many.num_sent)


def _steady(port: int, requests: Sequence[bytes], seconds: float) -> Tally:
    phases = [number / len(requests) for number in range(len(requests))]
    return open_loop(port, [[request] for request in requests], STEADY_RATE, seconds, phases)


def _figures(turns: Sequence[Turn]) -> dict[str, float]:
    """Medians over the turns; differences are formed within a turn."""
    figures = {
        "direct_p50_ms": median(turn.direct.p(50) for turn in turns),
        "added_p50_ms": median(turn.through.p(50) - turn.direct.p(50) for turn in turns),
        "p99_ms": median(turn.through.p(99) for turn in turns),
        "rate": median(turn.many.rate for turn in turns),
        "cpu_us": median(turn.cpu_us for turn in turns),
        "client_cpu_us": median(1000 * turn.many.client_cpu_ms for turn in turns),
        "copied_share": median(turn.copied for turn in turns),
    }
    steady = [turn.steady for turn in turns if turn.steady]
    if steady:
        figures["steady_rate"] = median(tally.rate for tally in steady)
        figures["steady_p50_ms"] = median(tally.p(50) for tally in steady)
        figures["steady_p99_ms"] = median(tally.p(99) for tally in steady)
    return figures


def _sentence(figures: dict[str, dict[str, float]]) -> str:
    ours = {name: of for name, of in figures.items() if "router" in name}
    small = [of for name, of in ours.items() if name.startswith(STEADY_BODY)]
    added, rate = max(of["added_p50_ms"] for of in ours.values()), min(of["rate"] for of in small)
    text = f"On one core the router answers at least {rate:.0f} small requests/s and adds at most {added:.2f} ms to the"
    text += " median answer, in any mode."
    peer = figures.get(f"{STEADY_BODY}, {HAPROXY_SPLIT}")
    return text if peer is None else f"{text} HAProxy, which copies and records nothing, answers {peer['rate']:.0f}/s."


def _row(body: str, way: str, of: dict[str, float]) -> list[str]:
    steady = [f"{of[name]:.3f}" if name in of else "" for name in ("steady_p50_ms", "steady_p99_ms")]
    return [
        body, way, f"{of['added_p50_ms']:.3f}", f"{of['p99_ms']:.3f}", f"{of['rate']:.0f}", f"{of['cpu_us']:.0f}",
        f"{of['copied_share']:.0%}", *steady,
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

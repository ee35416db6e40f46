"""What the router costs: the same requests straight to a back end and through the router, taking turns.

The back ends do nothing, so that all there is to see is the router.
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.loopback import Tally, closed_loop, detect_request
from benchmarks.processes import await_line, cpu_seconds, started
from benchmarks.report import Result, median, new_parser, publish, read_machine, read_versions

MODES = ("champion", "shadow", "canary")
NUM_CAMERAS = 8
BODY_BYTES = {"1 KB": 1_000, "100 KB": 100_000}
_HEADERS = (
    "body", "mode", "direct p50 ms", "through p50 ms", "added p50 ms", "through p99 ms",
    "direct 1/s", "through 1/s", "router CPU us", "copied",
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """Two back ends and a router before them."""

    backend_ports: tuple[int, int]
    router_port: int
    router_pid: int
    admin_url: str
    token: str
    generations: Iterator[int]

    def route(self, mode: str) -> None:
        """Make `mode` count. In a canary the candidate answers every camera: one path, not a mean of two."""
        champion, candidate = (
            {"version": str(number), "digest": "", "url": f"http://127.0.0.1:{port}"}
            for number, port in enumerate(self.backend_ports, start=1)
        )
        snapshot = {
            "epoch": 1, "generation": next(self.generations), "mode": mode, "share": 1.0 if mode == "canary" else 0.0,
            "promotion": 1, "champion": champion, "candidate": None if mode == "champion" else candidate,
        }  # fmt: skip
        self._admin("/routing", "PUT", json.dumps(snapshot).encode())

    def num_dropped(self) -> int:
        """Copies that were not sent since the start, once nothing is in flight any more."""
        while any((stats := self._admin("/stats"))["in_flight"].values()):
            time.sleep(0.01)
        return int(stats["shadow_dropped_total"])

    def _admin(self, path: str, method: str = "GET", body: bytes | None = None) -> dict[str, Any]:
        request = urllib.request.Request(
            self.admin_url + path, body, {"authorization": f"Bearer {self.token}"}, method=method
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.load(answer))


@dataclass(frozen=True)
class Turn:
    """One turn: straight, then through the router. Latency with one connection, rate with many."""

    direct: Tally
    through: Tally
    direct_many: Tally
    through_many: Tally
    router_cpu_us: float  # per request, with many connections
    copied: float  # share of the requests that were copied to the other back end


def main() -> int:
    parser = new_parser("router", (__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.75, help="of each measurement (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=16, help="for the rates (default: %(default)s)")
    given = parser.parse_args()
    machine = read_machine()
    turns: dict[tuple[str, str], list[Turn]] = {}
    with tempfile.TemporaryDirectory() as folder, _running(Path(folder)) as bench:
        for _ in range(given.rounds):
            for body, mode in itertools.product(BODY_BYTES, MODES):
                turn = _take_turn(bench, mode, BODY_BYTES[body], given.seconds, given.connections)
                turns.setdefault((body, mode), []).append(turn)
    figures = {body: {mode: _figures(turns[body, mode]) for mode in MODES} for body in BODY_BYTES}
    worst = max(figures[body][mode]["added_p50_ms"] for body, mode in turns)
    result = Result(
        name="router",
        sentence=f"The router adds at most {worst:.2f} ms to the median answer, in any mode.",
        headers=_HEADERS,
        rows=[_row(body, mode, figures[body][mode]) for body, mode in turns],
        settings={"rounds": given.rounds, "seconds": given.seconds, "connections": given.connections},
        figures=figures,
        machine=machine,
        versions=read_versions("uvloop", "httptools", "orjson"),
    )
    publish(result, given.results)
    return 0


@contextlib.contextmanager
def _running(folder: Path) -> Iterator[Bench]:
    with contextlib.ExitStack() as stack:
        ports = []
        for name in ("champion", "candidate"):
            log = folder / f"{name}.log"
            process = stack.enter_context(started("benchmarks.fake_backend", log=log))
            ports.append(int(await_line(process, log, r"(\d+)\n")[1]))
        state, log = folder / "state", folder / "router.log"
        options = ("--port", "0", "--admin-port", "0", "--state-dir", str(state))
        router = stack.enter_context(started("bentos.router", *options, log=log))
        found = await_line(router, log, r"listening on http://[\d.]+:(\d+), admin on (http://\S+)\n")
        token = (state / "token").read_text(encoding="ascii").strip()
        yield Bench((ports[0], ports[1]), int(found[1]), router.pid, found[2], token, itertools.count(1))


def _take_turn(bench: Bench, mode: str, num_bytes: int, seconds: float, num_connections: int) -> Turn:
    body = os.urandom(num_bytes)
    requests = [detect_request(body, f"cam{number:02d}") for number in range(NUM_CAMERAS)]
    bench.route(mode)
    direct_port = bench.backend_ports[0]
    closed_loop(bench.router_port, requests, num_connections, 0.1)  # warm connections, cameras seen
    bench.num_dropped()
    direct = closed_loop(direct_port, requests, 1, seconds)
    through = closed_loop(bench.router_port, requests, 1, seconds)
    dropped = bench.num_dropped()
    direct_many = closed_loop(direct_port, requests, num_connections, seconds)
    cpu_s = cpu_seconds(bench.router_pid)
    through_many = closed_loop(bench.router_port, requests, num_connections, seconds)
    dropped = bench.num_dropped() - dropped
    cpu_s = cpu_seconds(bench.router_pid) - cpu_s
    for tally in (direct, through, direct_many, through_many):
        tally.require_good(mode)
    copied = 0.0 if mode == "champion" else 1 - dropped / through_many.num_sent
    return Turn(direct, through, direct_many, through_many, 1e6 * cpu_s / through_many.num_sent, copied)


def _figures(turns: list[Turn]) -> dict[str, float]:
    """Medians over the turns; differences and ratios are formed within a turn."""
    return {
        "direct_p50_ms": median(turn.direct.p(50) for turn in turns),
        "through_p50_ms": median(turn.through.p(50) for turn in turns),
        "added_p50_ms": median(turn.through.p(50) - turn.direct.p(50) for turn in turns),
        "direct_p99_ms": median(turn.direct.p(99) for turn in turns),
        "through_p99_ms": median(turn.through.p(99) for turn in turns),
        "direct_rate": median(turn.direct_many.rate for turn in turns),
        "through_rate": median(turn.through_many.rate for turn in turns),
        "router_cpu_us": median(turn.router_cpu_us for turn in turns),
        "client_cpu_us": median(1000 * turn.through_many.client_cpu_ms for turn in turns),
        "copied_share": median(turn.copied for turn in turns),
    }


def _row(body: str, mode: str, of: dict[str, float]) -> list[str]:
    return [
        body, mode, f"{of['direct_p50_ms']:.3f}", f"{of['through_p50_ms']:.3f}", f"{of['added_p50_ms']:.3f}",
        f"{of['through_p99_ms']:.3f}", f"{of['direct_rate']:.0f}", f"{of['through_rate']:.0f}",
        f"{of['router_cpu_us']:.0f}", f"{of['copied_share']:.0%}",
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

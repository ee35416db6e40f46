"""The latency shapes that the online simulation draws from, recorded from the real service behind the real router.

Two copies of one model stand behind a router in shadow mode, so that every frame is answered by both, and cameras send
at a fixed rate. What the router observed is kept: pairs of latencies in the order of the frames, no images.

    python -m benchmarks.decisions.shapes --model DIR        records anew: steady, and beside a busy machine
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import multiprocessing
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.processes import await_line, started
from benchmarks.report import read_machine
from benchmarks.serving.frames import draw_frames
from benchmarks.serving.process import Service, running

SHAPES = Path(__file__).with_name("shapes.json")
NUM_CAMERAS = 8
_WARM_S = 3.0
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """Latencies of two equal versions on the same frames, ms, in the order of the frames: (N,) each."""

    name: str
    served_ms: Floats
    copied_ms: Floats

    def p95_ms(self) -> float:
        """95th percentile of both arms together."""
        return float(np.quantile(np.concatenate([self.served_ms, self.copied_ms]), 0.95))


def read_shapes(path: Path = SHAPES) -> dict[str, Shape]:
    """The recorded shapes by name."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: Shape(name, *(np.asarray(pairs, dtype=np.float64).T)) for name, pairs in tree["pairs_ms"].items()
    }  # fmt: skip


def main() -> int:
    """Record, and replace the file that the simulation reads."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decisions.shapes", description="Record latencies.")
    parser.add_argument("--model", type=Path, required=True, help="model directory; both arms serve it")
    parser.add_argument("--seconds", type=float, default=150.0, help="of each shape (default: %(default)s)")
    parser.add_argument("--fps", type=float, default=2.0, help="frames a second of each camera (default: %(default)s)")
    parser.add_argument("--to", type=Path, default=SHAPES, help="file to write")
    given = parser.parse_args()
    machine = read_machine()
    frames = draw_frames()
    pairs_ms: dict[str, list[tuple[float, float]]] = {}
    with _stack(given.model) as router:
        for name, num_burners in (("steady", 0), ("busy", 2)):
            print(f"recording {name}: {given.seconds:.0f} s", flush=True)
            with _burning(num_burners):
                pairs_ms[name] = router.record(frames, given.fps, given.seconds)
    tree = {
        "about": "latency of answer and copy, ms, of two equal versions, in the order of the frames",
        "settings": {"fps": given.fps, "cameras": NUM_CAMERAS, "seconds": given.seconds},
        "machine": {key: machine[key] for key in ("cpu", "cores", "busy_before_percent")},
        "pairs_ms": pairs_ms,
    }
    given.to.write_text(_compact(tree), encoding="utf-8")
    for name, shape in read_shapes(given.to).items():
        print(f"{name}: {len(shape.served_ms)} pairs, p95 {shape.p95_ms():.1f} ms")
    return 0


@dataclass(frozen=True)
class Stack:
    """A router with two equal versions behind it, in shadow mode."""

    port: int
    admin_url: str
    token: str

    def shadow(self, services: Sequence[Service]) -> None:
        """Have every frame answered by the first and copied to the second."""
        arms = [
            {"version": str(number), "digest": "", "url": f"http://127.0.0.1:{service.port}"}
            for number, service in enumerate(services, start=1)
        ]
        snapshot = {
            "epoch": 1, "generation": 1, "mode": "shadow", "share": 0.0, "promotion": 1,
            "champion": arms[0], "candidate": arms[1],
        }  # fmt: skip
        self._admin("/routing", json.dumps(snapshot).encode())

    def record(self, frames: Sequence[bytes], fps: float, seconds: float) -> list[tuple[float, float]]:
        """Have all cameras send for a time, and read what the router saw once they are warm."""
        self._send(frames, fps, _WARM_S)
        after = self._read(0)[0]
        self._send(frames, fps, seconds)
        return self._read(after)[1]

    def _send(self, frames: Sequence[bytes], fps: float, seconds: float) -> None:
        end = time.monotonic() + seconds
        cameras = [
            threading.Thread(target=_camera, args=(self.port, number, frames, fps, end))
            for number in range(NUM_CAMERAS)
        ]
        for camera in cameras:
            camera.start()
        for camera in cameras:
            camera.join()
        time.sleep(0.5)  # the last copies

    def _read(self, after: int) -> tuple[int, list[tuple[float, float]]]:
        pairs: list[tuple[float, float]] = []
        while True:
            page = self._admin(f"/observations?after={after}&limit=2000")
            for seen in page["observations"]:
                arms = (seen["champion"], seen["candidate"])
                if all(arm is not None and arm["status"] == 200 for arm in arms):
                    pairs.append((round(arms[0]["latency_ms"], 2), round(arms[1]["latency_ms"], 2)))
            if page["next"] <= after:
                return after, pairs
            after = page["next"]

    def _admin(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.token}"}
        method = "GET" if body is None else "PUT"
        with urllib.request.urlopen(
            urllib.request.Request(self.admin_url + path, body, headers, method=method), timeout=10
        ) as answer:
            return dict(json.load(answer))


@contextlib.contextmanager
def _stack(model_dir: Path) -> Iterator[Stack]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        services = [stack.enter_context(running(model_dir)) for _ in range(2)]
        log, state = folder / "router.log", folder / "state"
        options = ("--port", "0", "--admin-port", "0", "--state-dir", str(state))
        router = stack.enter_context(started("bentos.router", *options, log=log))
        found = await_line(router, log, r"listening on http://[\d.]+:(\d+), admin on (http://\S+)\n")
        one = Stack(int(found[1]), found[2], (state / "token").read_text(encoding="ascii").strip())
        one.shadow(services)
        yield one


def _camera(port: int, number: int, frames: Sequence[bytes], fps: float, end: float) -> None:
    """Send a frame each 1/fps seconds, each camera at its own phase; a frame that is late is sent at once."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    due = time.monotonic() + number / NUM_CAMERAS / fps
    sent = number
    while due < end:
        time.sleep(max(0.0, due - time.monotonic()))
        headers = {"content-type": "image/jpeg", "x-camera-id": f"cam{number:02d}"}
        connection.request("POST", "/v1/detect", frames[sent % len(frames)], headers)
        connection.getresponse().read()
        sent, due = sent + 1, due + 1 / fps
    connection.close()


@contextlib.contextmanager
def _burning(num: int) -> Iterator[None]:
    """Others who want the cores too, by turns of a second."""
    context = multiprocessing.get_context("spawn")
    burners = [context.Process(target=_burn, daemon=True) for _ in range(num)]
    for burner in burners:
        burner.start()
    try:
        yield
    finally:
        for burner in burners:
            burner.terminate()
            burner.join()


def _burn() -> None:
    while True:
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            sum(range(1000))
        time.sleep(1.0)


def _compact(tree: dict[str, Any]) -> str:
    """JSON with a line for each shape."""
    return (
        json.dumps(tree, separators=(",", ":")).replace('"pairs_ms":{', '"pairs_ms":{\n').replace("]],", "]],\n") + "\n"
    )


if __name__ == "__main__":
    sys.exit(main())

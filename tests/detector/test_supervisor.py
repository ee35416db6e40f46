"""The supervisor with a worker of a few lines; with the real one see tests/chaos."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.detector.supervisor import GAVE_UP, METRICS_PREFIX, Deaths, Patience
from tests.chaos.service import ask
from tests.detector.conftest import ROOT, find_port

MODULE = "bentos.detector.supervisor"
WORKER = """
import http.server, os, signal, socket, sys, tempfile, time
mode = sys.argv[1]
if mode == "broken":
    sys.exit(5)
listener = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
tempfile.mkdtemp(prefix=f"detector-metrics-{os.getpid()}-")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.path == "/end":
            os._exit(7)
        if self.path == "/hang":
            time.sleep(1000)
        if self.path == "/slow":
            time.sleep(0.02)
        code = 503 if mode in ("ill", "busy") and self.path == "/livez" else 200
        self.send_response_only(code)
        if mode == "busy":
            self.send_header("retry-after", "1")
        self.end_headers()
        self.wfile.write(os.environ["DETECTOR_RESTARTS"].encode())
    def log_message(self, *_): pass
server = http.server.HTTPServer(("", 0), Handler, bind_and_activate=False)
server.socket.close()
server.socket = listener
def stop(*_):
    if mode != "stubborn":
        raise SystemExit(0)
signal.signal(signal.SIGTERM, stop)
server.serve_forever(0.01)
"""


class Supervised:
    """A supervisor as a process, and what it writes."""

    def __init__(self, folder: Path, mode: str, **patience: float) -> None:
        self.port = find_port()
        self.log = folder / "log"
        worker = folder / "worker.py"
        worker.write_text(WORKER)
        options = [text for name, value in patience.items() for text in (f"--{name.replace('_', '-')}", str(value))]
        command = [sys.executable, "-m", MODULE, "--port", str(self.port), *options, "--"]
        environment = {**os.environ, "DETECTOR_LOG": "json", "TMPDIR": str(folder)}
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                [*command, sys.executable, str(worker), mode], stdout=sink, stderr=sink, env=environment
            )

    @property
    def messages(self) -> list[str]:
        lines = self.log.read_text().splitlines()
        return [json.loads(line)["message"] for line in lines if line.endswith("}")]

    def worker(self) -> int:
        """The worker's pid, once there is one."""
        self.wait(lambda: bool(psutil.Process(self.process.pid).children()))
        return psutil.Process(self.process.pid).children()[0].pid

    def wait(self, holds: Callable[[], bool]) -> None:
        """Poll until it holds, for at most 20 s."""
        deadline_s = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < deadline_s, self.log.read_text()
            time.sleep(0.01)

    def wait_for(self, words: str, count: int = 1) -> str:
        """The `count`-th message with these words."""
        self.wait(lambda: len([one for one in self.messages if words in one]) >= count)
        return [one for one in self.messages if words in one][count - 1]

    def get(self, path: str) -> bytes:
        try:
            return ask(self.port, "GET", path)[1]
        except OSError:
            return b""


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    started: list[Supervised] = []

    def start(mode: str = "good", **patience: float) -> Supervised:
        started.append(Supervised(tmp_path, mode, **{"probe_interval_s": 0.05, **patience}))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


@pytest.mark.parametrize(("path", "how"), [("/die", "died by SIGKILL"), ("/end", "ended with code 7")])
def test_a_worker_that_dies_is_replaced_on_the_same_port(supervise, path, how) -> None:
    one = supervise()
    one.wait_for("is ready after")
    first = one.worker()
    assert one.get("/") == b"0"
    assert one.get(path) == b""
    assert one.wait_for("starting another") == f"worker {first} {how}: starting another"
    assert one.get("/") == b"1"  # it waited in the socket's queue
    assert one.wait_for("after the death of the last one").startswith(f"worker {one.worker()} is ready, ")


def test_a_worker_that_hangs_is_killed_and_replaced(supervise) -> None:
    one = supervise(hang_s=0.5)
    one.wait_for("is ready after")
    first = one.worker()
    os.kill(first, signal.SIGSTOP)
    assert one.wait_for("killed") == f"worker {first} has not been well (/livez) for 0.5 s: killed"
    one.wait_for("died by SIGKILL")
    assert one.get("/") == b"1"


def test_a_worker_that_says_it_is_ill_is_replaced_and_one_that_is_busy_is_not(supervise) -> None:
    ill = supervise("ill", hang_s=0.3)
    ill.wait_for("has not been well")
    ill.process.kill()
    busy = supervise("busy", hang_s=0.3)
    busy.wait_for("is ready after")
    for _ in range(60):
        busy.get("/slow")
        assert not [message for message in busy.messages if "killed" in message]


def test_a_worker_that_never_becomes_ready_is_given_up(supervise) -> None:
    one = supervise("broken")
    assert one.process.wait(timeout=20) == GAVE_UP
    assert "ended with code 5 before it was ever ready: given up" in one.messages[-1]


def test_a_start_that_takes_too_long_is_ended(supervise) -> None:
    one = supervise("good", start_s=0.0)
    assert one.process.wait(timeout=20) == GAVE_UP
    assert "has not become ready for 0 s: killed" in one.messages[0]


def test_too_many_deaths_are_enough(supervise) -> None:
    one = supervise(max_deaths=2)
    one.wait_for("is ready after")
    for count in (1, 2, 3):
        os.kill(one.worker(), signal.SIGKILL)
        one.wait_for("died by SIGKILL", count)
    assert one.process.wait(timeout=20) == GAVE_UP
    assert one.messages[-1].endswith("died by SIGKILL: 3 deaths within 60 s, given up")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_lets_the_worker_finish_and_refuses_who_comes_later(supervise, number) -> None:
    one = supervise()
    one.wait_for("is ready after")
    one.process.send_signal(number)
    assert one.process.wait(timeout=20) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", one.port))


def test_a_worker_that_will_not_stop_is_killed(supervise) -> None:
    one = supervise("stubborn", grace_s=0.3)
    one.wait_for("is ready after")
    pid = one.worker()
    one.process.terminate()
    assert one.process.wait(timeout=20) == 1
    assert one.messages[-1] == f"worker {pid} did not stop within 0.3 s: killed"
    assert not psutil.pid_exists(pid)


def test_stopping_during_the_pause_between_workers(supervise) -> None:
    one = supervise()
    one.wait_for("is ready after")
    for count in (1, 2, 3, 4):
        os.kill(one.worker(), signal.SIGKILL)
        one.wait_for("died by SIGKILL", count)
    assert one.wait_for("starting another", 4).endswith("starting another in 2 s")
    one.process.terminate()
    assert one.process.wait(timeout=1.5) == 0


def test_the_worker_dies_with_its_supervisor(supervise) -> None:
    one = supervise()
    one.wait_for("is ready after")
    worker = psutil.Process(one.worker())
    one.process.kill()
    psutil.wait_procs([worker], timeout=20)
    assert not worker.is_running()


def test_metrics_of_the_dead_are_removed_and_those_of_the_living_stay(supervise, tmp_path) -> None:
    living = tmp_path / f"{METRICS_PREFIX}{os.getpid()}-x"
    living.mkdir()
    one = supervise()
    one.wait_for("is ready after")
    first = one.worker()
    assert list(tmp_path.glob(f"{METRICS_PREFIX}{first}-*"))
    one.get("/die")
    one.wait_for("after the death of the last one")
    assert not list(tmp_path.glob(f"{METRICS_PREFIX}{first}-*"))
    assert living.is_dir()
    assert tempfile.gettempdir() != str(tmp_path)


def test_a_port_in_use_is_said(supervise, tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", MODULE, "--port", str(taken.getsockname()[1]), "--", "true"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == GAVE_UP
    assert "cannot be used: Address already in use" in done.stdout


def test_it_imports_nothing_but_the_standard_library() -> None:
    def roots(code: str) -> set[str]:
        command = [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return {name.partition(".")[0] for name in done.stdout.split()}

    assert roots(f"import {MODULE}") - roots("pass") <= {"bentos", *sys.stdlib_module_names}


@given(gaps_s=st.lists(st.floats(0, 200), max_size=30))
def test_deaths_count_only_within_the_window(gaps_s) -> None:
    deaths, now_s, times = Deaths(Patience()), 0.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        times.append(now_s)
        deaths.add(now_s)
        recent = sum(now_s - then < 60 for then in times)
        assert deaths.total == len(times)
        assert deaths.too_many == (recent > 5)
        assert 0 <= deaths.pause_s <= 8
        assert (deaths.pause_s == 0) == (recent == 1)

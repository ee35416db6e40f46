"""Real processes on free loopback ports: started, awaited, looked at, and stopped with all below them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from benchmarks.report import ROOT

_GRACE_S = 15.0


@contextlib.contextmanager
def started(
    module: str, *arguments: str, log: Path, python: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m module` in a session of its own; its output goes to `log`. On leaving the block it is stopped.

    Args:
        module: What to run, with `arguments`.
        log: File of its output.
        python: Interpreter; by default the one that runs this.
        environment: Variables on top of this process's own.
    """
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [str(python or sys.executable), "-m", module, *arguments],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End `process`, and then whatever is left of those that it started, also outside of its session."""
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):  # it checks that the id is not somebody else's by now
                child.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """A port of the loopback address on which nobody listens just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_line(process: subprocess.Popen[bytes], log: Path, pattern: str, patience_s: float = 30.0) -> re.Match[str]:
    """Wait until the output of `process` matches. Raises RuntimeError when it ends, or does not by then."""
    deadline = time.monotonic() + patience_s
    while not (found := re.search(pattern, log.read_text(encoding="utf-8", errors="replace"))):
        _require_hope(process, log, deadline)
        time.sleep(0.02)
    return found


def await_ready(
    process: subprocess.Popen[bytes], log: Path, url: str, patience_s: float = 120.0, poll_s: float = 0.1
) -> None:
    """Wait until `url` answers 200. Raises RuntimeError when `process` ends, or does not by then."""
    deadline = time.monotonic() + patience_s
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2.0) as answer:
            if answer.status == 200:
                return
        _require_hope(process, log, deadline)
        time.sleep(poll_s)


def _require_hope(process: subprocess.Popen[bytes], log: Path, deadline: float) -> None:
    if process.poll() is not None or time.monotonic() > deadline:
        state = "did not start in time" if process.poll() is None else f"ended with {process.returncode}"
        tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(map(str, process.args))} {state}:\n{tail}")  # type: ignore[arg-type]


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    head = psutil.Process(pid)
    return [head, *head.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its children, s; the kernel counts in steps of 10 ms."""
    return float(sum(sum(one.cpu_times()[:2]) for one in family(pid)))

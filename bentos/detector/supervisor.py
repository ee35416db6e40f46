"""Keeps a worker serving: holds the port, starts the worker on it, and replaces one that died or hangs.

    starting -> ready -> dead or silent -> starting ... -> given up (exit 3)
                  └ SIGTERM, SIGINT -> draining -> gone (exit 0)

BentoML's own watcher looks every ten seconds, says nothing, replaces nobody inside a container, and keeps the socket
open while it stops, so that new connections hang. Here a death is noticed at once. Until the next worker is ready new
connections wait in the socket's queue, which outlives the workers; only what a dead worker had accepted is lost.

Only the standard library is used: this process must outlive whatever goes wrong in the other, at little cost.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bentos.detector.process_control import (
    configure_log,
    describe_end,
    die_with,
    is_running,
    listen,
    own_address,
    raise_file_limit,
    signals_to,
)

GAVE_UP = 3
RESTARTS_VARIABLE = "DETECTOR_RESTARTS"
"""Tells a worker how many died before it; it shows this as a metric."""
METRICS_PREFIX = "detector-metrics-"
"""Folders of metrics are named by this, the worker's pid and a hyphen: what a killed worker left is found by it."""

logger = logging.getLogger("bentos.detector.supervisor")


@dataclass(frozen=True)
class Patience:
    """How long what may take, s, and how many deaths are borne."""

    start_s: float = 300.0
    hang_s: float = 15.0
    grace_s: float = 35.0
    probe_interval_s: float = 2.0
    max_deaths: int = 5
    window_s: float = 60.0


@dataclass
class Deaths:
    """When workers died, and what follows: how long to wait before the next, or that it is enough."""

    patience: Patience
    total: int = 0
    recent_s: list[float] = field(default_factory=list)

    def add(self, now_s: float) -> None:
        """Note a death."""
        self.total += 1
        self.recent_s = [then for then in self.recent_s if now_s - then < self.patience.window_s] + [now_s]

    @property
    def too_many(self) -> bool:
        """Whether more died within the window than are borne."""
        return len(self.recent_s) > self.patience.max_deaths

    @property
    def pause_s(self) -> float:
        """Nothing after a lone death, then half a second, doubled with each, at most eight."""
        return 0.0 if len(self.recent_s) < 2 else min(8.0, 0.5 * 2 ** (len(self.recent_s) - 2))


Health = Literal["well", "busy", "ill"]
"""200; any other answer that says when to come back; anything else."""


class Probe:
    """One question to the worker, asked without waiting for the answer. Raises OSError when nobody can be reached."""

    def __init__(self, address: tuple[str, int], path: str) -> None:
        self.socket = socket.create_connection(address, timeout=1.0)
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nhost: supervisor\r\nconnection: close\r\n\r\n".encode())
        self.socket.setblocking(False)

    def read(self) -> Health:
        """What the answer says; to be called once something is there to be read."""
        try:
            answer = self.socket.recv(512)
        except OSError:
            return "ill"
        if answer.split(b" ", 2)[1:2] == [b"200"]:
            return "well"
        return "busy" if b"retry-after" in answer.lower() else "ill"

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


class Supervisor:
    """Runs `command --fd N` until it is told to stop, or gives up.

    Args:
        command: The worker's command line; it inherits the listening socket as the file descriptor that is appended.
        listener: A socket that listens.
        patience: How long what may take.
    """

    def __init__(self, command: list[str], listener: socket.socket, patience: Patience) -> None:
        self._command = [*command, "--fd", str(listener.fileno())]
        self._listener = listener
        self._patience = patience
        self._deaths = Deaths(patience)
        self._worker: subprocess.Popen[bytes] | None = None
        self._started_s = self._died_s = self._looked_s = self._asked_s = self._silent_s = 0.0
        self._was_ready = self._is_ready = False
        self._probe: Probe | None = None
        self._signals, self._wake_up = socket.socketpair()

    def run(self) -> int:
        """Supervise; the exit code is 0 after a stop that was asked for, 3 when it is given up."""
        with signals_to(self._wake_up):
            self._start()
            while True:
                arrived = self._wait(self._pace_s)
                if {signal.SIGTERM, signal.SIGINT} & arrived:
                    return self._stop()
                if (code := self._reaped()) is not None and not self._survive(code):
                    return GAVE_UP
                if self._worker is not None:
                    self._look(self._worker)

    @property
    def _pace_s(self) -> float:
        """Between two questions: short until the worker is ready, so that its readiness is noticed."""
        return self._patience.probe_interval_s if self._is_ready else min(0.2, self._patience.probe_interval_s)

    def _start(self) -> None:
        self._sweep()
        environment = {**os.environ, RESTARTS_VARIABLE: str(self._deaths.total)}
        parent, fd = os.getpid(), self._listener.fileno()
        # A group of its own: Ctrl-C reaches the supervisor alone, which then asks the worker once.
        self._worker = subprocess.Popen(
            self._command,
            env=environment,
            pass_fds=(fd,),
            process_group=0,
            preexec_fn=lambda: die_with(parent),  # noqa: PLW1509  # there are no other threads here
        )
        self._started_s = self._looked_s = time.monotonic()
        self._silent_s, self._is_ready = 0.0, False

    def _wait(self, timeout_s: float) -> set[int]:
        """Wait for a signal, or an answer to the probe; the signals that came."""
        waiting = [self._signals] if self._probe is None else [self._signals, self._probe.socket]
        readable, _, _ = select.select(waiting, [], [], timeout_s)
        if self._probe is not None and self._probe.socket in readable:
            self._hear(self._probe)
        return set(self._signals.recv(64)) if self._signals in readable else set()

    def _look(self, worker: subprocess.Popen[bytes]) -> None:
        """Ask the worker how it is, or kill it when it has not answered for too long."""
        now_s, longest_s = time.monotonic(), 2 * self._patience.probe_interval_s
        # A longer gap is no silence of the worker's: this process itself was stopped, frozen or starved.
        self._silent_s += min(now_s - self._looked_s, longest_s)
        self._looked_s = now_s
        limit_s = self._patience.hang_s if self._is_ready else self._patience.start_s
        if self._silent_s > limit_s:
            missing = "has not been well (/livez)" if self._is_ready else "has not become ready"
            logger.error("worker %d %s for %g s: killed", worker.pid, missing, limit_s)
            self._silent_s = 0.0
            worker.send_signal(signal.SIGKILL)
        elif self._probe is None and now_s - self._asked_s >= self._pace_s:
            self._asked_s = now_s
            with contextlib.suppress(OSError):
                self._probe = Probe(own_address(self._listener), "/livez" if self._is_ready else "/readyz")

    def _hear(self, probe: Probe) -> None:
        """Somebody who is busy lives; ready is only who is well."""
        health = probe.read()
        self._forget_probe()
        if health != "ill":
            self._silent_s = 0.0
        if self._is_ready or health != "well" or self._worker is None:
            return
        now_s, pid = time.monotonic(), self._worker.pid
        if self._was_ready:
            logger.warning("worker %d is ready, %.1f s after the death of the last one", pid, now_s - self._died_s)
        else:
            logger.info("worker %d is ready after %.1f s", pid, now_s - self._started_s)
        self._is_ready = self._was_ready = True

    def _reaped(self) -> int | None:
        """Collect dead children, adopted ones too (this may be process 1); the exit code of the worker if it died."""
        found = None
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if self._worker is not None and ended[0] == self._worker.pid:
                    found = self._worker.returncode = os.waitstatus_to_exitcode(ended[1])
        return found

    def _survive(self, code: int) -> bool:
        """Replace the worker that ended with `code`, unless that is pointless."""
        assert self._worker is not None
        pid, self._worker, self._died_s = self._worker.pid, None, time.monotonic()
        self._forget_probe()
        self._deaths.add(self._died_s)
        how = f"worker {pid} {describe_end(code)}"
        if not self._was_ready:
            logger.error("%s before it was ever ready: given up, its own log says why", how)
            return False
        if self._deaths.too_many:
            num_deaths, window_s = len(self._deaths.recent_s), self._patience.window_s
            logger.error("%s: %d deaths within %g s, given up", how, num_deaths, window_s)
            return False
        pause_s = self._deaths.pause_s
        logger.error("%s: starting another%s", how, f" in {pause_s:g} s" if pause_s else "")
        self._start_after(pause_s)
        return True

    def _start_after(self, pause_s: float) -> None:
        """Wait, then start; a signal to stop ends the waiting, and `run` sees to stopping."""
        deadline_s = time.monotonic() + pause_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            if {signal.SIGTERM, signal.SIGINT} & self._wait(left_s):
                self._wake_up.send(bytes([signal.SIGTERM]))
                return
        self._start()

    def _stop(self) -> int:
        """Have the worker finish what it has; whoever comes now is refused. The exit code; 1 if it had to be killed."""
        self._forget_probe()
        self._listener.close()
        if self._worker is None:
            return 0
        self._worker.send_signal(signal.SIGTERM)
        deadline_s, code = time.monotonic() + self._patience.grace_s, None
        while code is None and (left_s := deadline_s - time.monotonic()) > 0:
            self._wait(left_s)
            code = self._reaped()
        if code is None:
            logger.error("worker %d did not stop within %g s: killed", self._worker.pid, self._patience.grace_s)
            self._worker.send_signal(signal.SIGKILL)
            self._worker.wait()
        self._sweep()
        return 0 if code is not None else 1

    def _forget_probe(self) -> None:
        if self._probe is not None:
            self._probe.close()
            self._probe = None

    def _sweep(self) -> None:
        """Remove the metrics of workers that are gone: who is killed cannot tidy up."""
        for folder in Path(tempfile.gettempdir()).glob(f"{METRICS_PREFIX}*"):
            pid = folder.name.removeprefix(METRICS_PREFIX).partition("-")[0]
            if pid.isdigit() and not is_running(int(pid)):
                shutil.rmtree(folder, ignore_errors=True)


def main(arguments: list[str] | None = None) -> int:
    """`python -m bentos.detector.supervisor --port PORT -- COMMAND...`; for the exit code see `Supervisor.run`."""
    parser = argparse.ArgumentParser(description="Keep a worker serving on a port.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    for name, default in vars(Patience()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default)
    parser.add_argument("command", nargs="+")
    given = vars(parser.parse_args(arguments))
    configure_log(logger, os.environ.get("DETECTOR_LOG", "").strip() == "json")
    host, port, command = given.pop("host"), given.pop("port"), given.pop("command")
    raise_file_limit()
    try:
        listener = listen(host, port)
    except OSError as error:
        logger.error("port %d on %s cannot be used: %s", port, host, error.strerror)
        return GAVE_UP
    return Supervisor(command, listener, Patience(**given)).run()


if __name__ == "__main__":
    sys.exit(main())

"""HAProxy as the router's peer: the same two back ends, the same weighted split, sticky by camera, one thread."""

from __future__ import annotations

import contextlib
import csv
import io
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import free_port

_PATIENCE_S = 10.0
_CONFIGURATION = """\
global
    nbthread 1
    maxconn 4096
    stats socket {admin} mode 600 level operator
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 30s
    http-reuse always
    retries 1
    retry-on all-retryable-errors
    option redispatch 1
frontend street
    bind 127.0.0.1:{port}
    default_backend detectors
backend detectors
    balance hdr(x-camera-id)
    hash-type consistent
    option httpchk GET /readyz
    default-server check inter 1s
    server champion 127.0.0.1:{ports[0]} weight {weights[0]}
    server candidate 127.0.0.1:{ports[1]} weight {weights[1]}
"""


@dataclass(frozen=True)
class HAProxy:
    """One that runs."""

    port: int
    pid: int
    admin: Path

    def candidate_share(self) -> float:
        """Share of the requests since the start that went to the candidate."""
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(str(self.admin))
            door.sendall(b"show stat\n")
            text = door.makefile(encoding="ascii").read().lstrip("# ")
        rows = {row["svname"]: row for row in csv.DictReader(io.StringIO(text)) if row["pxname"] == "detectors"}
        taken, of_all = (int(rows[name]["stot"]) for name in ("candidate", "BACKEND"))
        return taken / max(1, of_all)


def read_haproxy_version() -> str | None:
    """The version of the machine's HAProxy, None where there is none."""
    program = shutil.which("haproxy")
    if program is None:
        return None
    told = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\S+)", told)
    return found[1] if found else None


@contextlib.contextmanager
def haproxy_running(folder: Path, ports: tuple[int, int], weights: tuple[int, int]) -> Iterator[HAProxy | None]:
    """Have HAProxy split between champion and candidate while the block runs; None where it is not installed.

    Args:
        folder: For its configuration, log and admin socket.
        ports: Of champion and candidate on the loopback address.
        weights: Their shares, as whole numbers.
    """
    program = shutil.which("haproxy")
    if program is None:
        print("HAProxy is not installed (apt install haproxy): the router is measured without its peer.")
        yield None
        return
    port, admin, file = free_port(), folder / "haproxy.sock", folder / "haproxy.cfg"
    file.write_text(_CONFIGURATION.format(admin=admin, port=port, ports=ports, weights=weights), encoding="ascii")
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([program, "-db", "-f", str(file)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _await_port(process, port, folder / "haproxy.log")
        yield HAProxy(port, process.pid, admin)
    finally:
        process.kill()
        process.wait()


def _await_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.02)
    raise RuntimeError(f"HAProxy did not start:\n{log.read_text(encoding='utf-8', errors='replace')}")

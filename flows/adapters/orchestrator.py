"""Prefect's API for local use: one server, started on first use, reused by every command, stopped by `tca down`.

An address in PREFECT_API_URL takes its place.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.adapters.processes import ServiceRecord, find_free_port, forget, is_alive, read_services, spawn, stop
from flows.errors import ServiceError

NAME = "prefect"
START_LIMIT_S = 120.0


def ensure_server(home: Path) -> str:
    """The API's address; starts a server under `home` when none runs and none is configured, and points Prefect at it.

    Raises:
        ServiceError: The server was not up within two minutes.
    """
    if (configured := os.environ.get("PREFECT_API_URL")) is not None:
        return configured
    home.mkdir(parents=True, exist_ok=True)
    with (home / "prefect.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = read_services(home).get(NAME)
        if record is None or not is_alive(record):
            record = _start(home)
    os.environ["PREFECT_API_URL"] = record.address
    return record.address


@contextmanager
def connected(home: Path) -> Iterator[str]:
    """Run the body against the API that `ensure_server` names; Prefect has read its own settings at import already."""
    address = ensure_server(home)
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: address}):
        yield address


def _start(home: Path) -> ServiceRecord:
    port = find_free_port()
    address = f"http://127.0.0.1:{port}/api"
    argv = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--no-services",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    # A server outlives the command that needed it, so it must not believe itself part of a DVC stage.
    env = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
    env["PREFECT_API_URL"] = address
    record = spawn(NAME, argv, env=env, log=home / "logs" / "prefect.log", home=home, address=address)
    deadline = time.monotonic() + START_LIMIT_S
    while not _is_healthy(address):
        if not is_alive(record) or time.monotonic() > deadline:
            stop(record, grace_s=2)
            forget(home, NAME)
            raise ServiceError("the local Prefect server did not come up", f"See {record.log}")
        time.sleep(0.1)
    return record


def _is_healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False

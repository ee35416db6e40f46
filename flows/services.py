"""The local services of a project: starting the router, waiting until a service answers, stopping them all."""

from __future__ import annotations

import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from flows.adapters.processes import ServiceRecord, forget, is_alive, read_services, require_free_port, spawn, stop
from flows.errors import ServiceError
from flows.settings import Project, Settings

ROUTER = "router"
READY_LIMIT_S = 90.0


def ensure_router(project: Project, settings: Settings) -> ServiceRecord:
    """The running router; starts it where there is none.

    Raises:
        Conflict: Its port is in use by something else.
        ServiceError: It did not come up.
    """
    record = read_services(project.home).get(ROUTER)
    if record is not None and is_alive(record):
        return record
    require_free_port(settings.port, "TCA_PORT")
    require_free_port(settings.admin_port, "TCA_ADMIN_PORT")
    argv = [
        *(sys.executable, "-m", "bentos.router", "--port", str(settings.port)),
        *("--admin-port", str(settings.admin_port), "--state-dir", str(project.home / "router")),
    ]
    address = f"http://127.0.0.1:{settings.port}"
    log = project.home / "logs" / "router.log"
    record = spawn(ROUTER, argv, env=dict(os.environ), log=log, home=project.home, address=address)
    wait_until(lambda: answers(f"{address}/livez"), record, project.home, "the router did not come up")
    return record


def stop_services(project: Project) -> list[str]:
    """Stop every registered service, from who sends to who is asked, and return their names."""
    rank = {"replay": 0, ROUTER: 1, "prefect": 3}
    order = sorted(read_services(project.home).values(), key=lambda record: rank.get(record.name, 2))
    stopped = []
    for record in order:
        if is_alive(record):
            stop(record)
            stopped.append(record.name)
        forget(project.home, record.name)
    return stopped


def answers(url: str) -> bool:
    """Whether a GET of `url` is answered 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def wait_until(ready: Callable[[], bool], record: ServiceRecord, home: Path, failure: str) -> None:
    """Poll `ready` while the process lives. Raises ServiceError, naming the log, when it dies or takes too long."""
    deadline = time.monotonic() + READY_LIMIT_S
    while not ready():
        if not is_alive(record):
            forget(home, record.name)
            raise ServiceError(f"{failure}: its process ended", f"See {record.log}")
        if time.monotonic() > deadline:
            raise ServiceError(f"{failure} within {READY_LIMIT_S:.0f} s", f"See {record.log}")
        time.sleep(0.05)

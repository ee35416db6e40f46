"""Local serving: the champion's bento behind the router, both as processes that outlive the command."""

from __future__ import annotations

import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.adapters.bento_store import ensure_bento, serve_command
from flows.adapters.processes import ServiceRecord, forget, is_alive, read_services, require_free_port, spawn, stop
from flows.adapters.registry import ModelVersion, Registry
from flows.errors import ProjectError, ServiceError
from flows.params_file import read_params
from flows.settings import Project, Settings, read_settings

ROUTER = "router"
READY_LIMIT_S = 90.0


@dataclass(frozen=True)
class Launch:
    """How to start a detector: its command and environment for a given port."""

    argv: Callable[[int], list[str]]
    env: Mapping[str, str]


def registry_of(project: Project) -> Registry:
    """The model registry that params.yaml and the environment name."""
    name = read_params(project.params_file).package.name
    return Registry(read_settings(project).tracking_uri, name, project.home, project.champion_file)


def launch_of(project: Project, registry: Registry, version: ModelVersion, drill: str = "") -> Launch:
    """The command that serves `version` from its bento, which is fetched first if this machine lacks it."""
    tag = version.tags["tca.bento"]
    ensure_bento(tag, registry.download(version) / "detector.bento")
    env = {
        **os.environ,
        "DETECTOR_MODEL_VERSION": version.version,
        "DETECTOR_RECORD_DIR": str(project.home / "records"),
    }
    if drill:
        env["DETECTOR_DRILL"] = drill
    return Launch(argv=lambda port: serve_command(tag, port), env=env)


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


def serve_champion(project: Project) -> str:
    """Have router and champion running, and return the router's address. Raises ProjectError without a champion."""
    from flows.promote import traffic_of

    settings, registry = read_settings(project), registry_of(project)
    champion = registry.champion()
    if champion is None:
        raise ProjectError("there is no champion to serve", "Make one: tca release, or see it all: make demo")
    router = ensure_router(project, settings)
    traffic_of(project, settings, registry).ensure_champion(champion.version, champion.digest)
    record = read_services(project.home)[ROUTER]
    wait_until(lambda: answers(f"{record.address}/readyz"), router, project.home, "the champion did not become ready")
    return record.address


def stop_services(project: Project) -> list[str]:
    """Stop every registered service, load sources and router first, and return their names."""
    services = read_services(project.home)
    order = sorted(services.values(), key=lambda record: (record.name != ROUTER, record.name == "prefect"))
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


def roll_back(project: Project) -> dict[str, Any]:
    """Route to the previous champion, then move alias and pointer. Raises ProjectError when there is none."""
    from flows.adapters.registry import PREVIOUS
    from flows.promote import traffic_of

    settings, registry = read_settings(project), registry_of(project)
    previous, champion = registry.by_alias(PREVIOUS), registry.champion()
    if previous is None or champion is None:
        raise ProjectError("there is no previous champion to go back to", "See: tca status")
    ensure_router(project, settings)
    traffic_of(project, settings, registry).ensure_champion(previous.version, previous.digest)
    registry.set_champion(previous.version, previous.digest)
    return {"version": previous.version, "digest": previous.digest, "was": champion.version}

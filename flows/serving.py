"""Serving: the champion behind the router, on this machine as processes that outlive the command, or on Kubernetes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.adapters.bento_store import ensure_bento, serve_command
from flows.adapters.local_traffic import LocalTraffic
from flows.adapters.processes import read_services
from flows.adapters.registry import PREVIOUS, Registry
from flows.cluster import kubernetes_traffic, traffic_kind
from flows.errors import ProjectError
from flows.params_file import read_params
from flows.services import ROUTER, answers, ensure_router, wait_until
from flows.settings import Project, Settings, read_settings

if TYPE_CHECKING:
    from flows.adapters.kubernetes_traffic import KubernetesTraffic
    from flows.adapters.replay_report import ReplayReport

    ServingTraffic = LocalTraffic | KubernetesTraffic


def registry_of(project: Project) -> Registry:
    """The model registry that params.yaml and the environment name."""
    name = read_params(project.params_file).package.name
    return Registry(read_settings(project).tracking_uri, name, project.home, project.champion_file)


def traffic_of(
    project: Project, settings: Settings, registry: Registry, drills: Mapping[str, str] | None = None
) -> ServingTraffic:
    """Traffic where TCA_TRAFFIC says; a version is started with the drill that `drills` has for it.

    On this machine a version is served from its bento, on Kubernetes from its image (see flows/cluster.py).
    """
    if traffic_kind(os.environ) == "kubernetes":
        return kubernetes_traffic(project.root, os.environ, drills or {})

    def command(version: str, port: int) -> tuple[Sequence[str], Mapping[str, str]]:
        model = registry.get(version)
        tag = model.tags["tca.bento"]
        ensure_bento(tag, registry.download(model) / "detector.bento")
        env = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "PREFECT_"))}
        env |= {"DETECTOR_MODEL_VERSION": version, "DETECTOR_RECORD_DIR": str(project.home / "records")}
        env["DETECTOR_DRILL"] = (drills or {}).get(version, "")
        return serve_command(tag, port), env

    admin_url = f"http://127.0.0.1:{settings.admin_port}"
    return LocalTraffic(project.home, admin_url, project.home / "router", command)


def ensure_traffic(project: Project, settings: Settings) -> None:
    """Have a router that routes: started where it is a process, asked where it runs on Kubernetes.

    Raises:
        Conflict: Its port is in use by something else.
        ServiceError: It does not answer.
    """
    if traffic_kind(os.environ) == "local":
        ensure_router(project, settings)
    else:
        kubernetes_traffic(project.root, os.environ, {}).routing()


def serve_champion(project: Project) -> str:
    """Have router and champion running, and return the address. Raises ProjectError without a champion."""
    settings, registry = read_settings(project), registry_of(project)
    champion = registry.champion()
    if champion is None:
        raise ProjectError("there is no champion to serve", "Make one: tca release, or see it all: make demo")
    ensure_traffic(project, settings)
    backend = traffic_of(project, settings, registry).ensure_champion(champion.version, champion.digest)
    if traffic_kind(os.environ) == "kubernetes":
        return backend.url
    router = read_services(project.home)[ROUTER]
    wait_until(lambda: answers(f"{router.address}/readyz"), router, project.home, "the champion did not become ready")
    return router.address


def roll_back(project: Project) -> dict[str, Any]:
    """Route to the previous champion, then move alias and pointer. Raises ProjectError when there is none."""
    settings, registry = read_settings(project), registry_of(project)
    previous, champion = registry.by_alias(PREVIOUS), registry.champion()
    if previous is None or champion is None:
        raise ProjectError("there is no previous champion to go back to", "See: tca status")
    ensure_traffic(project, settings)
    traffic_of(project, settings, registry).ensure_champion(previous.version, previous.digest)
    registry.set_champion(previous.version, previous.digest)
    return {"version": previous.version, "digest": previous.digest, "was": champion.version}


def replay_cameras(
    project: Project, source: Path, num_cameras: int, fps: float, seconds: float | None, url: str
) -> ReplayReport:
    """Send frames to `url`, or to the local router, with a progress line. Raises what `replay` raises."""
    from flows.adapters.replay import replay
    from flows.console import Console

    address = url or f"http://127.0.0.1:{read_settings(project).port}"
    with Console().step("replay") as shown:
        report = replay(source, address, num_cameras, fps, seconds, on_progress=shown.progress)
        shown.done(f"{report.sent} frames to {address}")
    return report

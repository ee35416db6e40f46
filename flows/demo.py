"""The demo: three releases on drawn traffic, the last of which misbehaves in service and is rolled back.

It does nothing that the verbs do not: render, serve, replay, release. What is done already is not done again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flows.adapters import orchestrator
from flows.adapters.processes import spawn, stop
from flows.console import Console, log_to
from flows.data import render_demo_data
from flows.rollout.journal import latest_promotions
from flows.serving import serve_champion
from flows.settings import Project

CAMERAS, FPS = 8, 2.0
DRILL = "slow:150@400"  # from its 400th answer on the challenger is 150 ms late: past shadow, into the canary
ACTS = (
    ("a first champion", ""),
    ("a challenger, trained on from the champion", ""),
    ("a challenger that passes offline and turns slow in service", DRILL),
)

console = Console()


def run_demo(project: Project) -> None:
    """Render, then play the acts that have not been played, then show what came of them.

    Raises:
        GateRefused: An act ended otherwise than it should.
    """
    log_to(project.home / "logs" / "tca.log")
    render_demo_data(project)
    with orchestrator.connected(project.home):
        for number, (title, drill) in enumerate(ACTS, start=1):
            if number <= len(_closed(project)):
                console.say(f"act {number}/3  {title}: done")
                continue
            console.say(f"\nact {number}/3  {title}")
            with replayed_cameras(project, wanted=number > 1):
                _release(project, drill)
            _check(project, number)
    address = serve_champion(project)
    print(_outcome(project, address))


@contextmanager
def replayed_cameras(project: Project, wanted: bool) -> Iterator[None]:
    """Cameras that send the test frames to the champion while the body runs; their report lands in reports/."""
    if not wanted:
        yield
        return
    address = serve_champion(project)
    report = project.reports / "replay.json"
    argv = [sys.executable, "-m", "flows.adapters.replay", str(project.data), "--url", address]
    argv += ["--cameras", str(CAMERAS), "--fps", str(FPS), "--json", str(report)]
    log = project.home / "logs" / "replay.log"
    record = spawn("replay", argv, env=dict(os.environ), log=log, home=project.home, address="8 cameras")
    try:
        yield
    finally:
        stop(record, grace_s=15)


def _release(project: Project, drill: str) -> None:
    from flows.release import release

    release(drill=drill)


def _closed(project: Project) -> list[dict[str, Any]]:
    promotions = latest_promotions(project.home / "rollout.db", limit=len(ACTS) + 1)
    return [one for one in promotions if one["closed"]]

"""The demo: three releases on drawn traffic, the last of which misbehaves in service and is rolled back.

It does nothing that the verbs do not: render, serve, replay, release. What is done already is not done again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flows.adapters import orchestrator
from flows.adapters.processes import forget, spawn, stop
from flows.console import Console, log_to
from flows.data import render_demo_data
from flows.demo_outcome import outcome_text
from flows.errors import GateRefused
from flows.promotions import list_promotions
from flows.serving import serve_champion
from flows.settings import Project

CAMERAS, FPS = 8, 3.0
TRY_AGAIN = "See reports/; make demo again goes on from here"


@dataclass(frozen=True)
class Act:
    """One release of the demo, and how it must end."""

    title: str
    ends: str
    drill: str = ""


ACTS = (
    Act("a first champion", "promoted"),
    Act("a challenger, trained on from the champion", "promoted"),
    # From its 180th answer on it is late: past shadow, so that the canary finds it under live traffic.
    Act("a challenger that passes offline, then turns slow in service", "rolled_back", "slow:150@180"),
)

console = Console()


def run_demo(project: Project) -> None:
    """Render, play the acts that have not been played, and show what came of them.

    Raises:
        GateRefused: An act ended otherwise than it should; the message says how.
    """
    log_to(project.home / "logs" / "tca.log")
    render_demo_data(project)
    with orchestrator.connected(project.home):
        for number, act in enumerate(ACTS, start=1):
            if number <= num_closed_promotions(project):
                console.say(f"act {number}/{len(ACTS)}  {act.title}: done before")
                continue
            console.say(f"\nact {number}/{len(ACTS)}  {act.title}")
            play(project, act, first=number == 1)
    address = serve_champion(project)
    print(outcome_text(project, address))


def play(project: Project, act: Act, first: bool) -> None:
    """One release, promoted under the eyes of replayed cameras unless nothing can answer them yet."""
    from flows.promote import promote
    from flows.release import release
    from flows.stage import read_report

    release(until="package")
    released = read_report(project, "release")
    if not released["passed"]:
        raise GateRefused(f"this act should have made a challenger, but {released['sentence']}", TRY_AGAIN)
    if first:
        promote()
    else:
        with replayed_cameras(project):
            promote(drill=act.drill)
    promoted = read_report(project, "promote")
    if promoted["outcome"] != act.ends:
        said = f"the challenger should have been {act.ends.replace('_', ' ')}, but {promoted['sentence']}"
        raise GateRefused(said, TRY_AGAIN)


@contextmanager
def replayed_cameras(project: Project) -> Iterator[None]:
    """Cameras that send the test frames to the champion while the body runs; their report lands in reports/."""
    address = serve_champion(project)
    argv = [sys.executable, "-m", "flows.adapters.replay", str(project.data), "--url", address]
    argv += ["--cameras", str(CAMERAS), "--fps", str(FPS), "--json", str(project.reports / "replay.json")]
    log = project.home / "logs" / "replay.log"
    record = spawn("replay", argv, env=dict(os.environ), log=log, home=project.home, address=f"{CAMERAS} cameras")
    try:
        yield
    finally:
        stop(record, grace_s=20)
        forget(project.home, record.name)


def num_closed_promotions(project: Project) -> int:
    """How many promotions have come to their end."""
    return sum(bool(one["closed"]) for one in list_promotions(project))

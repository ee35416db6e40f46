"""Local services: the champion behind the router, replayed cameras, and going back or stopping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("serve")(serve)
    app.command("replay")(replay)
    app.command("rollback")(rollback)
    app.command("down")(down)
    app.command("demo")(demo)


def serve(as_json: AsJson = False) -> None:
    """Start the champion behind the router, wait until it answers, and say how to call it."""
    from flows.serving import serve_champion
    from flows.settings import apply_environment, find_project

    project = find_project()
    apply_environment(project)
    address = serve_champion(project)
    if as_json:
        print(json.dumps({"address": address}))
    else:
        print(f"Call it:   curl --data-binary @frame.jpg -H 'content-type: image/jpeg' {address}/v1/detect")
        print("Stop:      tca down")


def replay(
    source: Annotated[Path, typer.Argument(help="Folder of images, a dataset folder, or a video.")],
    cameras: Annotated[int, typer.Option(help="Cameras that send, each on a connection of its own.")] = 8,
    fps: Annotated[float, typer.Option(help="Frames a second of each camera.")] = 2.0,
    seconds: Annotated[float, typer.Option(help="How long to send, s; 0 until Ctrl-C.")] = 30.0,
    url: Annotated[str, typer.Option(help="Where to; default: the local router.")] = "",
    as_json: AsJson = False,
) -> None:
    """Send frames like cameras do (open loop), and report rates, lost frames and percentiles."""
    from flows.serving import replay_cameras
    from flows.settings import find_project

    report = replay_cameras(find_project(), source, cameras, fps, seconds or None, url)
    print(json.dumps(report.model_dump(mode="json"), indent=1) if as_json else report.text())
    if report.exactly_once < report.sent:
        raise typer.Exit(1)


def rollback(as_json: AsJson = False) -> None:
    """Put the previous champion back on the throne, in one step."""
    from flows.serving import roll_back
    from flows.settings import apply_environment, find_project

    project = find_project()
    apply_environment(project)
    restored = roll_back(project)
    print(json.dumps(restored) if as_json else f"version {restored['version']} reigns again")


def down() -> None:
    """Stop every local service of this project."""
    from flows.services import stop_services
    from flows.settings import find_project

    stopped = stop_services(find_project())
    print("\n".join(f"stopped {name}" for name in stopped) or "nothing was running")


def demo() -> None:
    """From nothing to a champion: three releases on drawn traffic, the last of which is rolled back."""
    from flows.settings import apply_environment, find_project

    project = find_project()
    apply_environment(project)
    from flows.demo import run_demo

    run_demo(project)

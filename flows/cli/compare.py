"""`tca compare` and `tca tasks`: several candidates at once, and the frames that would teach most."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.verbs import AsJson, Overrides, run_flow


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("compare")(compare)
    app.command("tasks")(tasks)


def compare(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Registered versions (3), challenger, previous, model directories, checkpoints (.pt).",
        ),
    ] = None,
    front: Annotated[bool, typer.Option("--front", help="Also the front of the tuning: its best trials.")] = False,
    choose: Annotated[
        bool, typer.Option("--choose", help="Make the winner the challenger, if it is a registered version.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Judge the detections of the last comparison with the params of today.")
    ] = False,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    as_json: AsJson = False,
) -> None:
    """Several models against the champion on the frozen frames, best first. Exit code 1: none may be promoted."""
    run_flow("compare", overrides, False, as_json, models=models or [], front=front, choose=choose, again=again)


def tasks(
    num: Annotated[int, typer.Option(min=1, max=100_000, help="How many frames at most.")] = 50,
) -> None:
    """The frames that champion and challenger contradict each other on, as labelling tasks (Label Studio, CSV)."""
    from flows.kept_evaluation import tasks_from_evidence
    from flows.settings import find_project

    project = find_project()
    written = tasks_from_evidence(project, num)
    print(f"{written.num} frames: {', '.join(str(path.relative_to(project.root)) for path in written.paths)}")

"""`tca data split`: a split without leaks, by groups of frames that belong together."""

from __future__ import annotations

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("split")(split)


def split(
    apply: Annotated[
        bool, typer.Option("--apply", help="Move the frames and version data/; without it, only propose.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Move as few frames as possible, at the cost of even shares.")
    ] = False,
    whole_cameras: Annotated[
        bool, typer.Option("--whole-cameras", help="Keep all frames of a named camera in one split.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Another seed than that of params.yaml.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")] = False,
) -> None:
    """Propose a split in which no clip, scene or near-duplicate lies in two parts, and classes are spread evenly."""
    from flows.data_split import split_data
    from flows.settings import apply_environment, find_project

    project = find_project()
    apply_environment(project)
    change = split_data(project, apply, keep, whole_cameras, seed)
    if as_json:
        typer.echo(change.model_dump_json())

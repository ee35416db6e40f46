"""`tca data`: drawing the demo set, bringing in one's own, and versioning either."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Draw, import and version the labelled frames.")


class Format(StrEnum):
    """Label formats that can be imported."""

    yolo = "yolo"
    coco = "coco"
    voc = "voc"


@app.command()
def render(
    force: Annotated[bool, typer.Option("--force", help="Draw again, and replace whatever data/ holds.")] = False,
) -> None:
    """Draw the demo traffic scenes into data/ (params.yaml: render, seed) and version them."""
    from flows.data import render_demo_data
    from flows.settings import apply_environment, find_project

    project = find_project()
    apply_environment(project)
    render_demo_data(project, force=force)


@app.command("import")
def import_(
    format: Annotated[Format, typer.Argument(help="Format of the labels.")],
    source: Annotated[Path, typer.Argument(help="Folder of the set.")],
    regex: Annotated[
        str,
        typer.Option(
            metavar="PATTERN",
            help="Where names say which camera it is: a regular expression with any of the groups "
            "camera, clip, time, slice, split, searched in the path, e.g. '(?P<camera>cam\\d+)_(?P<clip>\\w+)_'.",
        ),
    ] = "",
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Or a CSV: image and any of camera, clip, time, slice, split.")
    ] = None,
    resplit: Annotated[
        bool, typer.Option("--resplit", help="Deal the groups of camera and clip anew, whatever folders or names say.")
    ] = False,
) -> None:
    """Bring a set of your own into data/ and version it with DVC."""
    from flows.data import import_data
    from flows.settings import apply_environment, find_project

    project = find_project()
    apply_environment(project)
    import_data(project, format.value, source, regex, csv, resplit)


@app.command()
def version() -> None:
    """Record the present content of data/ as a new version (data.dvc)."""
    from flows.data import version_data
    from flows.settings import apply_environment, find_project

    project = find_project()
    apply_environment(project)
    version_data(project)

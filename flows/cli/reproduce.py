"""`tca reproduce`: make a registered version again, and say whether it is the same."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("reproduce")(reproduce)


def reproduce(
    model_version: Annotated[
        str, typer.Argument(metavar="MODEL_VERSION", help="A registered version, or champion, challenger, previous.")
    ],
    until: Annotated[
        str,
        typer.Option(
            metavar="STAGE",
            help="Last stage: train, export or evaluate. Default: train, and on to evaluate where the weights differ.",
        ),
    ] = "",
    start: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The checkpoint that the training started from, if it lies elsewhere now."),
    ] = None,
    overrides: Annotated[
        list[str],
        typer.Option(
            "-S", "--set", metavar="KEY=VALUE", help="Another value there, e.g. train.distributed.nodes=1. Repeatable."
        ),
    ] = [],  # noqa: B006 - typer copies it
    environment: Annotated[
        bool,
        typer.Option("--environment", help="Where other packages are installed here, build the recorded ones with uv."),
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the tree where it was made.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Make a version again from its record in a fresh tree, and compare digests or metrics.

    Exit codes: 0 the same, 1 it differs, 2 the record lacks something, 3 something outside failed.
    """
    from flows.reproducing.reproduce import report_text, reproduce_version
    from flows.settings import apply_environment, find_project

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that the tree is removed
    project = find_project()
    apply_environment(project)
    report = reproduce_version(
        project, model_version, until, start=start, overrides=overrides, keep=keep, environment=environment
    )
    print(report.model_dump_json(indent=1) if as_json else report_text(report))
    sys.exit(0 if report.passed else 1)

"""`tca data review`."""

from __future__ import annotations

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("review")(review)


def review(
    reference: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="Whom to ask: a checkpoint (.pt), a model directory, or champion. Default: validate.review.reference.",
        ),
    ] = "",
    top: Annotated[
        int | None, typer.Option(min=1, max=500, help="Cases of each kind to show as pictures. Default: params.yaml.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Pictures in full detail: faces and number plates may be readable.")
    ] = False,
) -> None:
    """List the labels that a reference model doubts: missing, of another class, badly placed, of nothing.

    Writes reports/review.html to look at, and reports/review.csv to work off in a labelling tool.
    """
    from flows.review import review_data, review_text
    from flows.settings import apply_environment, find_project

    project = find_project()
    apply_environment(project)
    print(review_text(review_data(project, _absolute(reference), top, full)))
    print("\nSee: reports/review.html; all cases: reports/review.csv")


def _absolute(reference: str) -> str:
    """A path as typed here, whatever folder the project is in."""
    from pathlib import Path

    return reference if reference in ("", "champion") else str(Path(reference).absolute())

"""`tca promotion`: looking at promotions, checking their records, giving one up or going on with it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at promotions, verify, resume or abort them.")
Number = Annotated[int, typer.Argument(help="Number of the promotion.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """All promotions, newest first."""
    from flows.promotions import list_promotions
    from flows.settings import find_project

    found = list_promotions(find_project())
    if as_json:
        print(json.dumps(found, indent=1))
    for one in [] if as_json else found:
        print(f"{one['id']:>4}  version {one['challenger']:<4} {one['state']:<12} {one['sentence']}")


@app.command()
def show(number: Number) -> None:
    """The timeline of a promotion, from its record."""
    from flows.promotions import timeline
    from flows.settings import find_project

    print(timeline(find_project(), number))


@app.command()
def verify(number: Number) -> None:
    """Check the chain of the record and judge its evidence anew; exit 1 when something does not hold."""
    from flows.promotions import verify_promotion
    from flows.settings import find_project

    result = verify_promotion(find_project(), number)
    held = "every hash and verdict holds" if result.passed else f"does not hold: {result.problem}"
    print(f"promotion {number}: {result.num_lines} lines, {result.num_verdicts} verdicts: {held}")
    if not result.passed:
        raise typer.Exit(1)


@app.command()
def resume(number: Number) -> None:
    """Go on with a promotion that is held or was interrupted."""
    from flows.promotions import resume_open
    from flows.settings import apply_environment, find_project

    project = find_project()
    apply_environment(project)
    _end(resume_open(project, number))


@app.command()
def abort(number: Number, reason: Annotated[str, typer.Option(help="Goes into the record.")] = "asked for") -> None:
    """Give a promotion up: the champion takes all frames again."""
    from flows.promotions import abort_open
    from flows.settings import apply_environment, find_project

    project = find_project()
    apply_environment(project)
    report = abort_open(project, number, reason)
    if report is None:
        print(f"promotion {number} is told to stop; the command that runs it will say how it ended")
    else:
        print(report.sentence)


def _end(report: object) -> None:
    print(report.sentence)  # type: ignore[attr-defined]
    raise typer.Exit(0 if report.passed else 1)  # type: ignore[attr-defined]

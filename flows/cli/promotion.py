"""`tca promotion`: looking at promotions, checking their records, agreeing to one, holding, resuming or aborting it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows.rollout.report import PromotionReport
    from flows.settings import Project

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Look at promotions, verify, approve, hold, resume or abort them."
)
Newest = Annotated[int | None, typer.Argument(help="Number of the promotion; without it the newest.")]
Open = Annotated[int | None, typer.Argument(help="Number of the promotion; without it the open one.")]
Reason = Annotated[str, typer.Option(help="Goes into the record.")]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who agrees; goes into the record.")]
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
def show(
    number: Newest = None,
    html: Annotated[bool, typer.Option("--html", help="Write the page with its curves, and print its path.")] = False,
) -> None:
    """What happened, and the verdicts that decided, from the record."""
    from flows.promotion_records import newest_number, timeline, write_promotion_page
    from flows.settings import find_project

    project = find_project()
    number = newest_number(project) if number is None else number
    if html:
        print(write_promotion_page(project, number).relative_to(project.root))
    else:
        print(timeline(project, number))


@app.command()
def verify(number: Newest = None) -> None:
    """Check the chain, steps and approvals of the record, and judge its evidence anew; exit 1 when it does not hold."""
    from flows.promotion_records import newest_number, verify_promotion
    from flows.settings import find_project

    project = find_project()
    number = newest_number(project) if number is None else number
    result = verify_promotion(project, number)
    held = "every hash and verdict holds" if result.passed else f"does not hold: {result.problem}"
    counts = f"{result.num_verdicts} verdicts, {result.num_transitions} transitions, {result.num_approvals} approvals"
    print(f"promotion {number}: {result.num_lines} lines, {counts}: {held}")
    for what in result.unchecked:
        print(f"not checked: {what}")
    if not result.passed:
        raise typer.Exit(1)


@app.command()
def approve(
    context: typer.Context,
    number: Open = None,
    by: By = "",
    refuse: Annotated[bool, typer.Option("--refuse", help="Do not agree: the promotion is given up.")] = False,
    token: Annotated[
        str,
        typer.Option(
            metavar="TOKEN", help="A signed token; - reads it from standard input.", envvar="TCA_APPROVAL_TOKEN"
        ),
    ] = "",
) -> None:
    """Agree to the open promotion where promote.approval asks for it, as a person or with a signed token."""
    import getpass

    from flows.approving import approve_by_token, approve_open
    from flows.errors import InputError
    from flows.settings import apply_environment, find_project

    project = find_project()
    apply_environment(project)
    given = context.get_parameter_source("token")
    if (by or refuse) and given is not None and given.name == "COMMANDLINE":
        raise InputError("--token says itself who agrees", "Leave out --by and --refuse, or --token")
    if token and not by and not refuse:
        print(approve_by_token(project, number, sys.stdin.read().strip() if token == "-" else token))
    else:
        print(approve_open(project, number, by or getpass.getuser(), agreed=not refuse))


@app.command()
def token(
    number: Open = None,
    digest: Annotated[str, typer.Option(help="Agree to this challenger, in whichever promotion.")] = "",
    by: By = "ci",
    valid: Annotated[str, typer.Option(metavar="TIME", help="How long it counts, e.g. 30m, 1h, 2d.")] = "1h",
) -> None:
    """Print a signed token that agrees to one challenger; TCA_APPROVAL_KEY names the private key."""
    from flows.approving import make_token, read_duration_s
    from flows.settings import find_project

    print(make_token(find_project(), number, digest, by, read_duration_s(valid)))


@app.command()
def key(
    file: Annotated[Path, typer.Argument(help="Where the private key goes; the public half gets .pub.")],
) -> None:
    """Make a pair of keys for signed tokens: the private one for who agrees, the public one for who promotes."""
    from flows.rollout.tokens import make_key

    print(f"private: {file}\npublic:  {make_key(file)}")


@app.command()
def hold(number: Open = None, reason: Reason = "asked for") -> None:
    """Have the champion answer all frames until somebody resumes the promotion."""
    from flows.promotions import hold_open

    _tell(hold_open(_project(), number, reason), "hold")


@app.command()
def resume(number: Open = None) -> None:
    """Go on with a promotion that is held or was interrupted."""
    from flows.promotions import resume_open

    report = resume_open(_project(), number)
    raise typer.Exit(0 if report.passed else 1)


@app.command()
def abort(number: Open = None, reason: Reason = "asked for") -> None:
    """Give a promotion up: the champion takes all frames again."""
    from flows.promotions import abort_open

    _tell(abort_open(_project(), number, reason), "stop")


def _project() -> Project:
    from flows.settings import apply_environment, find_project

    project = find_project()
    apply_environment(project)
    return project


def _tell(report: PromotionReport | None, verb: str) -> None:
    if report is None:
        print(f"the promotion is told to {verb}; the command that runs it will say how it ended")
    else:
        print(report.sentence)

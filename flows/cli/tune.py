"""`tca tune`: the search itself, and its study looked at or taken over."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from flows.cli.verbs import HELP, AsJson, Force, Overrides, run_flow

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help=f"{HELP['tune']}\n\nThe same command in another terminal, or on another machine with the same "
    "TCA_TUNE_STORAGE, joins the same study.",
)


@app.callback()
def tune(
    context: typer.Context,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Search, unless a command follows."""
    if context.invoked_subcommand is None:
        run_flow("tune", overrides, force, as_json)


@app.command()
def show(as_json: AsJson = False) -> None:
    """All trials of the present study, also while it runs."""
    from flows.settings import apply_environment, find_project
    from flows.tuning.apply import read_study, trials_table

    project = find_project()
    apply_environment(project)
    report = read_study(project)
    print(report.model_dump_json(indent=1) if as_json else trials_table(report))


@app.command()
def apply(
    trial: Annotated[
        int | None, typer.Option(min=0, metavar="NUMBER", help="Take this complete trial; default: the best.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write it, instead of only showing the difference.")] = False,
) -> None:
    """The best trial's values as a change of params.yaml."""
    from flows.settings import apply_environment, find_project
    from flows.tuning.apply import propose, take_over

    project = find_project()
    apply_environment(project)
    change = propose(project, trial)
    print(change.diff, end="")
    for note in change.notes:
        print(note, file=sys.stderr)
    if not change.diff:
        print(f"params.yaml has the values of trial {change.trial.number} already", file=sys.stderr)
    elif write:
        take_over(project, change)
        print(f"params.yaml has the values of trial {change.trial.number} now", file=sys.stderr)
    else:
        print("Nothing is written yet: tca tune apply --write", file=sys.stderr)

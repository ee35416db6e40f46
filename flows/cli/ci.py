"""`tca ci`: what the workflows run that a person has no verb for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.verbs import Drill, Overrides

if TYPE_CHECKING:
    from flows.ci.outputs import Outputs
    from flows.settings import Project

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What the workflows run: is dvc.lock true, outputs from and to the remote, promotion without a terminal.",
)


@app.command()
def check(
    as_json: AsJson = False,
    data: Annotated[
        bool, typer.Option("--data", help="Only whether data/ is the version that the last commit names.")
    ] = False,
) -> None:
    """Whether dvc.lock is true of this tree; exit 1 when not. A fresh clone without data or outputs is enough."""
    from flows.ci.candidate import require_recorded_data
    from flows.diff import read_stale

    if data:
        print(f"data/ is version {require_recorded_data(_project())[:8]}, as committed")
        return
    stale = read_stale(_project())
    if as_json:
        print(json.dumps(stale, indent=1))
    for stage, reasons in {} if as_json else stale.items():
        print(f"stale       {stage:<12} {'; '.join(reasons[:5])}")
    if not stale and not as_json:
        print("dvc.lock is true of this tree")
    raise typer.Exit(1 if stale else 0)


@app.command()
def pull() -> None:
    """Put what dvc.lock names in place, from the default remote or the cache; what is in neither is named."""
    from flows.ci.outputs import pull_outputs

    _say(pull_outputs(_project()))


@app.command()
def push() -> None:
    """Copy what dvc.lock names to the default remote: models, evidence and reports."""
    from flows.ci.outputs import push_outputs

    _say(push_outputs(_project()))


@app.command()
def challenger(as_json: AsJson = False) -> None:
    """Exit 1 unless the registered challenger (or the champion) is the very model that this commit names."""
    from flows.adapters.github import write_outputs
    from flows.ci.candidate import require_challenger

    found = require_challenger(_project())
    write_outputs({"version": found["version"], "digest": found["digest"]})
    told = f"version {found['version']} of this commit is the {found['state']}, digest {found['digest'][:12]}"
    print(json.dumps(found) if as_json else told)


@app.command()
def promote(
    digest: Annotated[str, typer.Option(help="Digest that the challenger must have; another is refused.")] = "",
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    drill: Drill = "",
) -> None:
    """`tca promote` for a job: where a person must agree it holds and ends with exit 0, and a later job goes on.

    That one has the agreement as a signed token in TCA_APPROVAL_TOKEN.

    Exit codes: 0 promoted, or held until somebody agrees; 1 rolled back, aborted, held for another reason, or another
    challenger.
    """
    from flows.ci.agreement import hand_in_agreement
    from flows.ci.candidate import require_digest
    from flows.ci.telling import tell_promotion
    from flows.cli.verbs import run_flow
    from flows.params_file import apply_overrides, read_params
    from flows.stage import read_report

    project = _project()
    if digest:
        require_digest(project, digest)
    if told := hand_in_agreement(project):
        print(told)
    asked = read_params(project.params_file, overrides).promote
    at_once = [] if asked.approval == "none" else ["promote.approval_deadline_s=0"]
    try:
        run_flow("promote", [*overrides, *at_once], False, False, drill=drill)
    except SystemExit as ending:
        if ending.code not in (0, 1):
            raise
    finally:
        if at_once:  # it is for this job; the promotion remembers it
            apply_overrides(project.params_file, [f"promote.approval_deadline_s={asked.approval_deadline_s:.15g}"])
    report = read_report(project, "promote")
    tell_promotion(report)
    print(report["sentence"])
    sys.exit(0 if report["passed"] or report.get("awaits_approval") else 1)


@app.command()
def token(
    digest: Annotated[str, typer.Option(help="Digest of the challenger that is agreed to.")],
    promotion: Annotated[int, typer.Option(help="Number of the promotion.")],
    by: Annotated[str, typer.Option(metavar="NAME", help="Who agrees; on GitHub: whoever approved the job.")] = "",
    minutes: Annotated[float, typer.Option(min=0.1, help="How long the token is worth something, minutes.")] = 60.0,
) -> None:
    """Sign an agreement in the name of whoever approved this job; TCA_APPROVAL_TOKEN takes it to tca ci promote."""
    from flows.ci.agreement import sign_agreement

    text, who = sign_agreement(by, digest, promotion, minutes * 60.0)
    print(text)
    print(f"{who} agrees to promotion {promotion} of {digest[:12]}", file=sys.stderr)


@app.command()
def throne() -> None:
    """Open a pull request that makes champion.json name the registry's champion."""
    from flows.ci.telling import propose_throne

    print(propose_throne(_project()))


@app.command()
def comment(file: Annotated[Path, typer.Argument(help="Markdown, e.g. of tca diff --markdown.")]) -> None:
    """Put Markdown on the pull request, in place of the last time; where that is not allowed, on the run's page."""
    from flows.ci.telling import tell_pull_request
    from flows.errors import InputError

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}", "Write it: tca diff REV --markdown --output FILE") from None
    print(tell_pull_request(text))


def _say(found: Outputs) -> None:
    print(f"{len(found.here)} of {len(found.here) + len(found.missing)} outputs of dvc.lock are here")
    for path in found.missing:
        print(f"missing     {path}")


def _project() -> Project:
    from flows.settings import apply_environment, find_project

    project = find_project()
    apply_environment(project)
    return project

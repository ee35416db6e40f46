"""`tca runs`: what MLflow has not got yet."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows.adapters.runs import Runs

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Runs that MLflow has not got yet: list, send.")


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array on standard output.")] = False,
) -> None:
    """Runs that were interrupted, or of which MLflow lacks something. Those of running commands are not among them."""
    found = _runs().kept()
    if as_json:
        print(json.dumps([{**asdict(one), "folder": str(one.folder)} for one in found], indent=1))
    for one in [] if as_json else found:
        print(f"{one.stage:<8} {one.status:<9} {one.num_unsent:>5} to send  run {one.run_id or '-'}  {one.folder}")
    if not found and not as_json:
        print("MLflow has everything")


@app.command()
def send() -> None:
    """Send what MLflow lacks; exit 3 when it does not answer."""
    from flows.errors import OutsideError

    told: list[str] = []
    num_left = _runs().send(told.append)
    if num_left:
        reasons = "; ".join(dict.fromkeys(told))
        raise OutsideError(f"of {num_left} runs MLflow still lacks something: {reasons}", "Try again later")
    print("\n".join(["MLflow has everything", *told]))


def _runs() -> Runs:
    from flows.adapters.runs import Runs
    from flows.params_file import read_params
    from flows.settings import apply_environment, find_project, read_settings

    project = find_project()
    apply_environment(project)
    name = read_params(project.params_file).package.name
    return Runs(read_settings(project).tracking_uri, name, project.home)

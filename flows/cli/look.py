"""Looking: what reigns and runs, what this machine can do, what params and reports mean."""

from __future__ import annotations

import json
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("status")(status)
    app.command("ui")(ui)
    app.command("doctor")(doctor)
    app.command("params")(params)
    app.command("schema")(schema)


def status(as_json: AsJson = False) -> None:
    """Champion, challenger and promotion; services with their address; what is stale and why."""
    from flows.settings import apply_environment, find_project
    from flows.status import read_status, status_text

    project = find_project()
    apply_environment(project)
    found = read_status(project)
    print(json.dumps(found, indent=1) if as_json else status_text(found))


def ui(
    port: Annotated[int, typer.Option(help="Where to serve the pages.")] = 8080,
    write: Annotated[
        bool, typer.Option("--write", help="Only write the page to reports/index.html, and do not serve it.")
    ] = False,
) -> None:
    """One local page that leads to versions, promotions, reports and data docs. Ctrl-C ends it."""
    from flows.look import serve_pages, write_index
    from flows.settings import apply_environment, find_project

    project = find_project()
    apply_environment(project)
    page = write_index(project)
    if write:
        print(page.relative_to(project.root))
    else:
        serve_pages(project, port)


def doctor(as_json: AsJson = False) -> None:
    """What this machine has, and what that means for training, export and serving."""
    from flows.doctor import examine, findings_text
    from flows.settings import find_project

    found = examine(find_project())
    print(json.dumps(found, indent=1) if as_json else findings_text(found))


def params() -> None:
    """Every key of params.yaml: value, range and meaning."""
    from flows.params_file import describe_params, read_params
    from flows.settings import find_project

    print(describe_params(read_params(find_project().params_file)))


def schema(
    stage: Annotated[
        str, typer.Argument(help="validate, train, tune, export, evaluate, package, promote, monitor, release")
    ],
) -> None:
    """JSON Schema of reports/<stage>.json."""
    from flows.stages import report_schema

    print(json.dumps(report_schema(stage), indent=1))

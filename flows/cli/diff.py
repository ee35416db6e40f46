"""`tca diff`: what differs from a revision, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("diff")(diff)


def diff(
    first: Annotated[str, typer.Argument(metavar="[REV1]", help="A git revision: main, a tag, HEAD~1.")] = "HEAD",
    second: Annotated[str, typer.Argument(metavar="[REV2]", help="The later one. Default: the tree as it is.")] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, e.g. for a pull request.")] = False,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write there instead of printing.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no remote for reports that are not here.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Params, data version, figures and verdicts against a revision; reports come from DVC's cache or remote."""
    from flows.changes.text import difference_markdown, difference_text
    from flows.diff import diff_project
    from flows.settings import apply_environment, find_project

    project = find_project()
    apply_environment(project)
    found = diff_project(project, first, second, fetch=not offline)
    if as_json:
        text = found.model_dump_json(indent=1) + "\n"
    else:
        text = difference_markdown(found) if markdown else difference_text(found) + "\n"
    if output is None:
        print(text, end="")
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
        print(output)

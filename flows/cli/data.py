"""`tca data`: drawing the demo set, bringing in one's own, and versioning either."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows.settings import Project

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Remote = Annotated[str | None, typer.Option("--remote", "-r", metavar="NAME", help="Another than the default remote.")]
REVISION = "A git revision (HEAD~1, a tag), the first digits of a version, or champion: what the champion learnt from."

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Draw, import, version and compare the labelled frames."
)


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


@app.command()
def describe(
    revision: Annotated[str, typer.Argument(metavar="[REV]", help=f"{REVISION} Default: data/ as it is.")] = "",
    as_json: AsJson = False,
) -> None:
    """What is in a version: frames by split, camera, slice and clip, boxes by class, sizes, and where it came from."""
    import json

    from flows.data_describe import describe_data, description_text

    found = describe_data(_project(), revision)
    print(json.dumps(found, indent=1) if as_json else description_text(found))


@app.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="REV1", help=REVISION)],
    second: Annotated[str, typer.Argument(metavar="[REV2]", help="The later one. Default: data/ as it is.")] = "",
    full: Annotated[
        bool, typer.Option("--full", help="Pictures in full detail: faces and number plates may be readable.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Frames, boxes, classes and cameras added, removed and changed, with pictures in reports/data_diff.html."""
    from flows.data_difference import diff_data, difference_text

    found = diff_data(_project(), first, second, "full" if full else "reduced")
    print(found.model_dump_json(indent=1) if as_json else difference_text(found))


@app.command()
def history(as_json: AsJson = False) -> None:
    """Every version of data/ in git's history, newest first, with the models that were trained on it."""
    import json
    import os

    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # a registry that does not answer is only a note here
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    from flows.data_history import history_text, read_data_history

    found = read_data_history(_project())
    print(json.dumps(found, indent=1) if as_json else history_text(found))


@app.command()
def checkout(revision: Annotated[str, typer.Argument(metavar="REV", help=REVISION)]) -> None:
    """Go back to an older version, or forward again: data.dvc and data/ become what it was."""
    from flows.data_checkout import checkout_data

    checkout_data(_project(), revision)


@app.command()
def push(
    remote: Remote = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All versions in git's history, not only this one.")
    ] = False,
) -> None:
    """Copy the version that data.dvc names to a remote: a folder, or S3 with credentials from the environment."""
    from flows.data_checkout import push_data

    push_data(_project(), remote, everything)


@app.command()
def pull(
    revision: Annotated[
        str, typer.Argument(metavar="[REV]", help="Fetch this version into the cache, and leave data/ alone.")
    ] = "",
    remote: Remote = None,
) -> None:
    """Fetch the version that data.dvc names from a remote, and put it into data/."""
    from flows.data_checkout import pull_data

    pull_data(_project(), remote, revision)


remotes = typer.Typer(invoke_without_command=True, rich_markup_mode=None, help="List the remotes, or add one.")
app.add_typer(remotes, name="remote")


@remotes.callback()
def list_remotes(context: typer.Context) -> None:
    """List the remotes of the project; the default has a star."""
    if context.invoked_subcommand is not None:
        return
    from flows.adapters.data_versions_remotes import read_remotes

    known, default = read_remotes(_project().root)
    for name, url in known.items():
        print(f"{'*' if name == default else ' '} {name:<15} {url}")
    if not known:
        print("no remote yet: tca data remote add NAME URL")


@remotes.command("add")
def add_remote_(
    name: Annotated[str, typer.Argument(help="How it will be called.")],
    url: Annotated[str, typer.Argument(help="A folder, or s3://BUCKET/FOLDER (not AWS: set AWS_ENDPOINT_URL).")],
) -> None:
    """Add a remote to .dvc/config; the first becomes the default. Credentials stay in the environment."""
    from flows.adapters.data_versions_remotes import add_remote

    is_default = add_remote(_project().root, name, url)
    print(f"remote {name}{' is the default' if is_default else ''}; git commit .dvc/config keeps it")


def _project() -> Project:
    from flows.settings import apply_environment, find_project

    project = find_project()
    apply_environment(project)
    return project

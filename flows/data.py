"""What `tca data` does: make or replace data/ whole, then let DVC version it."""

from __future__ import annotations

from pathlib import Path

from flows.adapters.data_versions_checkout import interrupted_checkout
from flows.adapters.versioning import add_data, read_staleness_of_data, require_repository
from flows.console import Console
from flows.dataset.formats.imports import Format, import_dataset
from flows.dataset.formats.mapping import mapping_from_csv, mapping_from_regex, no_mapping
from flows.dataset.rendering.scene import render_dataset
from flows.errors import Conflict, InputError
from flows.params_file import read_params
from flows.provenance import read_data_md5
from flows.settings import Project

console = Console()


def render_demo_data(project: Project, force: bool = False) -> None:
    """Draw the demo set into data/ unless it holds the version of data.dvc already.

    Raises:
        Conflict: data/ holds something else, and `force` is not given.
    """
    require_repository(project.root)
    params = read_params(project.params_file)
    with console.step("data") as shown:
        if project.data.exists() and not force:
            if not read_staleness_of_data(project.root):
                shown.done(f"current: data version {short_version(project)}")
                return
            raise Conflict(
                "data/ holds something that data.dvc does not name", "Keep it: tca data version. Replace it: --force"
            )
        summary = render_dataset(project.data, params.render, params.seed, shown.progress)
        _add(project)
        shown.done(
            f"{summary.num_images} frames, {summary.num_cameras} cameras, {len(summary.slices)} slices, "
            f"{summary.num_boxes} boxes, version {short_version(project)}"
        )


def import_data(
    project: Project, format: Format, source: Path, regex: str, csv: Path | None, resplit: bool = False
) -> None:
    """Import the set at `source` into data/, replacing what is there (DVC keeps the old version), and version it."""
    require_repository(project.root)
    seed = read_params(project.params_file).seed
    if regex and csv:
        raise InputError("--regex and --csv exclude each other", "Give the one that knows the cameras")
    mapping = mapping_from_regex(regex) if regex else mapping_from_csv(csv) if csv else no_mapping
    with console.step("data import") as shown:
        if project.data.exists() and read_data_md5(project.root) and read_staleness_of_data(project.root):
            raise Conflict("data/ has changes that no version holds", "Record them first: tca data version")
        summary = import_dataset(format, source, project.data, mapping, shown.progress, seed=seed, resplit=resplit)
        _add(project)
        shown.done(f"{summary.sentence}, version {short_version(project)}")
    for warning in summary.warnings:
        console.say(f"note: {warning}")


def version_data(project: Project) -> None:
    """Record data/ as it is.

    Raises:
        Conflict: A checkout was stopped, so that data/ is a mixture of two versions.
    """
    if stopped := interrupted_checkout(project.root):
        raise Conflict(
            f"data/ is between versions {stopped[0][:8]} and {stopped[1][:8]}: a checkout was stopped",
            f"End it: tca data checkout {stopped[1][:8]}",
        )
    with console.step("data version") as shown:
        _add(project)
        shown.done(f"version {short_version(project)}; commit data.dvc to keep it")


def short_version(project: Project) -> str:
    """First eight hex digits of the data version."""
    return (read_data_md5(project.root) or "none")[:8]


def _add(project: Project) -> None:
    add_data(project.root, project.data)

"""Which version of data/ a word means, and where it is read from: what the commands about versions share."""

from __future__ import annotations

import re

from flows.adapters.data_versions import (
    DataVersion,
    VersionFiles,
    current_version,
    find_version,
)
from flows.adapters.registry import Registry, read_pointer
from flows.dataset.layout import DATA_YAML, FRAMES_CSV
from flows.dataset.versions.snapshot import Snapshot, read_snapshot
from flows.errors import InputError, ProjectError
from flows.params_file import read_params
from flows.progress import Progress, silent
from flows.settings import Project, read_settings

CHAMPION = "champion"
WORKING = "data/"  # the name of the data as they lie there


def project_registry(project: Project) -> Registry:
    """The model registry of the project, which is not opened yet."""
    name = read_params(project.params_file).package.name
    return Registry(read_settings(project).tracking_uri, name, project.home, project.champion_file)


def version_of(project: Project, revision: str) -> DataVersion:
    """The version that a git revision, the first digits of an id, or the word champion mean.

    Raises:
        InputError: `revision` is none of them.
        ProjectError: There is no champion, or it names no data version.
    """
    if revision != CHAMPION:
        return find_version(project.root, revision)
    if read_pointer(project.champion_file) is None:
        raise ProjectError("there is no champion yet", "Bring one to the throne: tca release")
    champion = project_registry(project).reigning()
    md5 = champion.tags.get("tca.data_md5", "") if champion else ""
    if not re.fullmatch(r"[0-9a-f]{32}\.dir", md5):
        raise ProjectError("the champion's version names no data version", "See: tca data history")
    return DataVersion(md5)


def named(version: DataVersion, revision: str = "") -> str:
    """How messages call it: `3f1c9a2e`, or `3f1c9a2e (HEAD~1)` where it was asked for by another word."""
    return version.id if not revision or version.md5.startswith(revision.lower()) else f"{version.id} ({revision})"


def open_snapshot(project: Project, version: DataVersion, name: str, progress: Progress = silent) -> Snapshot:
    """A version with its label files at hand, fetched from the default remote where the cache lacks them.

    Raises:
        OutsideError: It is in neither.
    """
    from flows.adapters.data_versions_transfer import fetch_files, open_or_fetch

    files = open_or_fetch(project.root, version.md5)
    wanted = [file for file in files.md5_of if file in (DATA_YAML, FRAMES_CSV) or file.startswith("labels/")]
    fetch_files(project.root, files, wanted, progress)
    return snapshot_of(files, name)


def open_working(project: Project, progress: Progress = silent) -> tuple[Snapshot, VersionFiles]:
    """data/ as it is, and its files with their md5. Raises InputError where there is no data/."""
    from flows.adapters.data_versions_transfer import list_working

    files = list_working(project.root, progress)
    return snapshot_of(files, WORKING), files


def snapshot_of(files: VersionFiles, name: str) -> Snapshot:
    """The dataset that these files are. Raises DataError."""
    return read_snapshot(name, files.md5_of, files.path_of)


def recorded_version(project: Project) -> DataVersion | None:
    """What data.dvc names, or None while it names nothing."""
    try:
        return current_version(project.root)
    except InputError:
        return None

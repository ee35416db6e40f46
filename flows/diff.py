"""What `tca diff` does: params, data version and figures of this tree, or of a revision, against another revision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from flows.adapters import versioning
from flows.adapters.data_versions import VersionFiles, open_version, parse_data_dvc
from flows.adapters.data_versions_transfer import open_or_fetch
from flows.adapters.revisions import find_commit, read_file_at, read_stored
from flows.changes.compare import STAGES, ProjectState, compare_states
from flows.changes.lock import produced, without_missing
from flows.changes.report import Difference
from flows.errors import ParamsError, TcaError
from flows.settings import Project

ReadFile = Callable[[str], bytes | None]
THIS_TREE = "this tree"


def diff_project(project: Project, first: str, second: str = "", fetch: bool = True) -> Difference:
    """Compare two revisions, the second being the tree as it lies there where it is empty.

    Reports that are not here come from DVC's cache, or with `fetch` from the default remote; what is in neither is
    named in a note and left out.

    Raises:
        InputError: There is no such revision.
        ParamsError: A params.yaml is not YAML.
    """
    before = read_state_at(project, first, fetch)
    if second:
        return compare_states(before, read_state_at(project, second, fetch), {})
    stale = read_stale(project)
    return compare_states(before, read_tree(project, fetch), stale)


def read_state_at(project: Project, revision: str, fetch: bool = True) -> ProjectState:
    """The project as `revision` has it. Raises InputError when there is none such."""
    commit = find_commit(project.root, revision)
    name = commit[:8] if commit.startswith(revision) else f"{revision} ({commit[:8]})"
    return _read_state(project.root, name, lambda path: read_file_at(project.root, commit, path), {}, fetch)


def read_tree(project: Project, fetch: bool = True) -> ProjectState:
    """The project as it lies there; a report that lies there counts, whether dvc.lock names it or not."""
    lying = {}
    for stage in STAGES:
        path = project.reports / f"{stage}.json"
        if path.is_file():
            lying[stage] = path.read_bytes()
    return _read_state(project.root, THIS_TREE, lambda path: _read(project.root / path), lying, fetch)


def read_stale(project: Project) -> dict[str, list[str]]:
    """Stages whose dvc.lock is not true of this tree; what is only not here (a fresh clone) does not count."""
    status = json.loads(versioning.run_dvc(project.root, "status", "--json") or "{}")
    lock = _parse(_read(project.root / "dvc.lock"), "dvc.lock")
    data = parse_data_dvc(_read(project.root / "data.dvc") or b"")
    return versioning.parse_status(without_missing(status, lock, data.md5 if data else None))


def _read_state(root: Path, name: str, read: ReadFile, lying: Mapping[str, bytes], fetch: bool) -> ProjectState:
    made = produced(_parse(read("dvc.lock"), f"dvc.lock of {name}"), None)
    named = {stage: md5 for stage in STAGES if (md5 := made.get(f"reports/{stage}.json"))}
    wanted = {stage: md5 for stage, md5 in named.items() if stage not in lying}
    stored, reason = read_stored(root, wanted, fetch)
    texts = {**lying, **stored}
    here = {stage: hashlib.md5(text, usedforsecurity=False).hexdigest() for stage, text in lying.items()}
    data = parse_data_dvc(read("data.dvc") or b"")
    champion = _json(read("champion.json") or b"{}").get("version")
    return ProjectState(
        name=name,
        params=_parse(read("params.yaml"), f"params.yaml of {name}"),
        data_md5=data.md5 if data else None,
        champion=None if champion is None else str(champion),
        reports={stage: _json(text) for stage, text in texts.items()},
        report_md5s={**named, **here},
        images=_list_files(root, data.md5, fetch) if data else {},
        notes=[*_missing(name, [stage for stage in wanted if stage not in stored], reason), *_unlocked(here, named)],
    )


def _missing(name: str, stages: list[str], reason: str) -> list[str]:
    if not stages:
        return []
    which = f"reports of {', '.join(stages)} are" if len(stages) > 1 else f"report of {stages[0]} is"
    return [f"{name}: the {which} not here: {reason}"]


def _unlocked(here: Mapping[str, str], named: Mapping[str, str]) -> list[str]:
    return [
        f"reports/{stage}.json is not the one that dvc.lock names"
        for stage, md5 in here.items()
        if md5 != named.get(stage)
    ]


def _list_files(root: Path, md5: str, fetch: bool) -> Mapping[str, str] | None:
    opened: Callable[[Path, str], VersionFiles] = open_or_fetch if fetch else open_version
    try:
        return opened(root, md5).md5_of
    except TcaError:
        return None


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _parse(text: bytes | None, name: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text or b"{}")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    return dict(found) if isinstance(found, dict) else {}


def _json(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return dict(found) if isinstance(found, dict) else {}

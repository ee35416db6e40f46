"""What dvc.lock names: putting it in place, keeping it in the remote, and whether it is here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows.adapters import versioning
from flows.adapters.data_versions_remotes import read_remotes
from flows.changes.compare import STAGES
from flows.changes.lock import produced
from flows.errors import InputError, ProjectError
from flows.settings import Project


@dataclass(frozen=True)
class Outputs:
    """What dvc.lock names, by whether it is here."""

    here: tuple[str, ...]
    missing: tuple[str, ...]


def pull_outputs(project: Project) -> Outputs:
    """Put in place what dvc.lock names: from the default remote, or without one from DVC's cache.

    What is in neither is left out: `tca release` makes it. Raises OutsideError when the remote does not answer, or a
    file that is in no cache would be overwritten.
    """
    stages = _locked_stages(project)
    verb = "pull" if read_remotes(project.root)[1] is not None else "checkout"
    if stages:
        versioning.run_dvc(project.root, verb, "--quiet", "--allow-missing", *stages)
    return read_outputs(project)


def push_outputs(project: Project) -> Outputs:
    """Copy what dvc.lock names to the default remote.

    Raises:
        InputError: There is no default remote.
        ProjectError: An output is not here.
        OutsideError: The remote does not answer or refuses.
    """
    if read_remotes(project.root)[1] is None:
        raise InputError("there is no default remote", "Add one: tca data remote add NAME URL")
    found = read_outputs(project)
    if found.missing:
        raise ProjectError(f"not here: {', '.join(found.missing)}", "Make them: tca release --until package")
    versioning.run_dvc(project.root, "push", "--quiet", *_locked_stages(project))
    return found


def read_outputs(project: Project) -> Outputs:
    """Which outputs of dvc.lock lie in the tree; whether they are the right ones, `tca ci check` says."""
    named = list(produced(_lock(project), None))
    here = tuple(path for path in named if (project.root / path).exists())
    return Outputs(here, tuple(path for path in named if path not in here))


def _locked_stages(project: Project) -> list[str]:
    return [stage for stage in STAGES if stage in (_lock(project).get("stages") or {})]


def _lock(project: Project) -> dict[str, Any]:
    path: Path = project.root / "dvc.lock"
    try:
        return dict(yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}
    except (yaml.YAMLError, ValueError, TypeError) as error:
        said = " ".join(str(error).split())
        raise ProjectError(f"dvc.lock is not what DVC writes: {said}", "See: git diff HEAD dvc.lock") from None

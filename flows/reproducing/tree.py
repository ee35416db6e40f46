"""What the tree of a reproduction is filled with: changes, params.yaml, data, and the throne as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from flows.adapters.data_versions import cache_folder
from flows.adapters.data_versions_transfer import fetch_files, open_or_fetch
from flows.adapters.registry import ModelVersion, write_pointer
from flows.adapters.versioning import run_dvc
from flows.adapters.worktree import Worktree, apply_changes
from flows.errors import ProjectError
from flows.params_file import parse_override
from flows.progress import Progress
from flows.reproducing.collect import constraints_digest
from flows.reproducing.given import Given
from flows.reproducing.record import Record
from flows.settings import Project

THRONE = "throne.json"


def fill_tree(project: Project, tree: Worktree, record: Record, given: Given, progress: Progress) -> None:
    """Make the tree what the project was when the version was packaged.

    Raises:
        OutsideError: The data are neither in the cache nor in the default remote, or the changes do not fit.
        ProjectError: constraints.txt is not the recorded one.
    """
    apply_changes(tree.root, record.source.patch)
    tree.home.mkdir()
    _put_params(tree.root / "params.yaml", record, given)
    recorded = record.environment.constraints_sha256
    if recorded is not None and constraints_digest(tree.root) != recorded:
        raise ProjectError(
            "constraints.txt of that commit is not the recorded one", "It is not tracked by git; restore it"
        )
    _put_data(project, tree, str(record.data_md5), progress)
    # What was current then says nothing here: every stage is to run.
    (tree.root / "dvc.lock").unlink(missing_ok=True)
    write_pointer(tree.root / "champion.json", None, None)
    if given.champion is not None:
        _note_throne(tree, record, *given.champion)


def _put_params(path: Path, record: Record, given: Given) -> None:
    """The recorded text; where a value must be another one here, the values without their comments."""
    if record.params_yaml is not None:
        path.write_text(record.params_yaml, encoding="utf-8")
    changes = [parse_override(override) for override in given.overrides]
    if given.checkpoint is not None:
        changes.append((["train", "model"], str(given.checkpoint)))
    if not changes:
        return
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for keys, value in changes:
        section = content
        for key in keys[:-1]:
            section = section.setdefault(key, {})
        section[keys[-1]] = value
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _put_data(project: Project, tree: Worktree, md5: str, progress: Progress) -> None:
    """data/ as links into the project's cache, which lacking files are fetched into first."""
    files = open_or_fetch(project.root, md5)
    fetch_files(project.root, files, list(files.md5_of), progress)
    config = tree.root / ".dvc" / "config.local"
    config.parent.mkdir(exist_ok=True)
    cache = cache_folder(project.root).parents[1].resolve()
    config.write_text(f'[cache]\n    dir = {cache}\n    type = "reflink,hardlink,symlink,copy"\n', encoding="utf-8")
    data = {"outs": [{"md5": md5, "hash": "md5", "path": "data"}]}
    (tree.root / "data.dvc").write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    run_dvc(tree.root, "checkout", "--force", "--quiet", "data.dvc")


def _note_throne(tree: Worktree, record: Record, champion: ModelVersion, package_dir: Path) -> None:
    """Have the champion of then ready for `flows.reproducing.throne`, which the tree's own interpreter runs."""
    content = {
        "root": str(tree.root),
        "name": record.model_name,
        "package": str(package_dir.resolve()),
        "digest": champion.digest,
        "tags": dict(champion.tags),
    }
    (tree.home / THRONE).write_text(json.dumps(content), encoding="utf-8")

"""The project as a git revision has it: its small files from git, and from DVC's cache what its dvc.lock names."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from flows.adapters.data_versions import VersionFiles, cache_folder, list_missing, require_commit
from flows.adapters.data_versions_remotes import read_remotes
from flows.adapters.data_versions_transfer import fetch_files
from flows.errors import InputError, OutsideError


def find_commit(root: Path, revision: str) -> str:
    """The commit that `revision` means, 40 hex digits.

    Raises:
        ProjectError: This is no git repository, or it has no commit.
        InputError: There is no such revision here.
    """
    require_commit(root)
    found = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if found is None:
        raise InputError(
            f"{revision!r} is no git revision here",
            "See: git log --all. In a shallow clone, fetch it first (actions/checkout: fetch-depth: 0)",
        )
    return found.decode().strip()


def read_file_at(root: Path, commit: str, path: str) -> bytes | None:
    """A file of the project as `commit` has it; None where there was none."""
    return _git(root, "show", "--end-of-options", f"{commit}:./{path}")


def read_stored(root: Path, md5_of: Mapping[str, str], fetch: bool = True) -> tuple[dict[str, bytes], str]:
    """The content of files by name, from DVC's cache or, with `fetch`, the default remote; and why some are missing.

    What is in neither is left out; this never fails because of a remote.
    """
    files = VersionFiles("", md5_of, cache_folder(root))
    reason = "DVC's cache has not got it"
    if fetch and list_missing(files, list(md5_of)):
        try:
            reason = _fetch(root, files)
        except (OutsideError, InputError) as error:
            reason = error.message
    found = {}
    for name in md5_of:
        try:
            found[name] = files.path_of(name).read_bytes()
        except FileNotFoundError:
            continue
    return found, reason


def _fetch(root: Path, files: VersionFiles) -> str:
    if read_remotes(root)[1] is None:
        return "there is no default remote to fetch from (tca data remote add)"
    try:
        fetch_files(root, files, list(files.md5_of))
    except OutsideError as error:
        if error.__cause__ is None:  # the remote answered, and has not got them
            return "the default remote has not got it (where it was made: tca ci push)"
        raise
    return "fetched"


def _git(root: Path, *arguments: str) -> bytes | None:
    # The variables of a hook that runs us would lead to another repository.
    own = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(["git", *arguments], cwd=root, env=own, capture_output=True, check=False)
    except FileNotFoundError:
        raise OutsideError("git is not installed", "Install git") from None
    return None if done.returncode else done.stdout

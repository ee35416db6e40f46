"""A second working tree of the project's git repository in a temporary folder, and what the first has not committed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.adapters.processes import is_alive, read_services, stop
from flows.errors import OutsideError, ProjectError

_PREFIX = "tca-reproduce-"
_LOCK = "lock"
_HOME = "home"


@dataclass(frozen=True)
class Worktree:
    """The folder made for it, and the project's root in the tree."""

    folder: Path
    root: Path

    @property
    def home(self) -> Path:
        """Where the services that run in the tree keep their state (TCA_HOME)."""
        return self.folder / _HOME


def read_commit(root: Path) -> str | None:
    """The commit of the working tree, 40 hex digits; None without git or commit."""
    try:
        return _git(root, "rev-parse", "--verify", "HEAD^{commit}").decode().strip()
    except OutsideError:
        return None


def has_commit(root: Path, commit: str) -> bool:
    """Whether the repository has this commit."""
    try:
        _git(root, "cat-file", "-e", f"{commit}^{{commit}}")
    except OutsideError:
        return False
    return True


def read_changes(root: Path, paths: Sequence[str]) -> tuple[bytes, tuple[str, ...]]:
    """How the files below `paths` differ from the commit, new files included, as a patch and as a list of their names.

    Files that git ignores stay out. Index and objects of the repository are not touched: both lie in a temporary
    folder meanwhile.

    Raises:
        OutsideError: git failed, or there is no commit.
    """
    objects = (root / _git(root, "rev-parse", "--git-path", "objects").decode().strip()).resolve()
    with tempfile.TemporaryDirectory(prefix="tca-index-") as folder:
        env = {
            "GIT_INDEX_FILE": f"{folder}/index",
            "GIT_OBJECT_DIRECTORY": f"{folder}/objects",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
        }
        (Path(folder) / "objects").mkdir()
        _git(root, "read-tree", "HEAD", env=env)
        known = [path for path in paths if (root / path).exists() or _git(root, "ls-files", "--", path, env=env)]
        if not known:
            return b"", ()
        _git(root, "add", "--all", "--", *known, env=env)
        compare = ("diff", "--cached", "--relative", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv")
        patch = _git(root, *compare, "--binary", "--full-index", "HEAD", "--", *known, env=env)
        names = _git(root, *compare, "--name-only", "-z", "HEAD", "--", *known, env=env)
    return patch, tuple(name for name in names.decode(errors="replace").split("\0") if name)


def apply_changes(root: Path, patch: str) -> None:
    """Apply a patch of `read_changes` below `root`. Raises OutsideError when it does not fit."""
    if not patch:
        return
    # From a subfolder, git silently leaves out what is named relative to it.
    top = Path(_git(root, "rev-parse", "--show-toplevel").decode().rstrip("\n"))
    prefix = _git(root, "rev-parse", "--show-prefix").decode().strip()
    _git(top, "apply", "--whitespace=nowarn", f"--directory={prefix}", "-", given=patch.encode())


@contextlib.contextmanager
def fresh_worktree(root: Path, commit: str, keep: bool = False) -> Iterator[Worktree]:
    """A tree of `commit`, gone when the body ends however it ends, unless `keep`; services that run in it are stopped.

    Trees whose process was killed before it could tidy up are removed first.

    Raises:
        ProjectError: The repository lacks the commit.
        OutsideError: git failed.
    """
    if not has_commit(root, commit):
        raise ProjectError(f"commit {commit[:12]} is not in this repository", "Fetch it: git fetch --all")
    sweep(root)
    prefix = _git(root, "rev-parse", "--show-prefix").decode().strip()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            _git(root, "worktree", "add", "--quiet", "--detach", str(folder / "tree"), commit)
            yield Worktree(folder, folder / "tree" / prefix)
        finally:
            if keep:
                _stop_services(folder)
                (folder / _LOCK).unlink()
            else:
                _remove(root, folder)


def sweep(root: Path) -> None:
    """Remove the trees that nobody works in any more. One that was kept on purpose has no lock file and stays."""
    listed = _git(root, "worktree", "list", "--porcelain", "-z").decode(errors="replace").split("\0")
    for entry in listed:
        folder = Path(entry.removeprefix("worktree ")).parent
        if not entry.startswith("worktree ") or not folder.name.startswith(_PREFIX):
            continue
        if not folder.exists():
            _forget(root, folder)
        with contextlib.suppress(OSError), (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(root, folder)


def _remove(root: Path, folder: Path) -> None:
    _stop_services(folder)
    _forget(root, folder)
    shutil.rmtree(folder, ignore_errors=True)


def _forget(root: Path, folder: Path) -> None:
    # `git worktree prune` would forget the user's own, too, those on a disk that is just not mounted.
    with contextlib.suppress(OutsideError):
        _git(root, "worktree", "remove", "--force", str(folder / "tree"))


def _stop_services(folder: Path) -> None:
    for record in read_services(folder / _HOME).values():
        if is_alive(record):
            stop(record, grace_s=3.0)


def _git(root: Path, *arguments: str, env: Mapping[str, str] | None = None, given: bytes | None = None) -> bytes:
    # Hooks (DVC installs some) and the variables of a hook that runs us would both lead elsewhere.
    own = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    argv = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false", *arguments]
    try:
        done = subprocess.run(argv, cwd=root, env={**own, **(env or {})}, input=given, capture_output=True, check=False)
    except FileNotFoundError:
        raise OutsideError("git is not installed", "Install git") from None
    if done.returncode:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[0]
        raise OutsideError(f"git {arguments[0]} failed: {reason}")
    return done.stdout

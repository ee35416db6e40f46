"""The versions of data/: what git's history of data.dvc says, and what a version holds, read from DVC's cache in place.

A version is told by its id: the md5 that data.dvc names. Its list of files is one JSON file of the cache, and the
content of each file another: nothing is copied to look at an old version, and none of this takes DVC's locks.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows.adapters.versioning import require_repository
from flows.errors import InputError, OutsideError, ProjectError

DATA_DVC = "data.dvc"
_LEAST_DIGITS = 4
_FIELDS = "%H%x1f%aI%x1f%an%x1f%s"


@dataclass(frozen=True)
class Introduction:
    """The commit that made a version the present one: 40 hex digits, ISO-8601 date, author, first line."""

    commit: str
    date: str
    author: str
    subject: str


@dataclass(frozen=True)
class DataVersion:
    """A version as data.dvc names it; without a commit it is not in git's history, or not looked up there.

    `size_bytes` and `num_files` are None where data.dvc does not say.
    """

    md5: str
    size_bytes: int | None = None
    num_files: int | None = None
    introduction: Introduction | None = None

    @property
    def id(self) -> str:
        """The first eight hex digits: how people call it."""
        return self.md5[:8]


@dataclass(frozen=True)
class VersionFiles:
    """Every file of a version, relative to data/, with the md5 of its content; and where that content lies."""

    md5: str
    md5_of: Mapping[str, str]
    cache: Path
    folder: Path | None = None  # the working data, where that is what was listed

    def path_of(self, file: str) -> Path:
        """Where the content of `file` can be read; it may be missing from the cache."""
        return self.folder / file if self.folder else stored_at(self.cache, self.md5_of[file])


def current_version(root: Path) -> DataVersion:
    """What data.dvc names. Raises ProjectError when there is none, or it names something else than data/."""
    try:
        text = (root / DATA_DVC).read_bytes()
    except FileNotFoundError:
        raise ProjectError(
            "there is no data.dvc: no version of data/ was made yet", "Make one: tca data version"
        ) from None
    version = parse_data_dvc(text)
    if version is None:
        raise ProjectError("data.dvc names no folder data/ with an md5", "Make it anew: tca data version")
    return version


def parse_data_dvc(text: bytes, introduction: Introduction | None = None) -> DataVersion | None:
    """The version that the content of a data.dvc names; None when it names none."""
    try:
        out = yaml.safe_load(text)["outs"][0]
        md5 = str(out["md5"])
        size, number = out.get("size"), out.get("nfiles")
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, IndexError, TypeError, AttributeError):
        return None
    if not re.fullmatch(r"[0-9a-f]{32}\.dir", md5):
        return None
    return DataVersion(
        md5, size if isinstance(size, int) else None, number if isinstance(number, int) else None, introduction
    )


def read_history(root: Path, everywhere: bool = False) -> list[DataVersion]:
    """The versions in git's history of data.dvc, newest first; one that stays over several commits once.

    Args:
        root: Of the project, which may be a folder of a larger repository.
        everywhere: Look at all branches and tags, not only at what HEAD builds on.

    Raises:
        ProjectError: This is no git repository, or it has no commit.
    """
    require_commit(root)
    scope = ["--all"] if everywhere else []
    log = _git(root, "log", *scope, f"--format={_FIELDS}", "--end-of-options", "HEAD", "--", DATA_DVC)
    commits = [Introduction(*line.split("\x1f", 3)) for line in log.splitlines() if line.count("\x1f") >= 3]
    found = [
        version
        for commit, text in zip(commits, _read_at(root, [one.commit for one in commits]), strict=True)
        if text is not None and (version := parse_data_dvc(text, commit))
    ]
    return [
        version
        for position, version in enumerate(found)
        if position + 1 == len(found) or found[position + 1].md5 != version.md5
    ]


def find_version(root: Path, revision: str) -> DataVersion:
    """The version that `revision` means: a git revision that has a data.dvc, or the first digits of a version's id.

    Raises:
        InputError: It is neither, or its digits fit several.
        ProjectError: This is no git repository.
    """
    by_id = _by_id(root, revision)
    commit = _git_or_none(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if by_id is not None and not commit:
        return by_id
    if not commit:
        require_commit(root)
        raise InputError(f"{revision!r} is neither a git revision nor a version of data/", "See: tca data history")
    text = _read_at(root, [commit])[0]
    version = parse_data_dvc(text) if text is not None else None
    if version is None:
        if by_id is not None:
            return by_id
        raise InputError(f"git revision {revision} has no data.dvc that names a version", "See: tca data history")
    if by_id is not None and by_id.md5 != version.md5:
        raise InputError(f"{revision!r} is a git revision and the id of another data version", "Write more of it")
    return version


def introduction_of(root: Path, md5: str) -> Introduction | None:
    """The commit that made the version, the latest if several did; None when no commit has."""
    try:
        history = read_history(root, everywhere=True)
    except ProjectError:
        return None
    return next((one.introduction for one in history if one.md5 == md5), None)


def cache_folder(root: Path) -> Path:
    """Where DVC keeps the content of files by md5. Raises ProjectError when `root` is no DVC repository."""
    require_repository(root)
    from dvc.config import Config

    folder = Config(str(root / ".dvc"))["cache"].get("dir") or str(root / ".dvc" / "cache")
    return Path(folder) / "files" / "md5"


def stored_at(cache: Path, md5: str) -> Path:
    """Where the cache keeps content of this md5, if it does."""
    return cache / md5[:2] / md5[2:]


def open_version(root: Path, md5: str) -> VersionFiles:
    """The files of a version, from its list in the cache.

    Raises:
        OutsideError: The list is not in the cache.
    """
    cache = cache_folder(root)
    try:
        content: list[dict[str, str]] = json.loads(stored_at(cache, md5).read_bytes())
        return VersionFiles(md5, {entry["relpath"]: entry["md5"] for entry in content}, cache)
    except FileNotFoundError:
        raise missing(md5) from None
    except (ValueError, KeyError, TypeError):
        raise OutsideError(
            f"the cache's list of version {md5[:8]} is damaged", f"Remove {stored_at(cache, md5)}, then: tca data pull"
        ) from None


def missing(md5: str, number: int = 0) -> OutsideError:
    """The error that says that a version is not here, or `number` of its files are not."""
    what = f"{number:,} files of data version {md5[:8]} are" if number else f"data version {md5[:8]} is"
    return OutsideError(
        f"{what} not in the cache of this machine", f"Fetch it: tca data pull {md5[:8]} (pushed by: tca data push)"
    )


def list_missing(files: VersionFiles, names: Sequence[str]) -> list[str]:
    """Which of these files of a version cannot be read here."""
    return [name for name in names if not files.path_of(name).exists()]


def count_frames(cache: Path, md5: str) -> int | None:
    """Images of a version, from its list in the cache; None when that is not there."""
    try:
        return stored_at(cache, md5).read_bytes().count(b'"relpath": "images/')
    except OSError:
        return None


def size_of(files: VersionFiles) -> int:
    """Bytes on disk of the files that are here."""
    return sum(path.stat().st_size for path in map(files.path_of, files.md5_of) if path.exists())


def require_commit(root: Path) -> None:
    """Raises ProjectError when `root` is in no git repository, or in one without a commit."""
    if _git_or_none(root, "rev-parse", "--git-dir") is None:
        raise ProjectError(
            f"{root} is not a git repository, so there is no history", "Run: git init && git add -A && git commit"
        )
    if _git_or_none(root, "rev-parse", "--verify", "--quiet", "HEAD") is None:
        raise ProjectError("there is no commit yet, so there is no history", "Run: git add -A && git commit")


def _by_id(root: Path, digits: str) -> DataVersion | None:
    """The version whose id starts with `digits`, among those of git's history, data.dvc and the cache."""
    digits = digits.lower().removesuffix(".dir")
    if not re.fullmatch(rf"[0-9a-f]{{{_LEAST_DIGITS},32}}", digits):
        return None
    known: dict[str, DataVersion] = {}
    if (root / ".dvc").is_dir():
        folder = cache_folder(root) / digits[:2]
        known |= {
            path.parent.name + path.name: DataVersion(path.parent.name + path.name) for path in folder.glob("*.dir")
        }
    try:
        known |= {version.md5: version for version in read_history(root, everywhere=True)}
        current = current_version(root)
        known.setdefault(current.md5, current)
    except ProjectError:
        pass
    fitting = [version for md5, version in known.items() if md5.startswith(digits)]
    in_history = [version for version in fitting if version.introduction]
    if len(fitting := in_history if len(in_history) == 1 else fitting) > 1:
        raise InputError(f"{digits} fits {len(fitting)} versions of data/", "Write more digits, see: tca data history")
    return fitting[0] if fitting else None


def _read_at(root: Path, commits: Sequence[str]) -> list[bytes | None]:
    """The content of data.dvc at each commit; None where there was none. One process for all."""
    asked = "".join(f"{commit}:./{DATA_DVC}\n" for commit in commits).encode()
    answer = subprocess.run(
        ["git", "cat-file", "--batch"], cwd=root, input=asked, capture_output=True, check=False
    ).stdout
    contents: list[bytes | None] = []
    for _ in commits:
        header, _, answer = answer.partition(b"\n")
        words = header.split()
        if len(words) == 3 and words[1] == b"blob":
            size = int(words[2])
            contents.append(answer[:size])
            answer = answer[size + 1 :]
        else:
            contents.append(None)
    return contents


def _git(root: Path, *arguments: str) -> str:
    done = _run_git(root, arguments)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise OutsideError(f"git {arguments[0]} failed: {reason}")
    return str(done.stdout)


def _git_or_none(root: Path, *arguments: str) -> str | None:
    done = _run_git(root, arguments)
    return None if done.returncode else str(done.stdout).strip()


def _run_git(root: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[Any]:
    try:
        argv = ["git", "-c", "core.quotePath=false", *arguments]
        return subprocess.run(argv, cwd=root, capture_output=True, encoding="utf-8", errors="replace", check=False)
    except FileNotFoundError:
        raise OutsideError("git is not installed", "Install git") from None

"""What `tca data checkout`, `push` and `pull` do: versions between data/, the cache and the remotes."""

from __future__ import annotations

from flows.adapters.data_versions import (
    DataVersion,
    VersionFiles,
    current_version,
    list_missing,
    open_version,
    read_history,
)
from flows.adapters.data_versions_checkout import check_out, interrupted_checkout, restore
from flows.adapters.versioning import require_repository
from flows.console import Console
from flows.data_versions import named, recorded_version, version_of
from flows.errors import Conflict, OutsideError, TcaError
from flows.progress import Progress
from flows.settings import Project

console = Console()


def checkout_data(project: Project, revision: str) -> None:
    """Make data/ and data.dvc the version that `revision` means, fetched from the default remote where needed.

    Raises:
        InputError: There is no such version.
        Conflict: data/ has changes that no version holds.
        OutsideError: The version is neither in the cache nor in the remote, or DVC failed.
    """
    require_repository(project.root)
    version, recorded = version_of(project, revision), recorded_version(project)
    with console.step("data checkout") as shown:
        target = _complete(project, version, None, shown.progress)
        _require_held(project, version, recorded, target)
        before = recorded.md5 if recorded else ""
        try:
            check_out(project.root, before, target)
        except (KeyboardInterrupt, TcaError) as stopped:
            raise _between(before, version.md5, stopped) from stopped
        shown.done(f"data/ is version {named(version, revision)}, {len(target.md5_of):,} files")
    if recorded and recorded.md5 != version.md5:
        console.say(f"Keep it: git commit data.dvc. Return: tca data checkout {recorded.id}")


def push_data(project: Project, remote: str | None = None, everything: bool = False) -> None:
    """Copy the version that data.dvc names to a remote; with `everything`, all of git's history that are here.

    Raises:
        InputError: There is no version, or no such remote.
        OutsideError: The remote refuses or does not answer.
    """
    from flows.adapters.data_versions_transfer import transfer_versions

    md5s = [current_version(project.root).md5]
    if everything:
        md5s = list(dict.fromkeys([*md5s, *(one.md5 for one in read_history(project.root))]))
        absent = [md5 for md5 in md5s if not _is_here(project, md5)]
        md5s = [md5 for md5 in md5s if md5 not in absent]
        if absent:
            console.say(f"note: not on this machine, so not pushed: {', '.join(md5[:8] for md5 in absent)}")
    with console.step("data push") as shown:
        number = transfer_versions(project.root, md5s, "push", remote, shown.progress)
        ids = ", ".join(md5[:8] for md5 in md5s)
        shown.done(f"{ids}: {number:,} files copied" if number else f"{ids}: the remote has everything")


def pull_data(project: Project, remote: str | None = None, revision: str = "") -> None:
    """Fetch the version that data.dvc names and put it into data/; with a `revision`, fetch that into the cache only.

    Raises:
        InputError: There is no such version or remote.
        Conflict: data/ has changes that no version holds.
        OutsideError: The remote refuses or does not answer.
    """
    require_repository(project.root)
    version = version_of(project, revision) if revision else current_version(project.root)
    with console.step("data pull") as shown:
        target = _complete(project, version, remote, shown.progress)
        if revision:
            shown.done(f"version {version.id} is in the cache; use it: tca data checkout {version.id}")
            return
        _require_held(project, version, version, target)
        restore(project.root)
        shown.done(f"data/ is version {version.id}, {len(target.md5_of):,} files")


def _complete(project: Project, version: DataVersion, remote: str | None, progress: Progress) -> VersionFiles:
    """All files of the version in the cache."""
    from flows.adapters.data_versions_transfer import transfer_versions

    if not _is_here(project, version.md5):
        transfer_versions(project.root, [version.md5], "pull", remote, progress)
    return open_version(project.root, version.md5)


def _is_here(project: Project, md5: str) -> bool:
    try:
        files = open_version(project.root, md5)
    except OutsideError:
        return False
    return not list_missing(files, list(files.md5_of))


def _require_held(project: Project, version: DataVersion, recorded: DataVersion | None, target: VersionFiles) -> None:
    """Raises Conflict unless everything in data/ is also in the version that data.dvc names or in the target."""
    if not project.data.is_dir() or not any(project.data.iterdir()):
        return
    from flows.adapters.data_versions_transfer import list_working

    working = list_working(project.root)
    if recorded is not None and working.md5 in (recorded.md5, version.md5):
        return
    stopped = interrupted_checkout(project.root)
    if stopped is not None and _is_between(project, working, (*stopped, target.md5)):
        return
    raise Conflict(
        "data/ has changes that no version holds",
        "Keep them: tca data version. Look at them: tca data diff HEAD. Throw them away: remove data/ first",
    )


def _is_between(project: Project, working: VersionFiles, md5s: tuple[str, ...]) -> bool:
    """Whether each file is one of these versions', so that a stopped checkout alone explains the mixture."""
    known: set[tuple[str, str]] = set()
    for md5 in md5s:
        if md5 and _is_here(project, md5):
            known.update(open_version(project.root, md5).md5_of.items())
    return set(working.md5_of.items()) <= known


def _between(before: str, after: str, stopped: BaseException) -> OutsideError:
    reason = f": {stopped.message}" if isinstance(stopped, TcaError) else ""
    back = f"; to return: tca data checkout {before[:8]}" if before else ""
    return OutsideError(f"the checkout was stopped{reason}", f"To go on: tca data checkout {after[:8]}{back}")

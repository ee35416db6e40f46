"""Moving versions between DVC's cache and its remotes, and listing the working data: where DVC itself is needed."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from flows.adapters.data_versions import VersionFiles, cache_folder, list_missing, missing, open_version
from flows.adapters.versioning import require_repository
from flows.errors import Conflict, InputError, OutsideError, TcaError
from flows.progress import Progress, silent

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc_data.hashfile.tree import Tree

Direction = Literal["push", "pull"]


def list_working(root: Path, progress: Progress = silent) -> VersionFiles:
    """The files of data/ as they are. DVC remembers the md5 of a file that has not changed since it last looked.

    Raises:
        InputError: There is no data/.
        OutsideError: A file cannot be read.
    """
    from dvc_data.hashfile.build import build

    if not (root / "data").is_dir():
        raise InputError(
            "there is no data/", "Bring a version back: tca data checkout HEAD; or draw one: tca data render"
        )
    with _repository(root) as repo, _readable(""):
        _, _, tree = build(
            repo.cache.local,
            str(root / "data"),
            repo.fs,
            "md5",
            dry_run=True,
            ignore=repo.dvcignore,
            callback=_callback(progress, "files read"),
        )
        md5_of = {"/".join(key): str(found.value) for key, _, found in cast("Tree", tree)}
        return VersionFiles(str(tree.hash_info.value), md5_of, cache_folder(root), root / "data")


def transfer_versions(
    root: Path, md5s: Sequence[str], direction: Direction, remote: str | None, progress: Progress = silent
) -> int:
    """Copy what is missing of some versions to or from a remote, and say how many files that were.

    What is there already is left alone, so that a stopped transfer goes on where it was.

    Raises:
        InputError: There is no such remote, bucket or version.
        OutsideError: The remote does not answer, refuses, or a disk is full.
        Conflict: Another DVC command is at work.
    """
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.transfer import transfer

    with _repository(root) as repo, _failures() as failures, _readable(_remote_name(repo, remote)):
        stored = repo.cloud.get_remote_odb(remote, direction)
        cache = repo.cache.local
        _require_bucket(stored)
        ends = (cache, stored) if direction == "push" else (stored, cache)
        with repo.lock:
            names = list(md5s)
            if direction == "pull":  # the lists first: what they name is what is to be copied
                _copy(stored, cache, md5s, silent)
                names = [md5 for one in md5s for md5 in _listed(root, one)]
            result = transfer(
                *ends,
                {HashInfo("md5", name) for name in names},
                shallow=False,
                cache_odb=cache,
                callback=_callback(progress, "files copied"),
                validate_status=lambda status: _require_all(status, md5s, direction),
            )
        if result.failed:
            cause = failures[0] if failures else OSError(f"{len(result.failed)} files failed")
            raise cause
        return len(result.transferred)


def fetch_files(root: Path, files: VersionFiles, names: Sequence[str], progress: Progress = silent) -> None:
    """Bring some files of a version into the cache from the default remote, where they are missing.

    Raises:
        OutsideError: They are in neither.
    """
    absent = list_missing(files, names)
    if not absent:
        return
    _fetch(root, [files.md5_of[name] for name in absent], progress)
    if still := list_missing(files, absent):
        raise missing(files.md5, len(still))


def open_or_fetch(root: Path, md5: str) -> VersionFiles:
    """`open_version`, with the list of files from the default remote where the cache lacks it."""
    try:
        return open_version(root, md5)
    except OutsideError as absent:
        try:
            _fetch(root, [md5], silent)
        except TcaError as error:
            raise OutsideError(f"{absent.message}; {error.message}", absent.remedy) from error
        return open_version(root, md5)


def _fetch(root: Path, md5s: Sequence[str], progress: Progress) -> None:
    with _repository(root) as repo, _readable(_remote_name(repo, None)):
        if not repo.config["core"].get("remote"):
            return
        stored = repo.cloud.get_remote_odb(None, "pull")
        _require_bucket(stored)
        _copy(stored, repo.cache.local, md5s, progress)


def _copy(stored: Any, cache: Any, md5s: Sequence[str], progress: Progress) -> None:
    """Copy these files from a remote into the cache; what the remote lacks is left out."""
    failures: list[BaseException] = []
    cache.add(
        [stored.oid_to_path(md5) for md5 in md5s],
        stored.fs,
        list(md5s),
        callback=_callback(progress, "files fetched"),
        on_error=lambda _, error: failures.append(error),
    )
    for failure in failures:
        if not isinstance(failure, FileNotFoundError):
            raise failure


def _listed(root: Path, md5: str) -> list[str]:
    """The md5 of each file of a version whose list was just fetched."""
    try:
        return list(open_version(root, md5).md5_of.values())
    except OutsideError:
        raise InputError(
            f"data version {md5[:8]} is not in the remote", "Where it was made: tca data push (older ones: push --all)"
        ) from None


def _require_bucket(stored: Any) -> None:
    """Ask for one name in the bucket, and raise what comes of it: s3fs would make a bucket under a mistyped name."""
    if getattr(stored.fs, "protocol", "") != "s3":
        return
    bucket, _, folder = stored.path.partition("/")
    stored.fs.fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=folder, MaxKeys=1)


def _require_all(status: Any, md5s: Sequence[str], direction: Direction) -> None:
    if not status.missing:
        return
    where = "the cache of this machine" if direction == "push" else "the remote"
    ids = ", ".join(md5[:8] for md5 in md5s)
    raise InputError(
        f"{len(status.missing):,} files of data version {ids} are not in {where}",
        "Fetch them first: tca data pull" if direction == "push" else "Where they were made: tca data push",
    )


@contextmanager
def _repository(root: Path) -> Iterator[Repo]:
    require_repository(root)
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        repo = Repo(str(root))
    except DvcException as error:
        raise OutsideError(f"DVC cannot open {root}: {error}") from error
    try:
        yield repo
    finally:
        with suppress(Exception):
            repo.close()


@contextmanager
def _failures() -> Iterator[list[BaseException]]:
    """What DVC only logs: why a single file could not be copied."""
    found: list[BaseException] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1] is not None:
                found.append(record.exc_info[1])

    logger, handler = logging.getLogger("dvc_data.hashfile.transfer"), Collect()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


@contextmanager
def _readable(remote: str) -> Iterator[None]:
    try:
        yield
    except TcaError:
        raise
    except Exception as error:  # S3, SSH and DVC each raise their own kinds; the chain of causes tells them apart
        raise readable_error(error, remote) from error


def readable_error(error: BaseException, remote: str) -> TcaError:
    """What went wrong between here and a remote, with its remedy."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    names = {type(one).__name__ for one in chain}
    text = " ".join(str(one) for one in chain)
    numbers = {one.errno for one in chain if isinstance(one, OSError)}
    where = f"remote {remote}" if remote else "the remote"
    if "LockError" in names:
        return Conflict("DVC is locked by another command", "Wait for it to end, then run this again")
    if "RemoteNotFoundError" in names or "NoRemoteError" in names:
        what = f"there is no remote {remote}" if remote else "there is no default remote"
        return InputError(what, "Add one: tca data remote add NAME URL; see them: tca data remote")
    if errno.ENOSPC in numbers:
        return OutsideError("the disk is full", "Make room, then run this again: what is there stays")
    if names & {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}:
        return OutsideError(
            f"{where} needs credentials", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    if "NoSuchBucket" in text or "specified bucket does not exist" in text.lower():
        return InputError(f"{where} has no such bucket", "Make the bucket, or correct the URL: tca data remote")
    if names & {"EndpointConnectionError", "ConnectTimeoutError", "ClientConnectorError", "ConnectionClosedError"}:
        return OutsideError(f"{where} does not answer", "Check the network, and AWS_ENDPOINT_URL where it is not AWS")
    if "PermissionError" in names or "AccessDenied" in text or "Forbidden" in text:
        return OutsideError(f"{where} refuses access: {_first_line(error)}", "Check credentials and rights")
    return OutsideError(f"{where} failed: {type(error).__name__}: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0][:200]


def _remote_name(repo: Repo, remote: str | None) -> str:
    return str(remote or repo.config["core"].get("remote") or "")


def _callback(progress: Progress, note: str) -> Any:
    from fsspec.callbacks import Callback

    class Told(Callback):  # type: ignore[misc]
        def call(self, *args: object, **kwargs: object) -> None:
            progress(int(self.value), int(self.size or 0), note)

    return Told()

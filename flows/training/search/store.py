"""Where a study lives so that many workers share it: a journal file, or PostgreSQL.

Both offer two locks beside Optuna's storage. One that a worker holds for a moment while it decides who does what; and
one that it holds as long as it lives. The system gives the second back when a process dies, however it dies: so a dead
worker is known at once and for certain, without clocks, and a slow one is never taken for dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from flows.errors import InputError, OutsideError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_POSTGRES = ("postgresql://", "postgres://", "postgresql+psycopg://")
_CONNECT_ARGS = {"connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}


class Store(Protocol):
    """A study's storage and its two kinds of locks. `name` says where it is, without credentials."""

    name: str

    def open(self) -> BaseStorage:
        """Optuna's storage. Raises OutsideError where it cannot be reached."""

    def deciding(self, study: str) -> AbstractContextManager[None]:
        """The moment in which this worker alone decides about `study`."""

    def living(self, worker: str) -> AbstractContextManager[None]:
        """`is_living(worker)` is true while the block runs, and false once the process is gone."""

    def is_living(self, worker: str) -> bool:
        """Whether that worker is within its `living` block, on whatever machine."""


def find_store(address: str, default: Path) -> Store:
    """The store that `address` names: empty for the journal `default`, a path ending in .journal, or a PostgreSQL URL.

    Raises:
        InputError: It is neither; the message does not repeat it, since it may hold a password.
    """
    if not address:
        return JournalStore(default)
    if address.startswith(_POSTGRES):
        return PostgresStore(address)
    if address.endswith(".journal") and "://" not in address:
        return JournalStore(Path(address))
    raise InputError(
        "TCA_TUNE_STORAGE in the environment names no storage",
        "Expected postgresql://USER:PASSWORD@HOST/DATABASE, or a path ending in .journal",
    )


class JournalStore:
    """A journal file and lock files beside it; on a shared folder for several machines (NFS 4 keeps such locks)."""

    def __init__(self, path: Path) -> None:
        self.name = f"the journal {path.name}"
        self._path = path
        self._workers = path.with_name(f"{path.name}.workers")

    def open(self) -> BaseStorage:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        self._path.parent.mkdir(parents=True, exist_ok=True)
        with _quiet(), _locked_file(self._append_lock):
            _cut_torn_line(self._path)
            return JournalStorage(JournalFileBackend(str(self._path), lock_obj=_append_lock(self._path)))

    @property
    def _append_lock(self) -> Path:
        return self._path.with_name(f"{self._path.name}.append")

    def deciding(self, study: str) -> AbstractContextManager[None]:
        return _locked_file(self._path.with_name(f"{self._path.name}.deciding"))

    @contextmanager
    def living(self, worker: str) -> Iterator[None]:
        self._workers.mkdir(parents=True, exist_ok=True)
        path = self._workers / _key(worker)
        with _locked_file(path):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def is_living(self, worker: str) -> bool:
        try:
            with (self._workers / _key(worker)).open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


class PostgresStore:
    """A PostgreSQL database; the locks are advisory ones, held by a connection of their own.

    A pooler that shares connections between transactions cannot carry them: give the address of the server itself.
    """

    def __init__(self, url: str) -> None:
        self._url = "postgresql+psycopg://" + url.split("://", 1)[1]
        parts = urlsplit(url)
        self.name = f"PostgreSQL at {parts.hostname or 'this machine'}{parts.path}"
        self._engine: Any = None

    def open(self) -> BaseStorage:
        from optuna.storages import RDBStorage

        with self._reached(), _quiet(), self.deciding("schema"):
            return RDBStorage(self._url, engine_kwargs={"pool_pre_ping": True, "connect_args": _CONNECT_ARGS})

    @contextmanager
    def deciding(self, study: str) -> Iterator[None]:
        with self._session() as session:
            self._ask(session, "SELECT pg_advisory_lock(:key)", f"deciding {study}")
            yield

    @contextmanager
    def living(self, worker: str) -> Iterator[None]:
        with self._session() as session:
            self._ask(session, "SELECT pg_advisory_lock(:key)", f"living {worker}")
            yield

    def is_living(self, worker: str) -> bool:
        with self._session() as session:
            return not self._ask(session, "SELECT pg_try_advisory_lock(:key)", f"living {worker}")

    def _ask(self, session: Any, statement: str, name: str) -> Any:
        from sqlalchemy import text

        key = int.from_bytes(hashlib.sha256(f"tca tune {name}".encode()).digest()[:8], "big", signed=True)
        with self._reached():
            return session.execute(text(statement), {"key": key}).scalar()

    @contextmanager
    def _session(self) -> Iterator[Any]:
        """A connection of its own: its locks go when it is closed, or when this process is gone."""
        import sqlalchemy
        from sqlalchemy.pool import NullPool

        with self._reached():
            if self._engine is None:
                self._engine = sqlalchemy.create_engine(
                    self._url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=_CONNECT_ARGS
                )
            session = self._engine.connect()
        try:
            yield session
        finally:
            with contextlib.suppress(sqlalchemy.exc.DBAPIError):
                session.close()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

        try:
            yield
        except (ArgumentError, ValueError):
            raise InputError(
                "TCA_TUNE_STORAGE in the environment is not an address that PostgreSQL understands"
            ) from None
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            shown = str(cause).strip().splitlines()[0][:200]
            password = urlsplit(self._url).password
            shown = shown.replace(password, "***") if password else shown
            raise OutsideError(f"{self.name} failed: {shown}", "Check TCA_TUNE_STORAGE") from None


def _key(worker: str) -> str:
    return hashlib.sha256(worker.encode()).hexdigest()[:16]


@contextmanager
def _locked_file(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _append_lock(path: Path) -> Any:
    """Optuna's lock for appending, as one that a dead process does not leave behind; it mends what one tore."""
    from optuna.storages.journal._file import BaseJournalFileLock

    class AppendLock(BaseJournalFileLock):
        _file: int | None = None

        def acquire(self) -> bool:
            self._file = os.open(f"{path}.append", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            _cut_torn_line(path)
            return True

        def release(self) -> None:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    return AppendLock()


def _cut_torn_line(path: Path) -> None:
    """Drop the end of a line that was not written whole (power, full disk): Optuna would refuse the journal for it."""
    with contextlib.suppress(FileNotFoundError), path.open("r+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        if not size:
            return
        stream.seek(size - 1)
        if stream.read(1) == b"\n":
            return
        tail = min(size, 1 << 20)
        stream.seek(size - tail)
        stream.truncate(size - tail + stream.read(tail).rfind(b"\n") + 1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Parts of Optuna call themselves experimental."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

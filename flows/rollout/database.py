"""The journal's file: one SQLite database that survives a crash at any moment.

Write-ahead log with synchronous=FULL: what a commit returned from is on disk, and what was torn while it was written
never was there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from flows.errors import OutsideError
from flows.rollout.schema import SCHEMA, SCHEMA_VERSION

BUSY_S = 10.0
"""How long a write waits for that of another process."""


class Database:
    """An open database. Every method raises OutsideError when the file cannot be read or written."""

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        """`path` is None for one in memory, which nobody else can open."""
        self._db, self._path = connection, path

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with errors_named(self._path):
            yield self._db

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """All that the body writes, or nothing of it; nobody else writes meanwhile."""
        with errors_named(self._path):
            try:  # an interrupt may come at any of these
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.commit()
            except BaseException:
                self._db.rollback()
                raise


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the database at `path`, made on first use and looked through for damage.

    Raises:
        OutsideError: It is damaged, or cannot be written.
    """
    with errors_named(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise sqlite3.OperationalError(error.strerror) from error
        with closing(connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            if (found := connection.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(found)
            _lay_tables(connection)
            yield connection


@contextmanager
def connected_in_memory() -> Iterator[sqlite3.Connection]:
    """A connection to an empty database that ends with it."""
    with closing(connect(":memory:")) as connection:
        _lay_tables(connection)
        yield connection


@contextmanager
def connected_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that cannot change anything. Raises OutsideError when the file is damaged."""
    with errors_named(path), closing(connect(f"file:{path}?mode=ro", uri=True)) as connection:
        yield connection


def connect(path: Path | str, uri: bool = False) -> sqlite3.Connection:
    """A bare connection that commits nothing by itself."""
    # An orchestrator may run a step in another thread than the one that opened the journal, though never two at once.
    return sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False, uri=uri)


@contextmanager
def errors_named(path: Path | None) -> Iterator[None]:
    """Raise what SQLite says of the file as an OutsideError with a remedy."""
    name = path.name if path else "in memory"
    try:
        yield
    except sqlite3.OperationalError as error:
        remedy = f"Nothing was changed. Check disk and rights of {path}"
        if "locked" in str(error):
            remedy = "Nothing was changed. A controller is writing, or was stopped while it did: see tca status"
        raise OutsideError(f"the journal {name} cannot be used: {error}", remedy) from error
    except sqlite3.DatabaseError as error:
        raise OutsideError(
            f"the journal {name} is damaged: {error}",
            f"Traffic stays as it is. Restore {path} from a copy, or move it away to begin a new one",
        ) from error


def _lay_tables(connection: sqlite3.Connection) -> None:
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > SCHEMA_VERSION:
        raise sqlite3.OperationalError(f"a later version of the product wrote it (schema {found})")
    if found < SCHEMA_VERSION:  # else nothing is written, and nobody who only reads waits for a writer
        connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")

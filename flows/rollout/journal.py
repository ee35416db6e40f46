"""The journal of promotions: one SQLite file that survives a crash at any moment.

Write-ahead log with synchronous=FULL: what a commit returned from is on disk. Every write is fenced: it happens in one
transaction with a check that the lease still carries the writer's epoch, so that a controller which slept past its
lease changes nothing. An effect is written as INTENT before it is done and as DONE after it was observed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from flows.errors import Conflict, OutsideError, ProjectError
from flows.rollout.leases import Lease, Owner
from flows.rollout.schema import SCHEMA
from flows.rollout.states import TERMINAL, Position, State


@dataclass(frozen=True)
class Entry:
    """One promotion as the journal knows it."""

    id: int
    challenger: tuple[str, str]
    """Version and digest."""
    champion: tuple[str, str] | None
    params: str
    position: Position
    sentence: str
    opened_at: float
    closed_at: float | None
    abort_reason: str | None


@dataclass(frozen=True)
class Approval:
    """A person's answer, or that of a machine with a signed token, to the question whether to go on."""

    gate: str
    """Where it was asked: the state that it lets the promotion into."""
    agreed: bool
    who: str
    how: str
    """cli, prefect or token."""
    token_id: str | None
    at: float


_IS_OPEN = "SELECT 1 FROM promotions WHERE id = ? AND closed_at IS NULL"


class Journal:
    """An open journal. Every method raises OutsideError when the file cannot be read or written."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db, self._path = connection, path

    def acquire(self, owner: Owner, now: float, ttl_s: float, above: int) -> Lease:
        """Take the lease with an epoch above every earlier one and above `above`.

        Raises:
            Conflict: Somebody else holds it, and may still be alive.
        """
        with self._writing() as db:
            row = db.execute("SELECT epoch, token, pid, host, since, expires FROM lease").fetchone()
            if row is not None:
                held = Lease(row[0], Owner(*row[1:4]), row[4], row[5])
                if held.is_held_against(owner, now):
                    raise held.conflict()
            epoch = max(row[0] if row else 0, above) + 1
            db.execute(
                "REPLACE INTO lease VALUES (1, ?, ?, ?, ?, ?, ?)",
                (epoch, owner.token, owner.pid, owner.host, now, now + ttl_s),
            )
        return Lease(epoch, owner, now, now + ttl_s)

    def renew(self, lease: Lease, now: float, ttl_s: float) -> None:
        """Push the expiry of the lease back. Raises Conflict when it is no longer ours."""
        with self._fenced(lease) as db:
            db.execute("UPDATE lease SET expires = ?", (now + ttl_s,))

    def release(self, lease: Lease) -> None:
        """Let others take the lease at once. Raises Conflict when it is no longer ours."""
        with self._fenced(lease) as db:
            db.execute("UPDATE lease SET expires = 0")

    def open_promotion(
        self,
        lease: Lease,
        challenger: tuple[str, str],
        champion: tuple[str, str] | None,
        params: str,
        now: float,
    ) -> Entry:
        """Enter a new promotion in IDLE."""
        with self._fenced(lease) as db:
            found = db.execute(
                "INSERT INTO promotions (challenger_version, challenger_digest, champion_version, champion_digest, "
                "params, state, step, sentence, opened_at) VALUES (?, ?, ?, ?, ?, ?, 0, '', ?)",
                (*challenger, *(champion or (None, None)), params, State.IDLE, now),
            )
        assert found.lastrowid is not None
        return self.read(found.lastrowid)

    def move(self, lease: Lease, promotion: int, position: Position, event: str, reason: str, now: float) -> None:
        """Write a transition, with the last verdict as its ground; a terminal state closes the promotion."""
        held = position.held_from
        closed_at = now if position.state in TERMINAL else None
        with self._fenced(lease) as db:
            verdict = db.execute("SELECT max(id) FROM verdicts WHERE promotion = ?", (promotion,)).fetchone()[0]
            db.execute(
                "UPDATE promotions SET state = ?, step = ?, held_state = ?, held_step = ?, sentence = ?, closed_at = ? "
                "WHERE id = ?",
                (
                    *(position.state, position.step),
                    *((held.state, held.step) if held else (None, None)),
                    *(reason, closed_at, promotion),
                ),
            )
            db.execute(
                "INSERT INTO transitions (promotion, state, step, event, reason, verdict, at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (promotion, position.state, position.step, event, reason, verdict, now),
            )

    def intend(self, lease: Lease, promotion: int, effect: str, now: float) -> None:
        """Write down that `effect` is about to be done."""
        with self._fenced(lease) as db:
            db.execute("REPLACE INTO effects VALUES (?, ?, 'INTENT', ?, NULL)", (promotion, effect, now))

    def complete(self, lease: Lease, promotion: int, effect: str, now: float) -> None:
        """Write down that `effect` was observed to be done."""
        with self._fenced(lease) as db:
            db.execute(
                "UPDATE effects SET status = 'DONE', done_at = ? WHERE promotion = ? AND name = ?",
                (now, promotion, effect),
            )

    def save_verdict(self, lease: Lease, promotion: int, position: Position, body: str, now: float) -> None:
        """Keep a verdict; the transition that follows cites it."""
        with self._fenced(lease) as db:
            db.execute(
                "INSERT INTO verdicts (promotion, state, step, body, at) VALUES (?, ?, ?, ?, ?)",
                (promotion, position.state, position.step, body, now),
            )

    def request_abort(self, promotion: int, reason: str) -> None:
        """Ask for an abort: whoever runs the promotion carries it out. Raises ProjectError when it is not open."""
        with self._writing() as db:
            changed = db.execute(
                "UPDATE promotions SET abort_reason = ? WHERE id = ? AND closed_at IS NULL", (reason, promotion)
            )
        if not changed.rowcount:
            raise ProjectError(f"promotion {promotion} is not open", "See: tca status")

    def request_hold(self, promotion: int, reason: str, now: float) -> None:
        """Ask for a hold: whoever runs the promotion carries it out. Raises ProjectError when it is not open."""
        with self._writing() as db:
            if not db.execute(_IS_OPEN, (promotion,)).fetchone():
                raise ProjectError(f"promotion {promotion} is not open", "See: tca status")
            db.execute("REPLACE INTO hold_requests VALUES (?, ?, ?)", (promotion, reason, now))

    def hold_request(self, promotion: int) -> str | None:
        """Why somebody asked for a hold; None when nobody does."""
        with _readable(self._path):
            row = self._db.execute("SELECT reason FROM hold_requests WHERE promotion = ?", (promotion,)).fetchone()
        return None if row is None else str(row[0])

    def clear_hold_request(self, lease: Lease, promotion: int) -> None:
        """Forget the request: it was carried out, or the promotion was resumed."""
        with self._fenced(lease) as db:
            db.execute("DELETE FROM hold_requests WHERE promotion = ?", (promotion,))

    def approve(self, promotion: int, approval: Approval) -> None:
        """Write down that somebody agreed, or did not.

        Raises:
            ProjectError: The promotion is not open, or the token was used before.
        """
        with self._writing() as db:
            if not db.execute(_IS_OPEN, (promotion,)).fetchone():
                raise ProjectError(f"promotion {promotion} is not open", "See: tca status")
            used = db.execute("SELECT promotion FROM approvals WHERE token_id = ?", (approval.token_id,)).fetchone()
            if used is not None:
                raise ProjectError(f"this token has approved promotion {used[0]} already", "Ask for another token")
            db.execute(
                "INSERT INTO approvals (promotion, gate, agreed, who, how, token_id, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (promotion, approval.gate, *astuple(approval)[1:]),
            )

    def approvals(self, promotion: int) -> list[Approval]:
        """Every answer to the question whether to go on, in order."""
        with _readable(self._path):
            rows = self._db.execute(
                "SELECT gate, agreed, who, how, token_id, at FROM approvals WHERE promotion = ? ORDER BY id",
                (promotion,),
            ).fetchall()
        return [Approval(row[0], bool(row[1]), *row[2:]) for row in rows]

    def read(self, promotion: int) -> Entry:
        """One promotion. Raises ProjectError when there is none of that number."""
        rows = self._read_entries("WHERE id = ?", (promotion,))
        if not rows:
            raise ProjectError(f"there is no promotion {promotion}", "See: tca status")
        return rows[0]

    def open_entry(self) -> Entry | None:
        """The promotion that is not closed, if any; there is never more than one."""
        rows = self._read_entries("WHERE closed_at IS NULL", ())
        return rows[0] if rows else None

    def transitions(self, promotion: int) -> list[tuple[Position, str, str, float]]:
        """Position, event, reason and time of every transition, in order."""
        with _readable(self._path):
            rows = self._db.execute(
                "SELECT state, step, event, reason, at FROM transitions WHERE promotion = ? ORDER BY id", (promotion,)
            ).fetchall()
        return [(Position(State(row[0]), row[1]), row[2], row[3], row[4]) for row in rows]

    def effects(self, promotion: int) -> dict[str, str]:
        """Status of every effect, INTENT or DONE, in the order of their names."""
        with _readable(self._path):
            rows = self._db.execute(
                "SELECT name, status FROM effects WHERE promotion = ? ORDER BY name", (promotion,)
            ).fetchall()
        return dict(rows)

    def _read_entries(self, where: str, values: tuple[Any, ...]) -> list[Entry]:
        with _readable(self._path):
            rows = self._db.execute(
                "SELECT id, challenger_version, challenger_digest, champion_version, champion_digest, params, state, "
                f"step, held_state, held_step, sentence, opened_at, closed_at, abort_reason FROM promotions {where} "
                "ORDER BY id DESC",
                values,
            ).fetchall()
        return [_entry(row) for row in rows]

    @contextmanager
    def _fenced(self, lease: Lease) -> Iterator[sqlite3.Connection]:
        with self._writing() as db:
            row = db.execute("SELECT epoch, pid, host FROM lease").fetchone()
            if row is None or row[0] != lease.epoch:
                who = f"process {row[1]} on {row[2]}" if row else "nobody"
                raise Conflict(
                    f"the lease of epoch {lease.epoch} was taken over by {who}", "Nothing was changed; see: tca status"
                )
            yield db

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with _readable(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.rollback()
                raise
            self._db.commit()


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Open the journal at `path`, made on first use.

    Raises:
        OutsideError: It is damaged, or cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _readable(path), closing(_connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if (found := connection.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(found)
        connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        yield Journal(connection, path)


def _connect(path: Path) -> sqlite3.Connection:
    # An orchestrator may run a step in another thread than the one that opened the journal, though never two at once.
    return sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)


def latest_promotions(path: Path, limit: int) -> list[dict[str, Any]]:
    """The last promotions, newest first: id, versions, state, sentence, closed (bool), times; [] without a journal.

    Raises:
        OutsideError: The journal is damaged.
    """
    if not path.is_file():
        return []
    with _readable(path), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10.0)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'promotions'").fetchone():
            return []
        rows = connection.execute(
            "SELECT id, challenger_version, challenger_digest, champion_version, state, step, sentence, opened_at, "
            "closed_at FROM promotions ORDER BY id DESC LIMIT ?",
            (limit,),
        ).fetchall()
    names = ("id", "challenger", "challenger_digest", "champion", "state", "step", "sentence", "opened_at", "closed_at")
    return [{**dict(zip(names, row, strict=True)), "closed": row[8] is not None} for row in rows]


def _entry(row: tuple[Any, ...]) -> Entry:
    held = Position(State(row[8]), row[9]) if row[8] else None
    return Entry(
        id=row[0],
        challenger=(row[1], row[2]),
        champion=None if row[3] is None else (row[3], row[4]),
        params=row[5],
        position=Position(State(row[6]), row[7], held),
        sentence=row[10],
        opened_at=row[11],
        closed_at=row[12],
        abort_reason=row[13],
    )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OutsideError(
            f"the journal {path.name} cannot be used: {error}", f"Nothing was changed. Check disk and rights of {path}"
        ) from error
    except sqlite3.DatabaseError as error:
        raise OutsideError(
            f"the journal {path.name} is damaged: {error}",
            f"Traffic stays as it is. Restore {path} from a copy, or move it away to begin a new one",
        ) from error

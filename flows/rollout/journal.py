"""The journal of promotions: where each is, what was done, and on which verdict.

Every write is fenced: it happens in one transaction with a check that the lease still carries the writer's epoch, so
that a controller which slept past its lease changes nothing. An effect is written as INTENT before it is done and as
DONE after it was observed.

    database.py   the file, its transactions and its errors
    leases.py     who may write
    requests.py   what people ask of a promotion
    schema.py     the tables
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.errors import ProjectError
from flows.rollout.database import connected, connected_in_memory, connected_to_read
from flows.rollout.leases import Lease
from flows.rollout.requests import AbortRequested, Approval, RequestTable
from flows.rollout.states import TERMINAL, Event, Position, State

__all__ = ["AbortRequested", "Approval", "Entry", "Journal", "journal_in_memory", "latest_promotions", "open_journal"]

_BACKWARD = frozenset({Event.ABORT.value, Event.ROLL_BACK.value})
_SETTLED = frozenset({State.DRAIN_OLD.value, State.ROLLING_BACK.value})
"""From these a promotion goes on to its end, whoever asks for an abort."""


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


class Journal(RequestTable):
    """An open journal. Every method raises OutsideError when the file cannot be read or written."""

    def open_promotion(
        self,
        lease: Lease,
        challenger: tuple[str, str],
        champion: tuple[str, str] | None,
        params: str,
        now: float,
        above: int = 0,
    ) -> Entry:
        """Enter a new promotion in IDLE. Its number exceeds every earlier one, and `above`."""
        with self.fenced(lease) as db:
            last = db.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = 'promotions'").fetchone()[0]
            number = max(last or 0, above) + 1
            db.execute(
                "INSERT INTO promotions (id, challenger_version, challenger_digest, champion_version, champion_digest, "
                "params, state, step, sentence, opened_at) VALUES (?, ?, ?, ?, ?, ?, ?, 0, '', ?)",
                (number, *challenger, *(champion or (None, None)), params, State.IDLE, now),
            )
        return self.read(number)

    def move(self, lease: Lease, promotion: int, position: Position, event: str, reason: str, now: float) -> None:
        """Write a transition, with the last verdict as its ground; a terminal state closes the promotion.

        Raises:
            AbortRequested: Somebody asked for an abort first, or did not agree to it, and this is not the way back.
        """
        held = position.held_from
        closed_at = now if position.state in TERMINAL else None
        with self.fenced(lease) as db:
            state, abort_reason = db.execute(
                "SELECT state, abort_reason FROM promotions WHERE id = ?", (promotion,)
            ).fetchone()
            if abort_reason and event not in _BACKWARD and state not in _SETTLED:
                raise AbortRequested(abort_reason)
            if event == Event.ADVANCE and (refusal := _refusal(db, promotion, position)) is not None:
                raise AbortRequested(refusal)
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
        with self.fenced(lease) as db:
            db.execute("REPLACE INTO effects VALUES (?, ?, 'INTENT', ?, NULL)", (promotion, effect, now))

    def complete(self, lease: Lease, promotion: int, effect: str, now: float) -> None:
        """Write down that `effect` was observed to be done."""
        with self.fenced(lease) as db:
            db.execute(
                "UPDATE effects SET status = 'DONE', done_at = ? WHERE promotion = ? AND name = ?",
                (now, promotion, effect),
            )

    def save_verdict(self, lease: Lease, promotion: int, position: Position, body: str, now: float) -> None:
        """Keep a verdict; the transition that follows cites it."""
        with self.fenced(lease) as db:
            db.execute(
                "INSERT INTO verdicts (promotion, state, step, body, at) VALUES (?, ?, ?, ?, ?)",
                (promotion, position.state, position.step, body, now),
            )

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
        with self._reading() as db:
            rows = db.execute(
                "SELECT state, step, event, reason, at FROM transitions WHERE promotion = ? ORDER BY id", (promotion,)
            ).fetchall()
        return [(Position(State(row[0]), row[1]), row[2], row[3], row[4]) for row in rows]

    def effects(self, promotion: int) -> dict[str, str]:
        """Status of every effect, INTENT or DONE, in the order of their names."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT name, status FROM effects WHERE promotion = ? ORDER BY name", (promotion,)
            ).fetchall()
        return dict(rows)

    def _read_entries(self, where: str, values: tuple[Any, ...]) -> list[Entry]:
        with self._reading() as db:
            rows = db.execute(
                "SELECT id, challenger_version, challenger_digest, champion_version, champion_digest, params, state, "
                f"step, held_state, held_step, sentence, opened_at, closed_at, abort_reason FROM promotions {where} "
                "ORDER BY id DESC",
                values,
            ).fetchall()
        return [_entry(row) for row in rows]


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Open the journal at `path`, made on first use.

    Raises:
        OutsideError: It is damaged, or cannot be written.
    """
    with connected(path) as connection:
        yield Journal(connection, path)


@contextmanager
def journal_in_memory() -> Iterator[Journal]:
    """A journal that ends with the process, for simulations."""
    with connected_in_memory() as connection:
        yield Journal(connection, None)


def latest_promotions(path: Path, limit: int) -> list[dict[str, Any]]:
    """The last promotions, newest first: id, versions, state, sentence, closed (bool), times; [] without a journal.

    Raises:
        OutsideError: The journal is damaged.
    """
    if not path.is_file():
        return []
    with connected_to_read(path) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'promotions'").fetchone():
            return []
        rows = connection.execute(
            "SELECT id, challenger_version, challenger_digest, champion_version, state, step, sentence, opened_at, "
            "closed_at FROM promotions ORDER BY id DESC LIMIT ?",
            (limit,),
        ).fetchall()
    names = ("id", "challenger", "challenger_digest", "champion", "state", "step", "sentence", "opened_at", "closed_at")
    return [{**dict(zip(names, row, strict=True)), "closed": row[8] is not None} for row in rows]


def _refusal(db: sqlite3.Connection, promotion: int, position: Position) -> str | None:
    """Who does not agree that `position` is entered; it may have been said after the question was answered."""
    if position.step:
        return None  # asked is before the first step
    who = db.execute(
        "SELECT who FROM approvals WHERE promotion = ? AND gate = ? AND NOT agreed", (promotion, position.state)
    ).fetchone()
    return f"{who[0]} did not agree to {position.state}" if who else None


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

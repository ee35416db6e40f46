"""What people ask of a promotion that runs: to give it up, to hold it, to go on. Its controller carries it out."""

from __future__ import annotations

import sqlite3
from dataclasses import astuple, dataclass

from flows.errors import ProjectError
from flows.rollout.leases import Lease, LeaseTable
from flows.rollout.states import REVERSIBLE, State


class AbortRequested(Exception):
    """Somebody asked for an abort before the move was written; the move was not made."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


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


class RequestTable(LeaseTable):
    """Requests are written without the lease: that is what makes them requests."""

    def request_abort(self, promotion: int, reason: str) -> None:
        """Ask for an abort: whoever runs the promotion carries it out.

        Raises:
            ProjectError: It is not open, or past the point of no return.
        """
        with self._writing() as db:
            if _open_state(db, promotion) is State.DRAIN_OLD:
                raise ProjectError(
                    f"promotion {promotion} cannot be aborted any more: its version reigns already",
                    "Let it end, then go back with: tca rollback",
                )
            db.execute("UPDATE promotions SET abort_reason = ? WHERE id = ?", (reason, promotion))

    def request_hold(self, promotion: int, reason: str, now: float) -> None:
        """Ask for a hold: whoever runs the promotion carries it out.

        Raises:
            ProjectError: It is not open, or goes on to its end by now.
        """
        with self._writing() as db:
            if (state := _open_state(db, promotion)) not in REVERSIBLE:
                raise ProjectError(f"promotion {promotion} cannot be held any more: it is in {state}", _LET_IT_END)
            db.execute("REPLACE INTO hold_requests VALUES (?, ?, ?)", (promotion, reason, now))

    def hold_request(self, promotion: int) -> str | None:
        """Why somebody asked for a hold; None when nobody does."""
        with self._reading() as db:
            row = db.execute("SELECT reason FROM hold_requests WHERE promotion = ?", (promotion,)).fetchone()
        return None if row is None else str(row[0])

    def clear_hold_request(self, lease: Lease, promotion: int) -> None:
        """Forget the request: it was carried out, or the promotion was resumed."""
        with self.fenced(lease) as db:
            db.execute("DELETE FROM hold_requests WHERE promotion = ?", (promotion,))

    def approve(self, promotion: int, approval: Approval) -> None:
        """Write down that somebody agreed, or did not.

        Raises:
            ProjectError: The promotion is not open, or a refusal comes when it is past that gate, or the token was
                used before.
        """
        with self._writing() as db:
            state = _open_state(db, promotion)
            if not approval.agreed and not _is_before(state, approval.gate):  # an agreement too many does no harm
                text = f"promotion {promotion} is in {state}, where nobody is asked to agree any more"
                raise ProjectError(text, f"If it must not go on: tca promotion abort {promotion}")
            used = db.execute("SELECT promotion FROM approvals WHERE token_id = ?", (approval.token_id,)).fetchone()
            if used is not None:
                raise ProjectError(f"this token has approved promotion {used[0]} already", "Ask for another token")
            db.execute(
                "INSERT INTO approvals (promotion, gate, agreed, who, how, token_id, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (promotion, *astuple(approval)),
            )

    def approvals(self, promotion: int) -> list[Approval]:
        """Every answer to the question whether to go on, in order."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT gate, agreed, who, how, token_id, at FROM approvals WHERE promotion = ? ORDER BY id",
                (promotion,),
            ).fetchall()
        return [Approval(row[0], bool(row[1]), *row[2:]) for row in rows]


_LET_IT_END = "Let it end; a new champion goes with: tca rollback"
_WAY = list(State)


def _open_state(db: sqlite3.Connection, promotion: int) -> State:
    """Where it is; of one that is held, where that was."""
    row = db.execute(
        "SELECT coalesce(held_state, state) FROM promotions WHERE id = ? AND closed_at IS NULL", (promotion,)
    ).fetchone()
    if row is None:
        raise ProjectError(f"promotion {promotion} is not open", "See: tca status")
    return State(row[0])


def _is_before(state: State, gate: str) -> bool:
    return state in REVERSIBLE and _WAY.index(state) < _WAY.index(State(gate))

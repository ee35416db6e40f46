"""Agreement to a promotion: given from a shell, by a signed token, or in Prefect, where the waiting run is paused."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from flows.errors import InputError, ProjectError, TcaError
from flows.params import PromoteParams
from flows.prefect_pause import PausedRun
from flows.rollout.approvals import gate_of, told
from flows.rollout.chain import one_line
from flows.rollout.journal import Approval, Entry, open_journal
from flows.rollout.report import RolloutEvent
from flows.rollout.states import Route, State
from flows.rollout.tokens import check_token, new_claims, sign_token
from flows.settings import Project

KEY, TOKEN = "TCA_APPROVAL_KEY", "TCA_APPROVAL_TOKEN"


def approval_key() -> Path | None:
    """The file that TCA_APPROVAL_KEY names: a private key signs and checks, its public half only checks."""
    return Path(name) if (name := os.environ.get(KEY, "").strip()) else None


def approve_open(project: Project, number: int | None, who: str, agreed: bool = True) -> str:
    """Write down that a person agrees to the open promotion, or does not; the controller reads it at its next look.

    Returns:
        What was written down, for people.

    Raises:
        ProjectError: It is not open, or nobody is asked there.
        InputError: Nobody is named.
    """
    if not who.strip():
        raise InputError("nobody is named", "Say who agrees: --by NAME")
    return _write_down(project, number, lambda entry: (who, agreed, "cli", None))


def approve_by_token(project: Project, number: int | None, token: str) -> str:
    """As `approve_open`, for whoever the token names. Raises InputError when it is not genuine, or not about this."""

    def given(entry: Entry) -> tuple[str, bool, str, str | None]:
        claims = check_token(token, _require_key(), entry.challenger[1], entry.id, time.time())
        return claims.sub, True, "token", token

    return _write_down(project, number, given)


def make_token(project: Project, number: int | None, digest: str, who: str, valid_s: float) -> str:
    """A signed token for the challenger of `digest`, or else of the promotion `number`, or else of the open one.

    Raises:
        InputError: TCA_APPROVAL_KEY names no private key.
        ProjectError: There is no such promotion.
    """
    promotion = None
    if not digest:
        with open_journal(project.journal) as journal:
            entry = require_open(journal.open_entry(), number)
        digest, promotion = entry.challenger[1], entry.id
    return sign_token(_require_key(), new_claims(who, digest, promotion, time.time(), valid_s))


def read_duration_s(text: str) -> float:
    """Seconds of `90s`, `30m`, `1h` or `2d`. Raises InputError when it is none of these."""
    number, unit = text[:-1], text[-1:]
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(unit)
    if seconds is None or not number.isdecimal() or not int(number):
        raise InputError(f"{text!r} is no duration", "Expected a number with s, m, h or d, e.g. 1h")
    return float(int(number) * seconds)


def require_open(entry: Entry | None, number: int | None) -> Entry:
    """The open promotion. Raises ProjectError when it is not `number`, or there is none."""
    if entry is None or number not in (None, entry.id):
        state = "no promotion is open" if entry is None else f"the open one is promotion {entry.id}"
        text = state if number is None else f"promotion {number} is not open: {state}"
        raise ProjectError(text, "See: tca promotion list")
    return entry


class Questions:
    """Sees to it that people hear of a gate: in the terminal, and in Prefect, whose run is paused meanwhile.

    A token in TCA_APPROVAL_TOKEN answers at once. Whatever goes wrong here, the promotion goes on waiting for an answer
    from a shell.
    """

    def __init__(self, project: Project, say: Callable[[str], None]) -> None:
        self._project, self._say = project, say
        self._asked: set[tuple[int, str]] = set()
        self._pause: PausedRun | None = None

    def heed(self, event: RolloutEvent) -> None:
        """Ask where the event says that somebody must agree; take the question back where it does not."""
        if not event.awaits:
            self.close()
            return
        if (event.promotion, event.awaits) not in self._asked:
            self._asked.add((event.promotion, event.awaits))
            self._ask(event.promotion, event.awaits)
        if self._pause is not None and (answer := self._pause.answer()) is not None:
            self._pause = None
            given = (answer.by.strip() or "somebody", answer.agree, "prefect", None)
            self._try(lambda: _write_down(self._project, event.promotion, lambda entry: given))

    def close(self) -> None:
        """Take the question back, if it still stands."""
        if self._pause is not None:
            self._pause.end()
            self._pause = None

    def _ask(self, promotion: int, gate: str) -> None:
        self._say(f"may it go on to {gate}? Answer with: tca promotion approve {promotion} [--refuse]")
        token = os.environ.get(TOKEN, "").strip()
        if token and self._try(lambda: approve_by_token(self._project, promotion, token)):
            return
        question = f"May promotion {promotion} go on to {gate}? Its evidence: tca promotion show {promotion}"
        self._pause = PausedRun.ask(f"promotion-{promotion}-{gate.lower()}", question, self._say)

    def _try(self, approve: Callable[[], str]) -> bool:
        try:
            self._say(approve())
        except TcaError as error:
            self._say(f"this answer does not count: {error}")
            return False
        return True


def _write_down(
    project: Project, number: int | None, given: Callable[[Entry], tuple[str, bool, str, str | None]]
) -> str:
    with open_journal(project.journal) as journal:
        entry = require_open(journal.open_entry(), number)
        who, agreed, how, token = given(entry)
        answer = Approval(_require_gate(entry), agreed, one_line(who), how, token, time.time())
        journal.approve(entry.id, answer)
    return f"promotion {entry.id}: {told(answer)}"


def _require_gate(entry: Entry) -> State:
    params = PromoteParams.model_validate_json(entry.params)
    gate = gate_of(Route(len(params.canary_steps), entry.champion is not None), params)
    if gate is None:
        raise ProjectError(
            f"promotion {entry.id} asks nobody: it began with promote.approval: none",
            "For the next one: tca promote -S promote.approval=promoting",
        )
    return gate


def _require_key() -> Path:
    key = approval_key()
    if key is None:
        raise InputError(f"{KEY} in the environment names no key", "Make a pair: tca promotion key FILE")
    return key

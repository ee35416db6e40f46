"""The record of a promotion: JSON lines, each chained to the one before by its hash, enough to judge anew.

Every line holds `n`, `prev` (hash of the line before), `at`, `kind`, `state`, `sentence` and `hash`. Kinds:

    opened      number, challenger, champion, params, version of the rules; a note, such as that it is a drill
    state       a transition: event, step, position left, reason; event "restart": where the next controller took over
    effect      something done to the world and observed
    evidence    frames judged since the last such line (rows of `Sample`) and the counts that go with them
    verdict     the situation, and the verdict that followed from all evidence so far
    asked       the gate at which somebody was asked to agree
    approval    who answered, what, and by which way; with the token where it was one
    held        as it was left, to be resumed
    closed      the outcome

`verify_record` checks the chain, follows the promotion through its lines, and recomputes every verdict from the
evidence before it. With the journal beside it, it also finds lines that were cut off at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.errors import InputError, ProjectError
from flows.rollout.chain import Record, check_chain, one_line, read_record
from flows.rollout.replay import Replay, replay_record
from flows.rollout.tokens import Claims
from flows.rollout.walk import JournalView, Walk, compare_with_journal

__all__ = ["JournalView", "Record", "Verification", "read_record", "replay_record", "verify_record"]

CheckToken = Callable[[str, str, int, float], Claims]
"""Token, digest of the challenger, promotion, time in seconds since the epoch; raises InputError."""


@dataclass(frozen=True)
class Verification:
    """What came of checking a record. `problem` names the first line that does not hold."""

    num_lines: int
    num_verdicts: int
    problem: str | None
    num_transitions: int = 0
    num_approvals: int = 0
    unchecked: tuple[str, ...] = ()
    """What could not be checked, and why."""

    @property
    def passed(self) -> bool:
        """Whether chain, verdicts, transitions and approvals hold."""
        return self.problem is None


def verify_record(
    path: Path, journal: JournalView | None = None, check_token: CheckToken | None = None
) -> Verification:
    """Check a record as far as it goes; with the journal and the key of the tokens, altogether."""
    try:
        lines = read_record(path)
    except ProjectError as error:
        return Verification(0, 0, error.message)
    audit = _Audit(path, check_token)
    problem = check_chain(lines) or audit.follow(lines)
    if problem is None and journal is not None:
        problem = compare_with_journal(lines[0], audit.walk, journal)
    return Verification(
        num_lines=len(lines),
        num_verdicts=audit.num_verdicts,
        problem=problem,
        num_transitions=len(audit.walk.transitions),
        num_approvals=len(audit.walk.approvals),
        unchecked=tuple(audit.unchecked(journal)),
    )


class _Audit:
    """Goes through the lines once, and stops at the first that does not hold."""

    def __init__(self, path: Path, check_token: CheckToken | None) -> None:
        self.walk, self.num_verdicts = Walk(), 0
        self._replay, self._check_token = Replay(), check_token
        self._promotion, self._digest = int(path.stem) if path.stem.isdecimal() else 0, ""
        self._num_unsigned = 0

    def follow(self, lines: list[dict[str, Any]]) -> str | None:
        for number, line in enumerate(lines):
            try:
                self._take(line)
            except InputError as error:
                return f"line {number + 1}: {error.message}"
            except (KeyError, TypeError, ValueError) as error:
                return f"line {number + 1}: {error}"
        return None

    def unchecked(self, journal: JournalView | None) -> list[str]:
        found = [] if journal else ["whether the end was cut off, for there is no journal of it"]
        if self._num_unsigned:
            found.append(f"the signatures of {self._num_unsigned} tokens, for TCA_APPROVAL_KEY names no key")
        return found

    def _take(self, line: dict[str, Any]) -> None:
        self._replay.take(line)
        match line["kind"]:
            case "opened":
                self._digest = line["challenger"][1]
                self._replay.require_same_rules()
                if line.get("promotion", self._promotion) != self._promotion:
                    raise ValueError(f"it is the record of promotion {line['promotion']}, not of {self._promotion}")
            case "verdict":
                self.num_verdicts += 1
                self._replay.judge_again(line)
            case "approval":
                self._check_approval(line)
        self.walk.take(line, self._replay)

    def _check_approval(self, line: dict[str, Any]) -> None:
        if line["how"] != "token":
            return
        if self._check_token is None:
            self._num_unsigned += 1
        else:
            claims = self._check_token(line["token"], self._digest, self._promotion, line["given_at"])
            if (one_line(claims.sub), True) != (line["who"], line["agreed"]):
                raise ValueError(f"the token is an agreement of {claims.sub}, not an answer of {line['who']}")

"""What a promotion's record says to those who wait for it: go on, go back, hold, or wait.

Only the record is read, never the journal: it may lie on a volume that another machine writes to.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.errors import InputError, ProjectError
from flows.rollout.record import read_record, verify_record
from flows.rollout.states import JUDGED, State

LATEST = "latest"
Word = Literal["advance", "rollback", "hold", "wait"]
PromotionOutcome = Literal["running", "held", "promoted", "rolled_back", "aborted"]


class VerdictAnswer(BaseModel):
    """What is known of a promotion by now."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    promotion: int = Field(description="number of the promotion")
    challenger_version: str = Field(description="registered version that is judged")
    challenger_digest: str = Field(description="its pinned digest")
    champion_version: str | None = Field(description="version that reigned; null for a first champion")
    verdict: Word = Field(description="advance: `past` lies behind it; rollback; hold: somebody is needed; or wait")
    past: str = Field(description="the state that was asked about")
    state: str = Field(description="where the promotion is")
    outcome: PromotionOutcome = Field(description="running until it is held or has ended")
    reasons: tuple[str, ...] = Field(description="of the last verdict, or why the state was entered")
    num: int | None = Field(description="frames judged in the state, as of the last verdict in it")
    num_needed: int | None = Field(description="frames that the state needs at least")
    at: str = Field(description="time of the last line of the record, ISO-8601, UTC")


class Verdicts:
    """Reads the records of one project; what was verified once is not verified again until it has changed."""

    def __init__(self, records: Path) -> None:
        self._records = records
        self._verified: dict[Path, tuple[tuple[int, int], str | None]] = {}
        self._lock = threading.Lock()

    def answer(self, promotion: int | None, version: str | None = None, past: str = State.DONE) -> VerdictAnswer:
        """What the record of a promotion says.

        Args:
            promotion: Its number; None for the latest (of `version`).
            version: The challenger that is expected.
            past: The state that must lie behind it for "advance": SHADOW, CANARY-1 (its first step), BAKE, ... DONE.

        Raises:
            InputError: `past` is no state.
            ProjectError: There is no such promotion, it is about another version, or its record is damaged.
        """
        position = _position(past)
        number, lines = self._find(promotion, version)
        try:
            answer = _read(number, lines, past, position)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise _damaged(f"{number}.jsonl", error) from error
        if answer.verdict == "advance" and (problem := self._problem(self._records / f"{number}.jsonl")):
            # Who goes on relies on it: it must be what follows from its evidence.
            return answer.model_copy(update={"verdict": "hold", "reasons": (f"the record does not hold: {problem}",)})
        return answer

    def _find(self, promotion: int | None, version: str | None) -> tuple[int, list[dict[str, Any]]]:
        numbers = sorted((int(one.stem) for one in self._records.glob("*.jsonl") if one.stem.isdecimal()), reverse=True)
        of_version = f" of version {version}" if version else ""
        for number in numbers if promotion is None else [one for one in numbers if one == promotion]:
            path = self._records / f"{number}.jsonl"
            if version in (None, _challenger(path)) and (lines := _whole_lines(path)):
                return number, lines
        which = "any promotion" if promotion is None else f"promotion {promotion}"
        raise ProjectError(f"there is no record of {which}{of_version}", "See: tca promotion list")

    def _problem(self, path: Path) -> str | None:
        found = path.stat()
        stamp = found.st_size, found.st_mtime_ns
        with self._lock:
            known = self._verified.get(path)
            if known is None or known[0] != stamp:
                known = self._verified[path] = stamp, verify_record(path).problem
            return known[1]


@dataclass
class _Course:
    """Where the lines of a record lead, taken one after the other."""

    position: str
    """The one that is asked about."""
    state: State = State.IDLE
    step: int = 0
    reason: str = ""
    went_past: bool = False
    was_aborted: bool = False
    verdict: dict[str, Any] | None = None
    """The last one in the state."""

    def take(self, line: dict[str, Any]) -> None:
        if line["kind"] == "verdict":
            self.verdict = line["verdict"]
        elif line["kind"] == "state":
            self._move(State(line["state"]), int(line["step"]), line)

    def _move(self, state: State, step: int, line: dict[str, Any]) -> None:
        if line["event"] == "restart":
            # A controller that was killed may have written a move down and not made it: here is where the next begins.
            self.went_past &= line["left"] != self.position
            if (state, step) == (self.state, self.step):
                return
        self.went_past |= line["event"] == "advance" and line["left"] == self.position
        self.was_aborted |= line["event"] == "abort"
        self.state, self.step, self.reason, self.verdict = state, step, line["sentence"], None


def _read(number: int, lines: list[dict[str, Any]], past: str, position: str) -> VerdictAnswer:
    opened, course = lines[0], _Course(position, reason=lines[0]["sentence"])
    for line in lines:
        course.take(line)
    outcome = _outcome(course)
    went_past = course.state is State.DONE if position == State.DONE else course.went_past
    verdict = course.verdict if course.state in JUDGED else None
    return VerdictAnswer(
        promotion=number,
        challenger_version=opened["challenger"][0],
        challenger_digest=opened["challenger"][1],
        champion_version=opened["champion"][0] if opened["champion"] else None,
        verdict=_word(outcome, course.state, went_past),
        past=past,
        state=course.state.value,
        outcome=outcome,
        reasons=tuple(verdict["reasons"]) if verdict else (course.reason,),
        num=verdict["num"] if verdict else None,
        num_needed=verdict["num_needed"] if verdict else None,
        at=lines[-1]["at"],
    )


def _outcome(course: _Course) -> PromotionOutcome:
    if course.state is State.DONE:
        return "promoted"
    if course.state is State.ROLLED_BACK:
        return "aborted" if course.was_aborted else "rolled_back"
    return "held" if course.state is State.HOLD else "running"


def _word(outcome: PromotionOutcome, state: State, went_past: bool) -> Word:
    if state in (State.ROLLING_BACK, State.ROLLED_BACK):
        return "rollback"
    if outcome == "held":
        return "hold"
    return "advance" if went_past else "wait"


def _position(past: str) -> str:
    """As a record writes the position that was left."""
    name, dash, step = past.partition("-")
    if name == State.CANARY and step.isascii() and step.isdecimal() and int(step):
        return f"{name} step {int(step)}"
    states = [
        one.value for one in State if one not in (State.CANARY, State.HOLD, State.ROLLED_BACK, State.ROLLING_BACK)
    ]
    if dash or name not in states:
        raise InputError(
            f"{past} is no state that a promotion goes past", f"Expected {', '.join(states)} or CANARY-1, -2, ..."
        )
    return name


def _challenger(path: Path) -> str | None:
    """The version that a record is about, from its first line; None when it does not say."""
    try:
        with path.open("rb") as stream:
            return str(json.loads(stream.readline())["challenger"][0])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines that are there whole; the last may be in the making. Raises ProjectError when one is damaged."""
    try:
        return read_record(path)
    except (OSError, ValueError, ProjectError) as error:
        raise _damaged(path.name, error) from error


def _damaged(name: str, error: Exception) -> ProjectError:
    said = error.message if isinstance(error, ProjectError) else f"{type(error).__name__}: {error}"
    return ProjectError(f"the record {name} is damaged: {said}", "See: tca promotion verify")

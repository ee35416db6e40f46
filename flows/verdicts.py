"""What a promotion's record says to those who wait for it: go on, go back, hold, or wait.

Only the record is read, never the journal: it may lie on a volume that another machine writes to.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.errors import InputError, ProjectError
from flows.rollout.record import verify_record
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
        self._verified: dict[Path, tuple[int, str | None]] = {}
        self._lock = threading.Lock()

    def answer(self, promotion: int | None, version: str | None = None, past: str = State.DONE) -> VerdictAnswer:
        """What the record of a promotion says.

        Args:
            promotion: Its number; None for the latest (of `version`).
            version: The challenger that is expected.
            past: The state that must lie behind it for "advance": SHADOW, CANARY-1 (its first step), BAKE, ... DONE.

        Raises:
            InputError: `past` is no state.
            ProjectError: There is no such promotion, or it is about another version.
        """
        position = _position(past)
        number, lines = self._find(promotion, version)
        answer = _read(number, lines, past, position)
        if answer.verdict == "advance" and (problem := self._problem(self._records / f"{number}.jsonl")):
            # Who goes on relies on it: it must be what follows from its evidence.
            return answer.model_copy(update={"verdict": "hold", "reasons": (f"the record does not hold: {problem}",)})
        return answer

    def _find(self, promotion: int | None, version: str | None) -> tuple[int, list[dict[str, Any]]]:
        numbers = sorted((int(one.stem) for one in self._records.glob("*.jsonl") if one.stem.isdecimal()), reverse=True)
        of_version = f" of version {version}" if version else ""
        for number in numbers if promotion is None else [one for one in numbers if one == promotion]:
            lines = _whole_lines(self._records / f"{number}.jsonl")
            if lines and (version is None or lines[0]["challenger"][0] == version):
                return number, lines
        which = "any promotion" if promotion is None else f"promotion {promotion}"
        raise ProjectError(f"there is no record of {which}{of_version}", "See: tca promotion list")

    def _problem(self, path: Path) -> str | None:
        size = path.stat().st_size
        with self._lock:
            if self._verified.get(path, (-1, None))[0] != size:
                self._verified[path] = size, verify_record(path).problem
            return self._verified[path][1]


def _read(number: int, lines: list[dict[str, Any]], past: str, position: str) -> VerdictAnswer:
    opened, moves = lines[0], [line for line in lines if line["kind"] == "state" and line.get("event") != "restart"]
    state = State(moves[-1]["state"]) if moves else State.IDLE
    outcome = _outcome(state, [line["event"] for line in moves])
    went_past = position == State.DONE and state is State.DONE
    went_past |= any(line["event"] == "advance" and line.get("left") == position for line in moves)
    judged = [line for line in lines[lines.index(moves[-1]) :] if line["kind"] == "verdict"] if moves else []
    verdict = judged[-1]["verdict"] if judged and state in JUDGED else None
    return VerdictAnswer(
        promotion=number,
        challenger_version=opened["challenger"][0],
        challenger_digest=opened["challenger"][1],
        champion_version=opened["champion"][0] if opened["champion"] else None,
        verdict=_word(outcome, state, went_past),
        past=past,
        state=state.value,
        outcome=outcome,
        reasons=tuple(verdict["reasons"]) if verdict else ((moves or lines)[-1]["sentence"],),
        num=verdict["num"] if verdict else None,
        num_needed=verdict["num_needed"] if verdict else None,
        at=lines[-1]["at"],
    )


def _outcome(state: State, events: list[str]) -> PromotionOutcome:
    if state is State.DONE:
        return "promoted"
    if state is State.ROLLED_BACK:
        return "aborted" if "abort" in events else "rolled_back"
    return "held" if state is State.HOLD else "running"


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


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines that are there whole; the last may be in the making. Raises ProjectError when one is damaged."""
    content = path.read_bytes()
    try:
        return [dict(json.loads(line)) for line in content[: content.rfind(b"\n") + 1].splitlines()]
    except (ValueError, TypeError) as error:
        raise ProjectError(f"the record {path.name} is damaged: {error}", "See: tca promotion verify") from error

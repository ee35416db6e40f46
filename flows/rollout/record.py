"""The record of a promotion: JSON lines, each chained to the one before by its hash, enough to judge anew.

Every line holds `n`, `prev` (hash of the line before), `at`, `kind`, `state`, `sentence` and `hash`. Kinds:

    opened      challenger, champion, params
    state       a transition: event, step, reason
    effect      something done to the world and observed
    evidence    frames judged since the last such line (rows of `Sample`) and the counts that go with them
    verdict     the situation, and the verdict that followed from all evidence so far
    closed      the outcome

`verify_record` checks the chain, feeds the evidence lines to the same functions again and compares every verdict.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.errors import Conflict, OutsideError, ProjectError
from flows.params import PromoteParams
from flows.rollout.evidence import Evidence, add_samples, enter_state, no_evidence
from flows.rollout.judge import Situation, Verdict, judge
from flows.rollout.observations import Sample
from flows.rollout.states import JUDGED, Position, State

COUNTS = (
    "cursor",
    "frames",
    "fallbacks",
    "lost",
    "dropped",
    "frames_in_state",
    "unusable_in_state",
    "failures_in_row",
    "champion_failures_in_row",
)
"""Fields of Evidence that are counted over all frames, not only over those judged."""
_FIRST = "0" * 64
_LN_E_TOLERANCE = 1e-6


class Record:
    """A record open for appending."""

    def __init__(self, path: Path) -> None:
        """Go on with the record at `path`; half a last line, left by a crash, is cut off.

        Raises:
            OutsideError: It cannot be read or written.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = _cut_torn_line(path)
        except OSError as error:
            raise _unwritable(path, error) from error
        self._num, self._hash = len(whole), (_hash_of(whole[-1]) if whole else _FIRST)
        self._size = sum(len(line) + 1 for line in whole)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was recorded yet."""
        return self._num == 0

    def append(self, kind: str, state: str, sentence: str, at: float, **content: Any) -> None:
        """Write a line and have it on disk before returning.

        Raises:
            Conflict: Somebody else has written to it meanwhile.
            OutsideError: It cannot be written.
        """
        when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "n": self._num,
            "prev": self._hash,
            "at": when,
            "kind": kind,
            "state": state,
            "sentence": sentence,
        }
        line |= content
        line["hash"] = _digest(line)
        try:
            self._size = self._write(_canonical(line) + b"\n")
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._num, self._hash = self._num + 1, line["hash"]

    def _write(self, line: bytes) -> int:
        with self.path.open("ab") as sink:
            fcntl.flock(sink, fcntl.LOCK_EX)
            if os.fstat(sink.fileno()).st_size != self._size:
                raise Conflict(f"somebody else writes the record {self.path.name}", "See: tca status")
            sink.write(line)
            sink.flush()
            os.fsync(sink.fileno())
        return self._size + len(line)


@dataclass(frozen=True)
class Verification:
    """What came of checking a record. `problem` names the first line that does not hold."""

    num_lines: int
    num_verdicts: int
    problem: str | None

    @property
    def passed(self) -> bool:
        """Whether chain and verdicts hold."""
        return self.problem is None


def read_record(path: Path) -> list[dict[str, Any]]:
    """The lines of a record. Raises ProjectError when there is none, or a line is not JSON."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ProjectError(f"there is no record {path.name}", "See: tca status") from None
    lines = []
    for number, line in enumerate(text.splitlines()):
        try:
            lines.append(dict(json.loads(line)))
        except (ValueError, TypeError):
            raise ProjectError(f"{path.name}:{number + 1} is not a line of a record") from None
    return lines


def verify_record(path: Path) -> Verification:
    """Check the chain of hashes, and recompute every verdict from the evidence lines before it."""
    try:
        lines = read_record(path)
    except ProjectError as error:
        return Verification(0, 0, error.message)
    problem = _check_chain(lines)
    num_verdicts = 0
    if problem is None:
        num_verdicts, problem = _check_verdicts(lines)
    return Verification(len(lines), num_verdicts, problem)


def _check_chain(lines: list[dict[str, Any]]) -> str | None:
    expected = _FIRST
    for number, line in enumerate(lines):
        body = {key: value for key, value in line.items() if key != "hash"}
        if line.get("n") != number or line.get("prev") != expected or line.get("hash") != _digest(body):
            return f"line {number + 1}: the chain is broken here; this line or the one before was changed"
        expected = line["hash"]
    return None if lines else "the record is empty"


def _check_verdicts(lines: list[dict[str, Any]]) -> tuple[int, str | None]:
    replay = Replay()
    num_verdicts = 0
    for number, line in enumerate(lines):
        try:
            replay.take(line)
            if line["kind"] == "verdict":
                num_verdicts += 1
                replay.judge_again(line)
        except (KeyError, TypeError, ValueError) as error:
            return num_verdicts, f"line {number + 1}: {error}"
    return num_verdicts, None


class Replay:
    """The evidence as it was after each line of a record."""

    def __init__(self) -> None:
        self._params: PromoteParams | None = None
        self._evidence: Evidence | None = None

    @property
    def evidence(self) -> Evidence:
        """What is known by now. Raises ValueError before the line that opens the record."""
        if self._evidence is None:
            raise ValueError("the record does not begin with a line of kind opened")
        return self._evidence

    def take(self, line: dict[str, Any]) -> None:
        """Take the next line in. Raises KeyError, TypeError or ValueError when it is not one."""
        if line["kind"] == "opened":
            self._params = PromoteParams.model_validate(line["params"])
            self._evidence = no_evidence(self._params)
        elif line["kind"] == "state":
            self._evidence = enter_state(self.evidence)
        elif line["kind"] == "evidence":
            counted = self.evidence.model_copy(update={name: line["counts"][name] for name in COUNTS})
            samples = [Sample(*row) for row in line["samples"]]
            assert self._params is not None  # set together with the evidence
            self._evidence = add_samples(counted, samples, line["mode"], self._params)

    def judge_again(self, line: dict[str, Any]) -> None:
        """Raises ValueError when the verdict in `line` is not what follows from the evidence."""
        position = Position(State(line["state"]), line["step"])
        if position.state not in JUDGED or self._params is None:
            raise ValueError(f"there can be no verdict in {position}")
        found = judge(self.evidence, self._params, position, Situation(**line["situation"]))
        written = Verdict.model_validate(line["verdict"])
        if (found.decision, found.num) != (written.decision, written.num):
            raise ValueError(f"the verdict says {written.decision}, computed anew it is {found.decision}")
        for ours, theirs in zip(found.figures, written.figures, strict=True):
            if ours.metric != theirs.metric or abs(ours.ln_e - theirs.ln_e) > _LN_E_TOLERANCE:
                raise ValueError(f"{theirs.metric}: ln e is {ours.ln_e:.6f} computed anew, not {theirs.ln_e:.6f}")


def replay_record(path: Path) -> Evidence:
    """The evidence that a record holds. Raises ProjectError when the record is damaged."""
    replay = Replay()
    for number, line in enumerate(read_record(path)):
        try:
            replay.take(line)
        except (KeyError, TypeError, ValueError) as error:
            raise ProjectError(
                f"{path.name}:{number + 1} is not a line of a record: {error}",
                "Restore the file, or give the promotion up: tca promotion abort",
            ) from None
    return replay.evidence


def evidence_line(before: Evidence, after: Evidence, samples: tuple[Sample, ...], mode: str) -> dict[str, Any]:
    """The content of an evidence line; empty when nothing new was seen."""
    counts = {name: getattr(after, name) for name in COUNTS}
    if not samples and all(getattr(before, name) == value for name, value in counts.items() if name != "cursor"):
        return {}
    return {"mode": mode, "counts": counts, "samples": [sample.row() for sample in samples]}


def _cut_torn_line(path: Path) -> list[bytes]:
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with path.open("r+b") as sink:
            sink.truncate(len(whole))
            os.fsync(sink.fileno())
    return whole.split(b"\n")[:-1]


def _hash_of(line: bytes) -> str:
    try:
        return str(json.loads(line)["hash"])
    except (ValueError, KeyError, TypeError):
        return "unreadable"


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(_canonical(body)).hexdigest()


def _canonical(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def _unwritable(path: Path, error: OSError) -> OutsideError:
    reason = error.strerror or str(error)
    return OutsideError(f"the record {path.name} cannot be written: {reason}", "No further step was taken")

"""The evidence as it was after each line of a record, by the same functions that judged it live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.errors import ProjectError
from flows.params import PromoteParams
from flows.rollout.chain import read_record
from flows.rollout.evidence import Evidence, Figure, add_samples, enter_state, no_evidence
from flows.rollout.judge import RULES, Situation, Verdict, judge
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
_LN_E_TOLERANCE = 1e-6
_DAMAGED = "Restore the file, or give the promotion up: tca promotion abort"


class Replay:
    """The evidence as it was after each line of a record."""

    def __init__(self) -> None:
        self._params: PromoteParams | None = None
        self._evidence: Evidence | None = None
        self.rules = RULES
        self.harm: tuple[str, ...] = ()
        """Reasons of a verdict to roll back, once there is one; nothing that is seen later takes it back."""

    @property
    def evidence(self) -> Evidence:
        """What is known by now. Raises ValueError before the line that opens the record."""
        if self._evidence is None:
            raise ValueError("the record does not begin with a line of kind opened")
        return self._evidence

    @property
    def params(self) -> PromoteParams:
        """What it is judged by. Raises ValueError before the line that opens the record."""
        if self._params is None:
            raise ValueError("the record does not begin with a line of kind opened")
        return self._params

    def take(self, line: dict[str, Any]) -> None:
        """Take the next line in. Raises KeyError, TypeError or ValueError when it is not one."""
        match line["kind"]:
            case "opened":
                self.rules = int(line.get("rules", RULES))
                self._params = PromoteParams.model_validate(line["params"])
                self._evidence = no_evidence(self._params)
            case "state":
                self._evidence = enter_state(self.evidence)
            case "evidence":
                counted = self.evidence.model_copy(update={name: line["counts"][name] for name in COUNTS})
                samples = [Sample(*row) for row in line["samples"]]
                self._evidence = add_samples(counted, samples, line["mode"], self.params)
            case "verdict":
                verdict = line["verdict"]
                self.harm = self.harm or (tuple(verdict["reasons"]) if verdict["decision"] == "rollback" else ())

    def require_same_rules(self) -> None:
        """Raises ValueError when it was judged by the rules of another version of the product."""
        if self.rules != RULES:
            raise ValueError(f"it was judged by rules {self.rules}, this version of tca has rules {RULES}")

    def judge_again(self, line: dict[str, Any]) -> None:
        """Raises ValueError when the verdict in `line` is not what follows from the evidence."""
        position = Position(State(line["state"]), line["step"])
        if position.state not in JUDGED:
            raise ValueError(f"there can be no verdict in {position}")
        found = judge(self.evidence, self.params, position, Situation(**line["situation"]))
        written = Verdict.model_validate(line["verdict"])
        if found.decision != written.decision:
            raise ValueError(f"the verdict says {written.decision}, computed anew it is {found.decision}")
        if (found.num, found.num_needed) != (written.num, written.num_needed):
            counts = [f"{one.num} of {one.num_needed}" for one in (written, found)]
            raise ValueError("the verdict says {} frames, computed anew it is {}".format(*counts))
        for ours, theirs in zip(found.figures, written.figures, strict=True):
            if ours.metric != theirs.metric or abs(ours.ln_e - theirs.ln_e) > _LN_E_TOLERANCE:
                raise ValueError(f"{theirs.metric}: ln e is {ours.ln_e:.6f} computed anew, not {theirs.ln_e:.6f}")
            if _read(ours) != _read(theirs):
                raise ValueError(f"{theirs.metric}: computed anew it reads {ours.text()}")


def _read(figure: Figure) -> tuple[int, float | None, float, float]:
    value = figure.value if figure.value is None else round(figure.value, 9)
    return figure.num, value, figure.limit, figure.needed_ln_e


def replay_record(path: Path) -> Replay:
    """Everything that a record holds. Raises ProjectError when the record is damaged."""
    replay, lines = Replay(), read_record(path)
    if not lines:
        raise ProjectError(f"the record {path.name} is empty", _DAMAGED)
    for number, line in enumerate(lines):
        try:
            replay.take(line)
        except (KeyError, TypeError, ValueError) as error:
            raise ProjectError(f"{path.name}:{number + 1} is not a line of a record: {error}", _DAMAGED) from None
    return replay


def evidence_line(before: Evidence, after: Evidence, samples: tuple[Sample, ...], mode: str) -> dict[str, Any]:
    """The content of an evidence line; empty when nothing new was seen."""
    counts = {name: getattr(after, name) for name in COUNTS}
    if not samples and all(getattr(before, name) == value for name, value in counts.items() if name != "cursor"):
        return {}
    return {"mode": mode, "counts": counts, "samples": [sample.row() for sample in samples]}

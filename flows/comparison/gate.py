"""The decision: promote, reject or inconclusive, from the states of the gates alone.

A failed gate rejects. A gate that cannot be told, because its interval is too wide or there is too little to judge,
makes the whole inconclusive: what is not proven is not promoted. `flows.comparison.demands` has the gates themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.comparison.slices import SliceFigure

Outcome = Literal["promote", "reject", "inconclusive"]
SliceState = Literal["non-inferior", "failed", "inconclusive", "insufficient"]
GateName = Literal["accuracy", "slices", "precision", "recall", "calibration", "latency"]
GateState = Literal["passed", "failed", "inconclusive", "insufficient", "not judged"]

WORST_FIRST: tuple[GateState, ...] = ("failed", "insufficient", "inconclusive", "passed")
"""States that count."""


class Gate(BaseModel):
    """One demand of params.yaml: a failed one rejects, one that cannot be told makes the whole inconclusive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: GateName = Field(description="what is demanded")
    state: GateState = Field(description="what the figures say; `not judged` neither counts nor stops")
    reason: str = Field(description="why, with its figures")


class JudgedSlice(BaseModel):
    """A part of the data with what the gate says of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    figure: SliceFigure = Field(description="the figures of the part")
    state: SliceState | None = Field(description="what the gate says of it; null: there is no champion to compare with")
    p_worse_holm: float | None = Field(description="p value corrected over all judged parts; null: not judged")


class Verdict(BaseModel):
    """What the gates decided and why, worst news first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Outcome = Field(description="promote, reject or inconclusive")
    reasons: tuple[str, ...] = Field(description="each with the figures that carried it")


def decide(gates: Sequence[Gate]) -> Verdict:
    """Decide from the states of the gates; what was not judged is named last.

    Raises:
        ValueError: No gate was judged: that is no ground for a decision.
    """
    states = {gate.state for gate in gates}
    judged = sorted((gate for gate in gates if gate.state in WORST_FIRST), key=lambda one: WORST_FIRST.index(one.state))
    if not judged:
        raise ValueError("no gate was judged")
    outcome: Outcome = "promote"
    if "failed" in states:
        outcome = "reject"
    elif states & {"inconclusive", "insufficient"}:
        outcome = "inconclusive"
    return Verdict(outcome=outcome, reasons=(*(gate.reason for gate in judged), *_not_judged(gates)))


def _not_judged(gates: Sequence[Gate]) -> list[str]:
    names: dict[str, list[str]] = {}
    for gate in gates:
        if gate.state == "not judged":
            names.setdefault(gate.reason, []).append(gate.name)
    return [f"not judged: {', '.join(gate_names)} ({reason})" for reason, gate_names in names.items()]

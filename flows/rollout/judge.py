"""The verdict on a challenger: advance, roll back, hold or wait, from evidence, params and the situation alone.

In this order:

1. A guard that needs no statistics: the challenger's process is gone, or it failed five frames in a row that the
   champion did not fail. Roll back.
2. An e-value for harm that reached its limit. Roll back.
3. The champion is gone or fails. Hold: there is nobody to compare with, and no reason to blame the challenger.
4. Everything that an advance needs is there. Advance.
5. The deadline of the state has passed. Hold; missing data never promotes. Before that: wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.params import PromoteParams
from flows.rollout.evidence import HIGHEST_LIMIT, Evidence, Figure, Tally, error_certificate, harm_figures
from flows.rollout.states import JUDGED, Position, State

RULES = 2
"""Rises when the same frames give other figures or another verdict; a record names the rules it was judged by."""
FAILURES_IN_ROW = 5
MAX_UNUSABLE_SHARE = 0.1
"""A tenth of the observations being unreadable is a fault of the telemetry: what is left may be a biased choice."""
LEANS_LN_E = 0.05
"""From here on, an e-value of 1.05, the frames so far speak for harm: nothing is proven, but nobody advances."""
Decision = Literal["advance", "rollback", "hold", "wait"]


@dataclass(frozen=True)
class Situation:
    """What is seen of the processes, and how long the state has lasted."""

    challenger_alive: bool
    champion_alive: bool
    waited_s: float


class Verdict(BaseModel):
    """A decision with its reasons; the first reason is the one that decided."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: Decision = Field(description="advance, rollback, hold or wait")
    reasons: tuple[str, ...] = Field(description="each with the figures that carried it")
    num: int = Field(description="frames judged in this state")
    num_needed: int = Field(description="frames this state needs at least")
    figures: tuple[Figure, ...] = Field(description="the e-values, those for harm first")


def frames_needed(position: Position, params: PromoteParams) -> int:
    """The least number of judged frames of a state."""
    needed = {
        State.SHADOW: params.shadow_frames,
        State.CANARY: params.canary_frames,
        State.BAKE: params.bake_frames,
    }
    return needed[position.state]


def judge(evidence: Evidence, params: PromoteParams, position: Position, situation: Situation) -> Verdict:
    """Judge a promotion in SHADOW, CANARY or BAKE. Pure: the same input gives the same verdict."""
    assert position.state in JUDGED, f"{position} is not judged"
    harm = harm_figures(evidence, params)
    certificate = error_certificate(evidence, params)
    decision, reasons = _decide(evidence, params, position, situation, harm, certificate)
    return Verdict(
        decision=decision,
        reasons=tuple(reasons),
        num=evidence.in_state,
        num_needed=frames_needed(position, params),
        figures=(*harm, certificate),
    )


def _decide(
    evidence: Evidence,
    params: PromoteParams,
    position: Position,
    situation: Situation,
    harm: tuple[Figure, ...],
    certificate: Figure,
) -> tuple[Decision, list[str]]:
    if reasons := [*_guards(evidence, situation), *(figure.text() for figure in harm if figure.decides)]:
        return "rollback", reasons
    if reasons := list(_champion_lost(evidence, position, situation)):
        return "hold", reasons
    lacking = list(_lacking(evidence, params, position, harm, certificate))
    if not lacking:
        return "advance", [f"{evidence.in_state} frames judged", *(figure.text() for figure in harm if figure.num)]
    if situation.waited_s >= params.state_deadline_s:
        return "hold", [f"no verdict within {params.state_deadline_s:g} s: {lacking[0]}", *lacking[1:]]
    return "wait", lacking


def _guards(evidence: Evidence, situation: Situation) -> Iterator[str]:
    if not situation.challenger_alive:
        yield "the challenger's process is gone"
    if evidence.failures_in_row >= FAILURES_IN_ROW:
        yield f"the challenger failed {evidence.failures_in_row} frames in a row that the champion did not fail"


def _champion_lost(evidence: Evidence, position: Position, situation: Situation) -> Iterator[str]:
    old = "old champion" if position.state is State.BAKE else "champion"
    if not situation.champion_alive:
        yield f"the {old}'s process is gone: nothing to compare with or to fall back on"
    elif evidence.champion_failures_in_row >= FAILURES_IN_ROW:
        yield f"the {old} failed {evidence.champion_failures_in_row} frames in a row"


def _lacking(
    evidence: Evidence, params: PromoteParams, position: Position, harm: tuple[Figure, ...], certificate: Figure
) -> Iterator[str]:
    """What still stands against an advance."""
    needed = frames_needed(position, params)
    if evidence.in_state < needed:
        yield f"{evidence.in_state} of {needed} frames judged"
    if evidence.unusable_in_state > MAX_UNUSABLE_SHARE * evidence.frames_in_state:
        yield f"{evidence.unusable_in_state} of {evidence.frames_in_state} observations are incomplete or malformed"
    bakes = position.state is State.BAKE
    yield from _lacking_in_bake(evidence, harm) if bakes else _lacking_in_pairs(evidence, params)
    for figure in harm:
        if figure.metric.startswith("bake") == bakes and figure.ln_e >= LEANS_LN_E:
            yield f"it leans to harm: {figure.text()}"
    if position == Position(State.CANARY, len(params.canary_steps) - 1) and not certificate.decides:
        yield certificate.text()


def _lacking_in_pairs(evidence: Evidence, params: PromoteParams) -> Iterator[str]:
    errors, agreement = evidence.errors, evidence.agreement
    if _exceeds(errors, params.max_error_share):
        yield f"errors: {errors.share:.1%} of {errors.trials}, over {params.max_error_share:.1%}"
    if (mean := agreement.mean_in_state) is None:
        yield "no frame on which both answered"
    elif mean < params.min_agreement:
        yield f"agreement: mean {mean:.3f} over {agreement.in_state} pairs is below {params.min_agreement:.3f}"


def _lacking_in_bake(evidence: Evidence, harm: tuple[Figure, ...]) -> Iterator[str]:
    limits = {figure.metric: figure.limit for figure in harm}
    for name, tally, limit in (
        ("errors", evidence.bake_errors, limits["bake errors"]),
        ("slow frames", evidence.bake_slow, limits["bake latency"]),
    ):
        if limit < HIGHEST_LIMIT and _exceeds(tally, limit):
            yield f"{name}: {tally.share:.1%} of {tally.trials}, over {limit:.1%}"


def _exceeds(tally: Tally, limit: float) -> bool:
    return tally.share is not None and tally.share > limit

"""The decision: promote, reject or inconclusive, from figures and params alone.

Without a champion the challenger's mAP50-95 must reach an absolute floor. Against a champion:

- overall, the challenger must be non-inferior: the lower one-sided 1 - alpha bound of the mAP50-95 difference is
  above -margin. Its upper bound below -margin proves it inferior: reject. In between: inconclusive.
- in a part of the data (slice word, camera, class, object size) the challenger fails if its figure fell by more than
  slice_margin *and* it is proven worse there, with Holm's correction over all parts, because claiming that some part
  of many got worse is a multiple claim. One failed part rejects.
- a part whose interval is too wide to tell is named as inconclusive, one with too few objects or units as insufficient;
  neither is counted as passed, and neither stops a promotion: shadow and canary traffic still judge it.
- too few units overall: inconclusive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.comparison.resampling import Estimate, holm, short
from flows.comparison.slices import SliceFigure
from flows.params import EvaluateParams

Outcome = Literal["promote", "reject", "inconclusive"]
SliceState = Literal["non-inferior", "failed", "inconclusive", "insufficient"]


class JudgedSlice(BaseModel):
    """A part of the data with what the gate says of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    figure: SliceFigure = Field(description="the figures of the part")
    state: SliceState | None = Field(description="what the gate says of it; null: there is no champion to compare with")
    p_worse_holm: float | None = Field(description="p value corrected over all judged parts; null: not judged")


class Verdict(BaseModel):
    """What the gate decided and why, worst news first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Outcome = Field(description="promote, reject or inconclusive")
    reasons: tuple[str, ...] = Field(description="each with the figures that carried it")


def judge_slices(figures: Sequence[SliceFigure], params: EvaluateParams) -> tuple[JudgedSlice, ...]:
    """Give every part its state; those with enough objects and units share one Holm correction."""
    sufficient = [index for index, figure in enumerate(figures) if _is_sufficient(figure, params)]
    corrected = dict(zip(sufficient, holm([figures[index].p_worse or 0.0 for index in sufficient]), strict=True))
    return tuple(
        JudgedSlice(
            figure=figure, state=_state(figure, corrected.get(index), params), p_worse_holm=corrected.get(index)
        )
        for index, figure in enumerate(figures)
    )


def decide(
    challenger: Estimate, difference: Estimate | None, slices: Sequence[JudgedSlice], params: EvaluateParams
) -> Verdict:
    """Decide from the challenger's mAP50-95, its paired difference to the champion and the judged parts."""
    if difference is None:
        return _against_floor(challenger, params)
    overall = _overall(difference, params)
    failed = [_slice_reason(one, params) for one in slices if one.state == "failed"]
    notes = _notes(slices)
    if failed:
        return Verdict(outcome="reject", reasons=(*failed, *overall.reasons, *notes))
    return Verdict(outcome=overall.outcome, reasons=(*overall.reasons, *notes))


def _against_floor(challenger: Estimate, params: EvaluateParams) -> Verdict:
    floor = params.min_map50_95
    if challenger.value is None:
        return Verdict(outcome="inconclusive", reasons=("the frozen frames hold no object: mAP50-95 is not defined",))
    reached = challenger.value >= floor
    relation = "reaches" if reached else "is below"
    reason = f"no champion yet, and {short(challenger.value)} {relation} the floor {short(floor)}"
    return Verdict(outcome="promote" if reached else "reject", reasons=(reason,))


def _overall(difference: Estimate, params: EvaluateParams) -> Verdict:
    margin = params.margin
    units = f"over {difference.num_units} {params.unit}s"
    if difference.lower is None or difference.upper is None:
        hint = "set evaluate.unit to clip, or add cameras" if params.unit == "camera" else "add clips"
        reason = f"difference to the champion {short(difference.value, signed=True)} {units}: insufficient clusters, "
        reason += f"at least {params.min_units} {params.unit}s are needed; {hint}"
        return Verdict(outcome="inconclusive", reasons=(reason,))
    figure = f"difference to the champion {difference.text(signed=True)} {units}"
    if difference.lower > -margin:
        better = "better" if difference.lower > 0 else f"not worse by more than {short(margin)}"
        return Verdict(outcome="promote", reasons=(f"{figure}: {better}",))
    if difference.upper < -margin:
        return Verdict(outcome="reject", reasons=(f"{figure}: worse by more than {short(margin)}",))
    reason = f"{figure}: may be worse by more than {short(margin)}; more frames would tell"
    return Verdict(outcome="inconclusive", reasons=(reason,))


def _is_sufficient(figure: SliceFigure, params: EvaluateParams) -> bool:
    return figure.num_objects >= params.min_objects_per_slice and figure.p_worse is not None


def _state(figure: SliceFigure, p_holm: float | None, params: EvaluateParams) -> SliceState | None:
    difference = figure.difference
    if difference is None:
        return None
    if p_holm is None or difference.value is None or difference.lower is None:
        return "insufficient"
    if difference.value < -params.slice_margin and p_holm < params.alpha:
        return "failed"
    return "non-inferior" if difference.lower > -params.slice_margin else "inconclusive"


def _slice_reason(slice_: JudgedSlice, params: EvaluateParams) -> str:
    figure = slice_.figure
    assert figure.difference is not None
    return (
        f"{figure.kind} {figure.name} is worse by more than {short(params.slice_margin)}: difference "
        f"{figure.difference.text(signed=True)}, {figure.num_objects} objects, corrected p {slice_.p_worse_holm:.2g}"
    )


def _notes(slices: Sequence[JudgedSlice]) -> list[str]:
    notes = []
    meanings = {"inconclusive": "interval too wide to tell", "insufficient": "too few objects or units to judge"}
    for state, meaning in meanings.items():
        named = [f"{one.figure.kind} {one.figure.name}" for one in slices if one.state == state]
        if named:
            notes.append(f"{state} ({meaning}): {', '.join(named)}")
    return notes

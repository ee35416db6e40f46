"""What params.yaml demands of a challenger, a gate each.

- accuracy: without a champion mAP50-95 must reach an absolute floor. Against a champion the lower one-sided 1 - alpha
  bound of the paired difference must be above -margin (goal non-inferior), or above +margin (goal superior). The upper
  bound below that line proves the contrary: failed. In between: inconclusive.
- slices: every part (slice word, camera, class, object size) that can be judged must be non-inferior by slice_margin.
  Demanding it of *every* part needs no correction: each part can only stop. *Claiming* that some part of many got worse
  does: a part fails if its figure fell by more than slice_margin and it is proven worse after Holm. slice_rule
  `not-worse` demands only that no part fails. Parts with too few objects or units are named; `insufficient: stop`
  makes them stop.
- precision, recall, calibration (overconfidence): at the served confidence, paired, over the same units; not worse by
  more than their margin.
- latency: the exported engine, one frame at a time: 95th percentile within a limit, and not slower than the champion's
  by more than a factor.
"""

from __future__ import annotations

from collections.abc import Sequence

from flows.comparison.engine_latency import EngineLatency
from flows.comparison.gate import WORST_FIRST, Gate, GateName, GateState, JudgedSlice, SliceState
from flows.comparison.report import Figures
from flows.comparison.resampling import Estimate, holm, short
from flows.comparison.slices import SliceFigure
from flows.params import EvaluateParams

_NO_CHAMPION = "there is no champion to compare with"


def judge_slices(figures: Sequence[SliceFigure], params: EvaluateParams) -> tuple[JudgedSlice, ...]:
    """Give every part its state; those with enough objects and units share one Holm correction."""
    sufficient = [index for index, figure in enumerate(figures) if _is_sufficient(figure, params)]
    corrected = dict(zip(sufficient, holm([figures[index].p_worse or 0.0 for index in sufficient]), strict=True))
    return tuple(
        JudgedSlice(
            figure=figure, state=_part_state(figure, corrected.get(index), params), p_worse_holm=corrected.get(index)
        )
        for index, figure in enumerate(figures)
    )


def judge_gates(
    challenger: Figures,
    champion: Figures | None,
    difference: Figures | None,
    parts: Sequence[JudgedSlice],
    latency: EngineLatency | None,
    params: EvaluateParams,
) -> tuple[Gate, ...]:
    """Judge all gates, in a fixed order."""
    speed = judge_latency(latency, params)
    if champion is None or difference is None:
        names: tuple[GateName, ...] = ("slices", "precision", "recall", "calibration")
        missing = [Gate(name=name, state="not judged", reason=_NO_CHAMPION) for name in names]
        return (judge_floor(challenger.map50_95, params), *missing, speed)
    served = [
        judge_served(name, getattr(challenger, figure), getattr(champion, figure), getattr(difference, figure), margin)
        for name, figure, margin in _served_demands(params)
    ]
    return (judge_accuracy(difference.map50_95, params), judge_parts(parts, params), *served, speed)


def judge_floor(challenger: Estimate, params: EvaluateParams) -> Gate:
    """Hold a first champion's mAP50-95 against the floor."""
    if challenger.value is None:
        reason = "the frozen frames hold no object: mAP50-95 is not defined"
        return Gate(name="accuracy", state="insufficient", reason=reason)
    reached = challenger.value >= params.min_map50_95
    relation = "reaches" if reached else "is below"
    reason = f"no champion yet, and {short(challenger.value)} {relation} the floor {short(params.min_map50_95)}"
    return Gate(name="accuracy", state="passed" if reached else "failed", reason=reason)


def judge_accuracy(difference: Estimate, params: EvaluateParams) -> Gate:
    """Hold the paired mAP50-95 difference, challenger minus champion, against the goal."""
    units = f"over {difference.num_units} {params.unit}s"
    if difference.lower is None or difference.upper is None:
        finer = {"camera": "set evaluate.unit to clip or block, or add cameras", "clip": "add clips"}
        reason = f"difference to the champion {short(difference.value, signed=True)} {units}: insufficient clusters, "
        reason += f"at least {params.min_units} {params.unit}s are needed; {finer.get(params.unit, 'add recordings')}"
        return Gate(name="accuracy", state="insufficient", reason=reason)
    line = params.margin if params.goal == "superior" else -params.margin
    state = _side_of(line, difference.lower, difference.upper)
    figure = f"difference to the champion {difference.text(signed=True)} {units}"
    return Gate(name="accuracy", state=state, reason=f"{figure}: {_accuracy_words(state, difference.lower, params)}")


def judge_parts(parts: Sequence[JudgedSlice], params: EvaluateParams) -> Gate:
    """Join the states of the parts under `slice_rule` and `insufficient`."""
    by_state: dict[SliceState, list[JudgedSlice]] = {}
    for part in parts:
        if part.state is not None:
            by_state.setdefault(part.state, []).append(part)
    words = [_failed_part(part, params) for part in by_state.get("failed", [])]
    if unclear := by_state.get("inconclusive"):
        words.append(f"inconclusive (interval too wide to tell): {_names(unclear)}")
    if equal := by_state.get("non-inferior"):
        words.append(f"{len(equal)} of {len(parts)} parts are not worse by more than {short(params.slice_margin)}")
    if few := by_state.get("insufficient"):
        words.append(f"insufficient (too few objects or units to judge): {_names(few)}")
    reason = "; ".join(words) if words else "the frozen frames hold no object"
    return Gate(name="slices", state=_parts_state(set(by_state), params), reason=reason)


def judge_served(
    name: GateName, challenger: Estimate | None, champion: Estimate | None, difference: Estimate | None, margin: float
) -> Gate:
    """Hold the paired difference of a figure at the served confidence against its margin.

    Of overconfidence less is better, of precision and recall more.
    """
    word = "overconfidence" if name == "calibration" else name
    if champion is None or champion.value is None:
        return Gate(name=name, state="not judged", reason=f"the champion serves nothing, it has no {word}")
    if challenger is None or challenger.value is None:
        return Gate(name=name, state="insufficient", reason=f"the challenger serves nothing, it has no {word}")
    figure = f"{word} {short(challenger.value)} against {short(champion.value)}"
    if difference is None or difference.lower is None or difference.upper is None:
        units = 0 if difference is None else difference.num_units
        return Gate(name=name, state="insufficient", reason=f"{figure}: insufficient clusters ({units}) to tell more")
    gain = (difference.lower, difference.upper)
    if name == "calibration":
        gain = (-difference.upper, -difference.lower)
    state = _side_of(-margin, *gain)
    verbs = {"passed": "is not worse", "failed": "is worse", "inconclusive": "may be worse"}
    reason = f"{figure}, difference {difference.text(signed=True)}: {verbs[state]} by more than {short(margin)}"
    return Gate(name=name, state=state, reason=reason)


def judge_latency(latency: EngineLatency | None, params: EvaluateParams) -> Gate:
    """Hold the exported engine's times against the limit and the champion's.

    Over the limit while the champion, timed in the same moments, may be so, too: that may be the machine, and is no
    ground to reject.
    """
    if latency is None:
        return Gate(name="latency", state="not judged", reason="the engines were not timed")
    limit_ms, p95 = params.max_latency_ms, latency.challenger.p95_ms
    state = _below(limit_ms, p95)
    words = {
        "passed": "fast enough",
        "failed": "too slow",
        "inconclusive": "may be too slow",
        "insufficient": f"{latency.num_frames} frames are too few to tell",
    }
    if state == "failed" and latency.champion is not None and _below(limit_ms, latency.champion.p95_ms) != "passed":
        state = "inconclusive"
        words[state] = "so may the champion be: is the machine busy, or the limit too low?"
    reason = f"p95 of a lone frame {p95.value:.1f} ms{_bounds(p95, 1)}, limit {limit_ms:g} ms"
    disturbed = state in ("failed", "inconclusive") and latency.challenger.p50_ms < limit_ms / 2
    if latency.slowdown is not None:
        state = min(state, _below(params.max_slowdown, latency.slowdown), key=WORST_FIRST.index)
        ratio = latency.slowdown
        reason += f"; {ratio.value:.2f}{_bounds(ratio, 2)} times as long as the champion, limit {params.max_slowdown:g}"
    reason += f": {words[state]}"
    if disturbed:
        reason += f" (the median is {latency.challenger.p50_ms:.1f} ms: was the machine busy?)"
    return Gate(name="latency", state=state, reason=reason)


def _served_demands(params: EvaluateParams) -> tuple[tuple[GateName, str, float], ...]:
    return (
        ("precision", "precision", params.precision_margin),
        ("recall", "recall", params.recall_margin),
        ("calibration", "overconfidence", params.calibration_margin),
    )


def _side_of(line: float, lower: float, upper: float) -> GateState:
    if lower > line:
        return "passed"
    return "failed" if upper < line else "inconclusive"


def _below(limit: float, estimate: Estimate) -> GateState:
    if estimate.lower is not None and estimate.lower > limit:
        return "failed"
    if estimate.upper is None:
        return "insufficient"
    return "passed" if estimate.upper <= limit else "inconclusive"


def _bounds(estimate: Estimate, digits: int) -> str:
    low, high = ("–" if bound is None else f"{bound:.{digits}f}" for bound in (estimate.lower, estimate.upper))
    return f" [{low}, {high}]"


def _accuracy_words(state: GateState, lower: float, params: EvaluateParams) -> str:
    by_more = f"by more than {short(params.margin)}"
    if params.goal == "superior":
        return {"passed": f"better {by_more}", "failed": f"not better {by_more}"}.get(
            state, f"may not be better {by_more}; more frames would tell"
        )
    if state == "passed":
        return "better" if lower > 0 else f"not worse {by_more}"
    return f"worse {by_more}" if state == "failed" else f"may be worse {by_more}; more frames would tell"


def _is_sufficient(figure: SliceFigure, params: EvaluateParams) -> bool:
    return figure.num_objects >= params.min_objects_per_slice and figure.p_worse is not None


def _part_state(figure: SliceFigure, p_holm: float | None, params: EvaluateParams) -> SliceState | None:
    difference = figure.difference
    if difference is None:
        return None
    if p_holm is None or difference.value is None or difference.lower is None:
        return "insufficient"
    if difference.value < -params.slice_margin and p_holm < params.alpha:
        return "failed"
    return "non-inferior" if difference.lower > -params.slice_margin else "inconclusive"


def _parts_state(states: set[SliceState], params: EvaluateParams) -> GateState:
    if "failed" in states:
        return "failed"
    if "insufficient" in states and params.insufficient == "stop":
        return "insufficient"
    if "inconclusive" in states and params.slice_rule == "non-inferior":
        return "inconclusive"
    return "passed" if states - {"insufficient"} else "not judged"


def _failed_part(part: JudgedSlice, params: EvaluateParams) -> str:
    figure = part.figure
    assert figure.difference is not None
    return (
        f"{figure.kind} {figure.name} is worse by more than {short(params.slice_margin)}: difference "
        f"{figure.difference.text(signed=True)}, {figure.num_objects} objects, corrected p {part.p_worse_holm:.2g}"
    )


def _names(parts: Sequence[JudgedSlice]) -> str:
    return ", ".join(f"{part.figure.kind} {part.figure.name}" for part in parts)

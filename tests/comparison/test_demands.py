from __future__ import annotations

import pytest

from flows.comparison.demands import (
    judge_accuracy,
    judge_floor,
    judge_gates,
    judge_latency,
    judge_parts,
    judge_served,
    judge_slices,
)
from flows.comparison.engine_latency import EngineLatency, EngineTimes, engine_latency
from flows.comparison.gate import decide
from flows.comparison.report import Figures
from flows.comparison.resampling import Estimate, p_worse
from flows.comparison.slices import SliceFigure

T7 = 1.894579  # 95 % quantile of t(7)


def estimate(value: float | None, error: float | None = 0.01, num_units: int = 8) -> Estimate:
    if value is None or error is None:
        return Estimate(value=value, lower=None, upper=None, standard_error=None, num_units=num_units)
    reach = T7 * error
    return Estimate(value=value, lower=value - reach, upper=value + reach, standard_error=error, num_units=num_units)


def part(name: str, difference: float | None, error: float | None = 0.01, num_objects: int = 200) -> SliceFigure:
    compared = None if difference is None else estimate(difference, error)
    return SliceFigure(
        kind="slice",
        name=name,
        num_images=32,
        num_objects=num_objects,
        unit="block",
        challenger=estimate(0.5),
        champion=None if compared is None else estimate(0.5),
        difference=compared,
        p_worse=None if compared is None else p_worse(compared),
    )


def figures(value: float, overconfidence: float = 0.1) -> Figures:
    """Headline figures that are all `value`."""
    same = {key: estimate(value) for key in ("map50_95", "ap50", "ap75", "precision", "recall")}
    return Figures(**same, overconfidence=estimate(overconfidence))


@pytest.mark.parametrize(
    ("value", "state", "words"),
    [
        (None, "insufficient", "no object"),
        (0.09, "failed", ".090 is below the floor .100"),
        (0.10, "passed", ".100 reaches the floor .100"),
    ],
)
def test_a_first_champion_needs_the_floor(value: float | None, state: str, words: str, params) -> None:
    gate = judge_floor(estimate(value), params)
    assert gate.state == state
    assert words in gate.reason


@pytest.mark.parametrize(
    ("value", "error", "state", "words"),
    [
        (0.08, None, "insufficient", "insufficient clusters, at least 6 cameras"),
        (None, None, "insufficient", "insufficient clusters"),
        (0.08, 0.02, "passed", "better"),
        (0.0, 0.0, "passed", "not worse by more than .005"),  # the very same model
        (0.0, 0.002, "passed", "not worse by more than .005"),
        (0.01, 0.01, "inconclusive", "may be worse"),
        (-0.004, 0.0001, "passed", "not worse"),
        (-0.02, 0.01, "inconclusive", "may be worse"),
        (-0.08, 0.01, "failed", "worse by more than .005"),
    ],
)
def test_not_worse_overall(value: float | None, error: float | None, state: str, words: str, params) -> None:
    gate = judge_accuracy(estimate(value, error), params)
    assert gate.state == state
    assert words in gate.reason


@pytest.mark.parametrize(
    ("value", "error", "state", "words"),
    [
        (0.08, None, "insufficient", "insufficient clusters"),
        (0.08, 0.02, "passed", "better by more than .005"),
        (0.0, 0.0, "failed", "not better by more than .005"),  # the very same model
        (0.02, 0.01, "inconclusive", "may not be better by more than .005"),
        (0.004, 0.0001, "failed", "not better"),  # better, by less than the margin
        (-0.08, 0.01, "failed", "not better"),
    ],
)
def test_better_overall(value: float | None, error: float | None, state: str, words: str, params) -> None:
    gate = judge_accuracy(estimate(value, error), params.model_copy(update={"goal": "superior"}))
    assert gate.state == state
    assert words in gate.reason


@pytest.mark.parametrize(("unit", "hint"), [("camera", "to clip or block"), ("clip", "add clips"), ("block", "record")])
def test_too_few_units_say_what_would_help(unit: str, hint: str, params) -> None:
    assert hint in judge_accuracy(estimate(0.1, None), params.model_copy(update={"unit": unit})).reason


@pytest.mark.parametrize(
    ("difference", "error", "num_objects", "state"),
    [
        (None, None, 200, None),
        (0.02, 0.01, 200, "non-inferior"),
        (-0.04, 0.001, 200, "non-inferior"),  # proven worse, by less than the margin
        (-0.02, 0.03, 200, "inconclusive"),
        (-0.06, 0.05, 200, "inconclusive"),  # worse by more than the margin, not proven
        (-0.06, 0.01, 200, "failed"),
        (-0.06, 0.01, 49, "insufficient"),
        (-0.06, None, 200, "insufficient"),
    ],
)
def test_state_of_a_part(difference: float | None, error: float | None, num_objects: int, state: str, params) -> None:
    assert judge_slices([part("day", difference, error, num_objects)], params)[0].state == state


GOOD, FAILED, WIDE, FEW = part("day", 0.2), part("night", -0.2), part("rain", -0.02, 0.1), part("fog", 0.1, 0.01, 3)


@pytest.mark.parametrize(
    ("parts", "strict", "lenient", "stopping"),
    [
        ([], "not judged", "not judged", "not judged"),
        ([GOOD], "passed", "passed", "passed"),
        ([GOOD, FAILED, WIDE, FEW], "failed", "failed", "failed"),
        ([GOOD, WIDE], "inconclusive", "passed", "inconclusive"),
        ([WIDE], "inconclusive", "passed", "inconclusive"),
        ([GOOD, FEW], "passed", "passed", "insufficient"),
        ([GOOD, WIDE, FEW], "inconclusive", "passed", "insufficient"),
        ([FEW], "not judged", "not judged", "insufficient"),
    ],
)
def test_state_of_all_parts(parts: list[SliceFigure], strict: str, lenient: str, stopping: str, params) -> None:
    judged = judge_slices(parts, params)
    for update, state in (
        ({"slice_rule": "non-inferior"}, strict),
        ({"slice_rule": "not-worse"}, lenient),
        ({"slice_rule": "non-inferior", "insufficient": "stop"}, stopping),
    ):
        assert judge_parts(judged, params.model_copy(update=update)).state == state


def test_a_failed_part_leads_the_reason_and_all_others_are_named(params) -> None:
    reason = judge_parts(judge_slices([GOOD, FAILED, WIDE, FEW], params), params).reason
    assert reason.startswith("slice night is worse by more than .050: difference -.200")
    assert "inconclusive (interval too wide to tell): slice rain" in reason
    assert "1 of 4 parts are not worse" in reason
    assert reason.endswith("insufficient (too few objects or units to judge): slice fog")


def test_the_more_parts_the_stronger_the_proof_that_one_failed(params) -> None:
    doubtful = part("night", -0.06, 0.025)
    assert judge_slices([doubtful], params)[0].state == "failed"
    among_many = judge_slices([doubtful, *(part(f"cam{number}", 0.0) for number in range(9))], params)
    assert among_many[0].state == "inconclusive"
    assert among_many[0].p_worse_holm == pytest.approx(10 * doubtful.p_worse)


def test_insufficient_parts_do_not_weaken_the_others(params) -> None:
    doubtful = part("night", -0.06, 0.025)
    judged = judge_slices([doubtful, *(part(f"cam{number}", 0.0, 0.01, 3) for number in range(9))], params)
    assert judged[0].state == "failed"


@pytest.mark.parametrize(
    ("name", "difference", "state", "words"),
    [
        ("precision", estimate(0.02), "passed", "is not worse by more than .050"),
        ("precision", estimate(-0.02), "passed", "is not worse"),
        ("precision", estimate(-0.04), "inconclusive", "may be worse"),
        ("recall", estimate(-0.2), "failed", "is worse by more than .050"),
        ("calibration", estimate(-0.2), "passed", "is not worse"),  # of an error less is better
        ("calibration", estimate(0.04), "inconclusive", "may be worse"),
        ("calibration", estimate(0.2), "failed", "is worse by more than .050"),
        ("recall", estimate(0.2, None), "insufficient", "insufficient clusters"),
        ("recall", None, "insufficient", "insufficient clusters"),
    ],
)
def test_figures_at_the_served_confidence(name, difference, state: str, words: str) -> None:
    gate = judge_served(name, estimate(0.5), estimate(0.5), difference, 0.05)
    assert (gate.name, gate.state) == (name, state)
    assert words in gate.reason


@pytest.mark.parametrize(
    ("challenger", "champion", "state", "words"),
    [
        (estimate(None), estimate(0.5), "insufficient", "the challenger serves nothing"),
        (estimate(0.5), estimate(None), "not judged", "the champion serves nothing"),
        (estimate(None), estimate(None), "not judged", "the champion serves nothing"),
        (None, None, "not judged", "the champion serves nothing"),
    ],
)
def test_a_model_that_serves_nothing_has_no_precision(challenger, champion, state: str, words: str) -> None:
    gate = judge_served("precision", challenger, champion, estimate(None), 0.05)
    assert gate.state == state
    assert words in gate.reason


def timed(new_ms: float, old_ms: float | None = None, num: int = 120) -> EngineLatency:
    """Times that do not vary but for a slow frame in fifty."""
    new = tuple(new_ms * (3 if index % 50 == 7 else 1) for index in range(num))
    return engine_latency(EngineTimes(challenger_ms=new, champion_ms=() if old_ms is None else (old_ms,) * num), 0.05)


@pytest.mark.parametrize(
    ("latency", "state", "words"),
    [
        (None, "not judged", "not timed"),
        (timed(20.0), "passed", "p95 of a lone frame 20.0 ms [20.0, 60.0], limit 100 ms: fast enough"),
        (timed(20.0, 19.0), "passed", "1.05 [1.05, 1.05] times as long as the champion, limit 1.5: fast enough"),
        (timed(40.0, 20.0), "failed", "2.00 [2.00, 2.00] times"),
        (timed(120.0), "failed", "too slow"),
        (timed(120.0, 90.0), "failed", "too slow"),
        (timed(120.0, 110.0), "inconclusive", "so may the champion be"),
        (timed(240.0, 110.0), "failed", "2.18 [2.18, 2.18] times"),
        (timed(60.0, 59.0), "inconclusive", "may be too slow"),
        (timed(20.0, 19.0, num=20), "insufficient", "20 frames are too few"),
        (timed(40.0, 20.0, num=20), "failed", "too slow"),
        (timed(40.0), "inconclusive", "may be too slow (the median is 40.0 ms: was the machine busy?)"),
    ],
)
def test_latency(latency: EngineLatency | None, state: str, words: str, params) -> None:
    gate = judge_latency(latency, params)
    assert gate.state == state
    assert words in gate.reason


def test_all_gates_of_a_better_challenger_pass(params) -> None:
    gates = judge_gates(
        figures(0.6), figures(0.5), figures(0.1, -0.02), judge_slices([GOOD], params), timed(20.0, 20.0), params
    )
    assert [gate.name for gate in gates] == ["accuracy", "slices", "precision", "recall", "calibration", "latency"]
    assert {gate.state for gate in gates} == {"passed"}
    assert decide(gates).outcome == "promote"


def test_without_a_champion_only_the_floor_and_the_clock_count(params) -> None:
    gates = judge_gates(figures(0.5), None, None, judge_slices([part("day", None)], params), timed(20.0), params)
    states = {gate.name: gate.state for gate in gates}
    assert (states.pop("accuracy"), states.pop("latency")) == ("passed", "passed")
    assert set(states.values()) == {"not judged"}
    assert decide(gates).outcome == "promote"


def test_a_slower_engine_rejects_a_better_model(params) -> None:
    parts = judge_slices([GOOD], params)
    gates = judge_gates(figures(0.6), figures(0.5), figures(0.1, -0.02), parts, timed(90.0, 20.0), params)
    verdict = decide(gates)
    assert verdict.outcome == "reject"
    assert "too slow" in verdict.reasons[0]

from __future__ import annotations

import pytest

from flows.comparison.gate import decide, judge_slices
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


@pytest.mark.parametrize(
    ("value", "outcome", "words"),
    [
        (None, "inconclusive", "no object"),
        (0.09, "reject", ".090 is below the floor .100"),
        (0.10, "promote", ".100 reaches the floor .100"),
    ],
)
def test_a_first_champion_needs_the_floor(value: float | None, outcome: str, words: str, params) -> None:
    verdict = decide(estimate(value), None, judge_slices([part("day", None)], params), params)
    assert verdict.outcome == outcome
    assert words in verdict.reasons[0]


@pytest.mark.parametrize(
    ("value", "error", "outcome", "words"),
    [
        (0.08, None, "inconclusive", "insufficient clusters, at least 6 cameras"),
        (None, None, "inconclusive", "insufficient clusters"),
        (0.08, 0.02, "promote", "better"),
        (0.0, 0.0, "promote", "not worse by more than .005"),  # the very same model
        (0.0, 0.002, "promote", "not worse by more than .005"),
        (0.01, 0.01, "inconclusive", "may be worse"),
        (-0.004, 0.0001, "promote", "not worse"),
        (-0.02, 0.01, "inconclusive", "may be worse"),
        (-0.08, 0.01, "reject", "worse by more than .005"),
    ],
)
def test_overall(value: float | None, error: float | None, outcome: str, words: str, params) -> None:
    verdict = decide(estimate(0.5), estimate(value, error), [], params)
    assert verdict.outcome == outcome
    assert words in verdict.reasons[0]


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


def test_one_failed_part_rejects_a_better_model_and_leads_the_reasons(params) -> None:
    parts = judge_slices(
        [part("day", 0.2), part("night", -0.2), part("rain", 0.1, 0.1), part("fog", 0.1, 0.01, 3)], params
    )
    verdict = decide(estimate(0.5), estimate(0.08, 0.02), parts, params)
    assert verdict.outcome == "reject"
    assert verdict.reasons[0].startswith("slice night is worse by more than .050: difference -.200")
    assert any("inconclusive" in reason and "slice rain" in reason for reason in verdict.reasons)
    assert any("insufficient" in reason and "slice fog" in reason for reason in verdict.reasons)


def test_unproven_parts_are_named_and_do_not_stop_a_better_model(params) -> None:
    parts = judge_slices([part("rain", -0.02, 0.1), part("fog", -0.2, 0.01, 3)], params)
    verdict = decide(estimate(0.5), estimate(0.08, 0.02), parts, params)
    assert verdict.outcome == "promote"
    assert len(verdict.reasons) == 3


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

"""Which engine is taken, and the sentences for those that are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.exporting.accuracy import Accuracy, Baseline, Loss, short
from flows.exporting.benchmark import BatchLatency, Speed
from flows.exporting.candidates import COMPETING, Candidate
from flows.exporting.choice import EXACTNESS, Contender, best_batch, choose, find_refusal
from flows.exporting.parity import ParityReport

INT8, FP32 = Candidate("openvino", "int8"), Candidate("openvino", "fp32")

candidate = st.sampled_from([Candidate(engine, one) for engine, some in COMPETING.items() for one in some])
contender = st.builds(
    Contender,
    candidate=candidate,
    images_per_s=st.floats(0.5, 5000),
    in_budget=st.booleans(),
    refusal=st.sampled_from([None, "refused: loses too much"]),
)
field = st.lists(contender, max_size=8)


@given(field, st.floats(1, 3))
def test_what_is_refused_is_never_taken_and_something_is_unless_all_are(some: list[Contender], speedup: float) -> None:
    index = choose(some, speedup)
    if index is None:
        assert all(one.refusal for one in some)
    else:
        assert some[index].refusal is None


@given(field, st.floats(1, 3))
def test_nothing_admitted_is_much_faster_or_as_fast_and_more_exact(some: list[Contender], speedup: float) -> None:
    index = choose(some, speedup)
    if index is None:
        return
    taken = some[index]
    rivals = [one for one in some if one.refusal is None and one.in_budget >= taken.in_budget]
    assert taken.in_budget or not any(one.in_budget for one in rivals)
    fastest = max(one.images_per_s for one in rivals)
    assert taken.images_per_s >= fastest / speedup
    for one in rivals:
        if one.images_per_s >= fastest / speedup:
            assert EXACTNESS.index(one.candidate.precision) >= EXACTNESS.index(taken.candidate.precision)


@given(field, st.floats(1, 3), st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_decides_nothing_of_the_speed(
    some: list[Contender], speedup: float, dice: Any
) -> None:
    shuffled = some.copy()
    dice.shuffle(shuffled)
    one, other = choose(some, speedup), choose(shuffled, speedup)
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert some[one].images_per_s == shuffled[other].images_per_s


@pytest.mark.parametrize(
    ("fp32", "int8", "taken"),
    [(100.0, 104.0, FP32), (100.0, 106.0, INT8), (100.0, 20.0, FP32)],
)
def test_a_less_exact_engine_must_be_clearly_faster(fp32: float, int8: float, taken: Candidate) -> None:
    some = [Contender(FP32, fp32, True, None), Contender(INT8, int8, True, None)]
    index = choose(some, 1.05)
    assert index is not None
    assert some[index].candidate == taken


def parity(passed: bool = True) -> ParityReport:
    return ParityReport(
        passed=passed,
        sentence="agrees with PyTorch: ..." if passed else "differs from PyTorch: mean IoU 0.4",
        num_frames=1,
        num_boxes=2,
        matched_share=1.0,
        mean_iou=0.9,
        min_iou=0.8,
        mean_score_diff=0.01,
        max_score_diff=0.02,
    )


BASELINE = Baseline(
    split="test", unit="camera", alpha=0.05, num_images=9, num_objects=30, num_units=2, min_units=6, map50_95=0.5
)


def refusal(of: Candidate, loss: Loss, passed: bool = True) -> str | None:
    return find_refusal(of, parity(passed), Accuracy(map50_95=0.4, loss=loss), BASELINE, 0.005)


def test_an_engine_that_loses_more_is_refused_with_the_figures(loss: Callable[..., Loss]) -> None:
    said = refusal(INT8, Loss(value=0.012, lower=0.006, upper=0.019, num_units=8))
    assert said == "openvino int8 refused: loses .012 [.006, .019] mAP50-95, allowed 0.005 at the upper end"
    assert refusal(INT8, loss(0.004, 0.001)) is None
    assert refusal(INT8, loss(0.0, 0.0051)) is not None  # nothing lost, but more is not excluded
    assert refusal(FP32, loss(0.02)) is not None


def test_without_an_interval_only_fp32_may_be_taken(loss: Callable[..., Loss]) -> None:
    said = refusal(INT8, loss(0.0, None))
    assert said is not None
    assert "test has 2 cameras with 30 objects, too few to bound what it loses (needed: 6 units)" in said
    assert "only fp32 may be chosen" in said
    assert refusal(FP32, loss(0.0, None)) is None
    assert refusal(FP32, Loss(value=None, lower=None, upper=None, num_units=0)) is None


def test_boxes_that_differ_refuse_whatever_is_lost(loss: Callable[..., Loss]) -> None:
    assert refusal(FP32, loss(0.0), passed=False) == "openvino fp32 refused: it differs from PyTorch: mean IoU 0.4"
    assert refusal(FP32, loss(0.0, None), passed=False) is not None


def speed(*rows: tuple[int, float, float]) -> Speed:
    latency = [
        BatchLatency(batch=batch, p50_ms=p99, p99_ms=p99, images_per_s=rate, runs=9) for batch, p99, rate in rows
    ]
    return Speed(load_s=1, resident_mb=1, num_parallel=1, lone_p50_ms=1, lone_p99_ms=1, latency=tuple(latency))


@pytest.mark.parametrize(
    ("rows", "batch", "in_budget"),
    [
        ([(1, 10, 100), (2, 15, 130), (4, 30, 120)], 2, True),
        ([(1, 10, 100), (2, 60, 130), (4, 120, 150)], 2, True),
        ([(1, 101, 10), (2, 140, 14)], 1, False),
    ],
)
def test_the_best_batch_is_within_the_budget(rows: list[tuple[int, float, float]], batch: int, in_budget: bool) -> None:
    row, inside = best_batch(speed(*rows), 100)
    assert (row.batch, inside) == (batch, in_budget)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, ".000"),
        (-0.0001, ".000"),
        (0.0123, ".012"),
        (-0.5, "-.500"),
        (1.0, "1.000"),
        (0.9996, "1.000"),
    ],
)
def test_figures_are_short(value: float | None, text: str) -> None:
    assert short(value) == text

"""Many candidates: best first, their number accounted for, and the same report from the same tables."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from flows.comparison.candidates import CandidatesReport, Contender, compare_candidates
from flows.comparison.engine_latency import EngineTimes
from flows.comparison.evaluation import compare
from flows.errors import DataError
from flows.params_file import read_params
from tests.comparison.conftest import draw_predictions, draw_truth


def times(ms: float, champion: bool = True) -> EngineTimes:
    spread = np.linspace(0.9, 1.1, 120)
    return EngineTimes(challenger_ms=tuple(ms * spread), champion_ms=tuple(20 * spread) if champion else ())


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(0)
    truth = draw_truth(rng, cameras=8, frames=3)
    champion = draw_predictions(rng, truth, found=0.7)
    found = [draw_predictions(rng, truth, found=share) for share in (0.98, 0.95, 0.35)]
    return truth, champion, found


def contenders(found, champion: bool = True) -> list[Contender]:
    speeds = (30.0, 10.0, 5.0)
    return [
        Contender(f"trial {number}", one, 0.25, times(speeds[number], champion)) for number, one in enumerate(found)
    ]


@pytest.fixture(scope="module")
def lenient():
    """What is tested here is the overall difference; precision, recall and parts have their own tests."""
    params = read_params(Path(__file__).parents[2] / "params.yaml").evaluate
    changes = {"margin": 0.005, "slice_margin": 1.0, "precision_margin": 1.0, "recall_margin": 1.0}
    return params.model_copy(update={**changes, "calibration_margin": 1.0, "max_slowdown": 9.0, "replicates": 200})


@pytest.fixture(scope="module")
def report(scene, lenient) -> CandidatesReport:
    truth, champion, found = scene
    return compare_candidates(truth, champion, contenders(found), lenient, seed=0)


def test_those_that_may_be_promoted_come_first_and_the_worse_is_rejected(report) -> None:
    outcomes = [one.outcome for one in report.candidates]
    assert outcomes == ["promote", "promote", "reject"]
    assert report.passed
    bounds = [round(one.difference.map50_95.lower, 3) for one in report.candidates[:2]]
    assert bounds == sorted(bounds, reverse=True)
    assert report.sentence.startswith(f"2 of 3 may be promoted; best is {report.candidates[0].name}")
    assert "better than the champion" in report.sentence
    assert report.p_any_better < 0.05


def test_each_is_judged_as_evaluate_would_with_alpha_over_their_number(scene, lenient, report) -> None:
    truth, champion, found = scene
    strict = lenient.model_copy(update={"alpha": lenient.alpha / 3, "replicates": 100})
    alone = compare(truth, found[0], champion, strict, served_conf=0.25, seed=0, times=times(30.0))
    mine = next(one for one in report.candidates if one.name == "trial 0")
    assert (mine.gates, mine.reasons, mine.difference) == (alone.gates, alone.reasons, alone.difference)
    assert report.alpha_each == pytest.approx(lenient.alpha / 3)


def test_more_candidates_make_every_bound_wider(scene, lenient) -> None:
    truth, champion, found = scene
    lower = []
    for num in (1, 2, 3):
        made = compare_candidates(truth, champion, contenders(found)[:num], lenient, seed=0)
        lower.append(next(one.difference.map50_95.lower for one in made.candidates if one.name == "trial 0"))
    assert lower[0] > lower[1] > lower[2]


def test_corrected_p_values_are_those_of_holm(report) -> None:
    raw = sorted(one.p_better for one in report.candidates)
    fixed = sorted(one.p_better_holm for one in report.candidates)
    assert fixed[0] == pytest.approx(min(1.0, 3 * raw[0]))
    assert fixed[1] == pytest.approx(min(1.0, max(3 * raw[0], 2 * raw[1])))


def test_differences_to_the_first_hold_for_all_pairs(report) -> None:
    first, second, third = report.candidates
    assert first.to_first is None
    assert second.to_first.value <= first.figures.map50_95.value
    assert third.to_first.upper < 0
    gap = second.difference.map50_95.value - first.difference.map50_95.value
    assert second.to_first.value == pytest.approx(gap)


def test_of_two_that_are_as_good_the_faster_comes_first(scene, lenient) -> None:
    truth, champion, found = scene
    slow, fast = (Contender(name, found[0], 0.25, times(ms)) for name, ms in (("slow", 28.0), ("fast", 8.0)))
    made = compare_candidates(truth, champion, [slow, fast], lenient, seed=0)
    assert [one.name for one in made.candidates] == ["fast", "slow"]


def test_without_a_champion_each_is_held_against_the_floor(scene, lenient) -> None:
    truth, _, found = scene
    made = compare_candidates(truth, None, contenders(found, champion=False), lenient, seed=0)
    assert made.champion is None
    assert made.p_any_better is None
    assert all(one.difference is None and one.p_better is None for one in made.candidates)
    assert made.candidates[-1].name == "trial 2"


def test_same_tables_same_report_whatever_the_order(scene, lenient, report) -> None:
    truth, champion, found = scene
    turned = compare_candidates(truth, champion, contenders(found)[::-1], lenient, seed=0)
    assert [one.model_dump() for one in turned.candidates] == [one.model_dump() for one in report.candidates]
    assert CandidatesReport.model_validate_json(report.model_dump_json()) == report


def test_too_few_cameras_say_so_of_every_candidate(lenient) -> None:
    rng = np.random.default_rng(3)
    truth = draw_truth(rng, cameras=3)
    champion, found = draw_predictions(rng, truth, found=0.7), draw_predictions(rng, truth, found=0.95)
    made = compare_candidates(truth, champion, [Contender("one", found, 0.25)], lenient, seed=0)
    assert made.candidates[0].outcome == "inconclusive"
    assert made.p_any_better is None
    assert made.sentence.startswith("None of 1 may be promoted")


@pytest.mark.parametrize(("names", "said"), [((), "no candidate"), (("a", "a"), "a is named twice")])
def test_no_candidate_and_the_same_name_twice_are_refused(scene, lenient, names, said) -> None:
    truth, champion, found = scene
    given = [Contender(name, found[0], 0.25) for name in names]
    with pytest.raises(DataError, match=said):
        compare_candidates(truth, champion, given, lenient, seed=0)


def test_tables_of_other_frames_are_refused(scene, lenient) -> None:
    truth, champion, found = scene
    other = dataclasses.replace(found[0], images=tuple(f"x{name}" for name in found[0].images))
    with pytest.raises(DataError, match="ground truth"):
        compare_candidates(truth, champion, [Contender("one", other, 0.25)], lenient, seed=0)

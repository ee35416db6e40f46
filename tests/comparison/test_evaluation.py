from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.comparison.engine_latency import EngineTimes
from flows.comparison.evaluation import compare
from flows.comparison.report import EvaluationReport
from flows.comparison.tables import read_ground_truth, read_predictions, write_ground_truth, write_predictions
from flows.errors import DataError

GOOD, FAIR = {"found": 0.95, "jitter": 0.04}, {"found": 0.75, "jitter": 0.07}


@pytest.fixture
def scene(make_truth, make_predictions):
    rng = np.random.default_rng(0)
    truth = make_truth(rng)
    return truth, make_predictions(rng, truth, **GOOD), make_predictions(rng, truth, **FAIR)


def test_a_truly_better_challenger_is_promoted_on_the_frames_of_the_demo(scene, params) -> None:
    truth, good, fair = scene
    report = compare(truth, good, fair, params, served_conf=0.25, seed=0)
    assert (report.outcome, report.passed) == ("promote", True)
    assert report.sentence.startswith("Promote: mAP50-95 .")
    assert "over 8 cameras: better" in report.sentence
    assert (report.num_images, report.num_units) == (128, 8)
    assert report.difference.map50_95.lower > 0
    assert report.bootstrap.lower > 0
    assert report.bootstrap.p_label_swap < 0.05
    assert report.difference.recall.value > 0


def test_the_worse_one_is_rejected_and_its_difference_is_the_mirror_image(scene, params) -> None:
    truth, good, fair = scene
    forth = compare(truth, good, fair, params, served_conf=0.25, seed=0)
    back = compare(truth, fair, good, params, served_conf=0.25, seed=0)
    assert back.outcome == "reject"
    assert back.difference.map50_95.value == pytest.approx(-forth.difference.map50_95.value)
    assert back.difference.map50_95.lower == pytest.approx(-forth.difference.map50_95.upper)


def test_the_very_same_model_is_not_inferior(scene, params) -> None:
    truth, good, _ = scene
    report = compare(truth, good, good, params, served_conf=0.25, seed=0)
    assert report.outcome == "promote"
    assert report.difference.map50_95.value == 0
    assert report.disagreements == ()
    assert report.challenger.predictions_sha256 == report.champion.predictions_sha256


def test_a_challenger_that_is_blind_in_one_slice_is_rejected(scene, params) -> None:
    truth, good, fair = scene
    night = np.array([one == "night" for one in truth.slices])[good.image_index]
    blind = type(good)(
        good.images,
        good.offsets,
        np.where(night[:, None], good.boxes_xyxy + 900, good.boxes_xyxy),
        good.class_ids,
        good.scores,
    )
    report = compare(truth, blind, fair, params, served_conf=0.25, seed=0)
    assert report.outcome == "reject"
    assert any(reason.startswith("slice night is worse") for reason in report.reasons)


def test_too_few_cameras_are_inconclusive_and_clips_are_the_way_out(make_truth, make_predictions, params) -> None:
    rng = np.random.default_rng(0)
    truth = make_truth(rng, cameras=4)
    models = make_predictions(rng, truth, **GOOD), make_predictions(rng, truth, **FAIR)
    report = compare(truth, *models, params, served_conf=0.25, seed=0)
    assert report.outcome == "inconclusive"
    assert "set evaluate.unit to clip" in report.sentence
    assert report.bootstrap is None
    assert report.difference.map50_95.lower is None
    by_clip = params.model_copy(update={"unit": "clip"})
    finer = compare(truth, *models, by_clip, served_conf=0.25, seed=0)
    assert {gate.name: gate.state for gate in finer.gates}["accuracy"] == "passed"


def test_a_first_champion_is_held_against_the_floor(scene, params) -> None:
    truth, good, _ = scene
    report = compare(truth, good, None, params, served_conf=0.25, seed=0)
    assert (report.outcome, report.champion, report.difference, report.bootstrap) == ("promote", None, None, None)
    assert {part.state for part in report.parts} == {None}
    floor = params.model_copy(update={"min_map50_95": 0.99})
    assert compare(truth, good, None, floor, served_conf=0.25, seed=0).outcome == "reject"


def test_the_report_survives_json_and_is_recomputed_from_the_frozen_tables(scene, params, tmp_path: Path) -> None:
    truth, good, fair = scene
    report = compare(truth, good, fair, params, served_conf=0.25, seed=3)
    write_ground_truth(tmp_path / "truth.parquet", truth)
    for name, found in (("good", good), ("fair", fair)):
        write_predictions(tmp_path / f"{name}.parquet", found)
    again = compare(
        read_ground_truth(tmp_path / "truth.parquet"),
        read_predictions(tmp_path / "good.parquet"),
        read_predictions(tmp_path / "fair.parquet"),
        params,
        served_conf=0.25,
        seed=3,
    )
    assert again == report == EvaluationReport.model_validate_json(report.model_dump_json())


def test_disagreements_come_most_first(scene, params) -> None:
    truth, good, fair = scene
    report = compare(truth, good, fair, params, served_conf=0.25, seed=0)
    counts = [one.num_boxes for one in report.disagreements]
    assert len(counts) == 12
    assert counts == sorted(counts, reverse=True)


def test_tables_that_do_not_belong_together_are_refused(scene, make_truth, params) -> None:
    _, good, fair = scene
    with pytest.raises(DataError, match="challenger: predictions for 128 images"):
        compare(make_truth(np.random.default_rng(0), cameras=2), good, fair, params, served_conf=0.25, seed=0)


def test_every_gate_is_in_the_report_and_carries_the_verdict(scene, params) -> None:
    truth, good, fair = scene
    times = EngineTimes(challenger_ms=(20.0,) * 120, champion_ms=(19.0,) * 120)
    report = compare(truth, good, fair, params, served_conf=0.25, seed=0, times=times)
    states = {gate.name: gate.state for gate in report.gates}
    assert list(states) == ["accuracy", "slices", "precision", "recall", "calibration", "latency"]
    assert states["accuracy"] == states["slices"] == states["recall"] == states["latency"] == "passed"
    assert report.latency.slowdown.value == pytest.approx(20 / 19)
    assert set(report.reasons) >= {gate.reason for gate in report.gates}
    slow = times.model_copy(update={"challenger_ms": (40.0,) * 120})
    rejected = compare(truth, good, fair, params, served_conf=0.25, seed=0, times=slow)
    assert rejected.outcome == "reject"
    assert "too slow" in rejected.sentence


def test_a_boaster_is_rejected_though_it_finds_as_much(scene, params) -> None:
    """Confidences pushed up keep their order: average precision does not move, calibration does."""
    truth, good, _ = scene
    boasting = replace(good, scores=good.scores**0.2)
    report = compare(truth, boasting, good, params, served_conf=0.0, seed=0)
    states = {gate.name: gate.state for gate in report.gates}
    assert report.difference.map50_95.value == 0
    assert (states["accuracy"], states["calibration"], report.outcome) == ("passed", "failed", "reject")
    new, old = report.challenger.calibration, report.champion.calibration
    assert report.difference.calibration_error.value == pytest.approx(new.error - old.error)
    assert report.difference.overconfidence.value == pytest.approx(new.overconfidence - old.overconfidence)
    shy = compare(truth, replace(good, scores=good.scores**5), good, params, served_conf=0.0, seed=0)
    assert {gate.name: gate.state for gate in shy.gates}["calibration"] == "passed"
    assert shy.difference.calibration_error.value > 0


@pytest.mark.parametrize("has_champion", [True, False])
def test_times_of_other_models_are_refused(scene, params, has_champion: bool) -> None:
    truth, good, fair = scene
    times = EngineTimes(challenger_ms=(20.0,) * 120, champion_ms=() if has_champion else (20.0,) * 120)
    with pytest.raises(DataError, match="champion was"):
        compare(truth, good, fair if has_champion else None, params, served_conf=0.25, seed=0, times=times)


def test_a_goal_of_being_better_refuses_the_very_same_model(scene, params) -> None:
    truth, good, _ = scene
    report = compare(truth, good, good, params.model_copy(update={"goal": "superior"}), served_conf=0.25, seed=0)
    assert report.outcome == "reject"
    assert report.thresholds.goal == "superior"


def test_blocks_of_time_are_the_unit_of_few_cameras(make_truth, make_predictions, params) -> None:
    rng = np.random.default_rng(0)
    truth = make_truth(rng, cameras=2)
    minutes = [f"2026-03-02T12:{index % 16:02d}:30+01:00" for index in range(len(truth.images))]
    truth = replace(truth, times=tuple(minutes))
    models = make_predictions(rng, truth, **GOOD), make_predictions(rng, truth, **FAIR)
    report = compare(truth, *models, params.model_copy(update={"unit": "block"}), served_conf=0.25, seed=0)
    assert report.num_units == 32  # two cameras, sixteen minutes each
    assert {gate.name: gate.state for gate in report.gates}["accuracy"] == "passed"
    longer = params.model_copy(update={"unit": "block", "block_s": 240.0})
    assert compare(truth, *models, longer, served_conf=0.25, seed=0).num_units == 8


def test_each_model_is_scored_at_its_own_confidence(scene, params) -> None:
    truth, good, fair = scene
    report = compare(truth, good, fair, params, served_conf=0.5, champion_conf=0.25, seed=0)
    alone = compare(truth, fair, None, params, served_conf=0.25, seed=0)
    assert report.champion.figures.recall == alone.challenger.figures.recall
    assert report.champion.calibration == alone.challenger.calibration
    other = compare(truth, good, fair, params, served_conf=0.5, seed=0)
    assert other.champion.figures.recall.value < report.champion.figures.recall.value
    assert (report.thresholds.champion_conf, other.thresholds.champion_conf) == (0.25, None)


def test_a_report_of_before_the_gates_can_be_read(scene, params) -> None:
    truth, good, fair = scene
    report = compare(truth, good, fair, params, served_conf=0.25, seed=0)
    old = report.model_dump(mode="json", exclude={"gates", "latency"})
    for one in ("challenger", "champion"):
        del old[one]["calibration"], old[one]["figures"]["calibration_error"]
    del old["difference"]["calibration_error"]
    for key in ("block_s", "goal", "slice_rule", "insufficient", "precision_margin", "max_slowdown"):
        del old["thresholds"][key]
    again = EvaluationReport.model_validate(old)
    assert (again.gates, again.latency, again.challenger.calibration) == ((), None, None)
    assert again.thresholds.slice_rule == "not-worse"

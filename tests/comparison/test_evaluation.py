from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

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
    assert compare(truth, *models, by_clip, served_conf=0.25, seed=0).outcome == "promote"


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

from __future__ import annotations

import numpy as np
import pytest

from flows.comparison.calibration import NUM_BINS, calibration, calibration_errors, confidence_bins
from flows.comparison.matching import Matches, match_all
from flows.comparison.predictions import LabelledFrame, ground_truth, predictions


def matches(images: list[int], scores: list[float], right: list[bool], num_images: int = 2) -> Matches:
    """Matches of one class; `right` at every IoU threshold."""
    hit = np.repeat(np.array(right, dtype=bool)[None], 10, axis=0)
    return Matches(
        num_images=num_images,
        image_index=np.array(images, dtype=np.int64),
        class_ids=np.zeros(len(images), dtype=np.int64),
        scores=np.array(scores, dtype=np.float64),
        hit=hit,
        ignored=np.zeros_like(hit),
        num_objects=np.full((1, num_images), 3),
    )


@pytest.mark.parametrize(
    ("scores", "right", "error", "overconfidence"),
    [
        ([], [], None, None),
        ([0.1, 0.2], [True, True], None, None),  # below the served confidence
        ([0.95], [True], 0.05, 0.0),
        ([0.95], [False], 0.95, 0.95),
        ([0.55, 0.55], [True, False], 0.05, 0.05),
        ([0.5, 0.59], [True, False], 0.045, 0.045),  # one bin: their mean counts
        ([0.55, 0.95], [False, True], (0.55 + 0.05) / 2, 0.55 / 2),
        ([1.0, 1.0], [True, True], 0.0, 0.0),
    ],
)
def test_worked_by_hand(
    scores: list[float], right: list[bool], error: float | None, overconfidence: float | None
) -> None:
    bins = confidence_bins(matches([0] * len(scores), scores, right), 0.25)
    found = calibration(bins)
    assert found.error == (None if error is None else pytest.approx(error))
    assert found.overconfidence == (None if error is None else pytest.approx(overconfidence))
    weighted = calibration_errors(bins, np.ones((1, 2), dtype=int))
    expected = [[np.nan], [np.nan]] if error is None else [[error], [overconfidence]]
    np.testing.assert_allclose(weighted, expected, atol=1e-12)


def test_bins_hold_every_served_detection_once() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 1, 500)
    found = calibration(confidence_bins(matches([0] * 500, list(scores), list(rng.random(500) < scores)), 0.25))
    assert sum(one.num for one in found.bins) == int((scores >= 0.25).sum())
    assert len(found.bins) == NUM_BINS - 2
    for one in found.bins:
        assert one.lower <= one.mean_confidence <= one.upper
        assert abs(one.precision - one.mean_confidence) < 0.2  # it was drawn so


def test_a_model_that_tells_the_truth_errs_less_than_a_boaster() -> None:
    rng = np.random.default_rng(1)
    scores = rng.uniform(0.3, 1, 4000)
    honest = confidence_bins(matches([0] * 4000, list(scores), list(rng.random(4000) < scores)), 0.25)
    boaster = confidence_bins(matches([0] * 4000, list(scores), list(rng.random(4000) < scores - 0.2)), 0.25)
    assert calibration(honest).error < 0.03
    assert calibration(boaster).error == pytest.approx(0.2, abs=0.03)
    assert calibration(boaster).overconfidence == calibration(boaster).error
    shy = confidence_bins(matches([0] * 4000, list(scores), list(rng.random(4000) < scores + 0.2)), 0.25)
    assert calibration(shy).overconfidence < 0.02 < calibration(shy).error


def test_a_weight_is_as_good_as_copies() -> None:
    rng = np.random.default_rng(2)
    images, scores, right = rng.integers(0, 4, 60), rng.uniform(0, 1, 60), rng.random(60) < 0.5
    weights = np.array([0, 1, 2, 3])
    bins = confidence_bins(matches(list(images), list(scores), list(right), 4), 0.25)
    copies = np.repeat(np.arange(60), weights[images])
    copied = confidence_bins(matches([0] * len(copies), list(scores[copies]), list(right[copies])), 0.25)
    assert calibration_errors(bins, weights[None])[0][0] == pytest.approx(calibration(copied).error)


def test_of_real_matches_a_second_box_on_an_object_is_wrong() -> None:
    truth = ground_truth(["car"], [LabelledFrame("a", "cam", "clip", "day", [[0, 0, 40, 40]], [0])])
    found = predictions(["a"], [[[0, 0, 40, 40], [1, 0, 41, 40]]], [[0.95, 0.85]], [[0, 0]])
    bins = calibration(confidence_bins(match_all(truth, found), 0.25)).bins
    assert [(one.precision, one.num) for one in bins] == [(0.0, 1), (1.0, 1)]

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.comparison.matching import IOU_THRESHOLDS, match_all, match_greedily
from flows.geometry import iou_xyxy


@pytest.mark.parametrize(
    ("box", "other", "iou"),
    [
        ([0, 0, 0, 0], [0, 0, 0, 0], 0.0),
        ([0, 0, 2, 2], [2, 0, 4, 2], 0.0),
        ([0, 0, 2, 2], [5, 5, 6, 6], 0.0),
        ([0, 0, 2, 2], [0, 0, 2, 2], 1.0),
        ([0, 0, 2, 2], [1, 0, 3, 2], 1 / 3),
        ([0, 0, 4, 4], [1, 1, 3, 3], 0.25),
    ],
)
def test_iou(box: list[float], other: list[float], iou: float) -> None:
    boxes, others = np.array([box], dtype=float), np.array([other], dtype=float)
    assert iou_xyxy(boxes, others)[0, 0] == pytest.approx(iou)
    assert iou_xyxy(others, boxes)[0, 0] == pytest.approx(iou)


def test_iou_of_nothing_has_the_right_shape() -> None:
    assert iou_xyxy(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)


@pytest.mark.parametrize(
    ("ious", "ignored", "at_50"),
    [
        (np.zeros((0, 2)), None, []),
        (np.zeros((2, 0)), None, [-1, -1]),
        ([[0.49]], None, [-1]),
        ([[0.5]], None, [0]),
        ([[0.6], [0.9]], None, [0, -1]),  # the first has the higher score: the second is a double detection
        ([[0.6, 0.8], [0.0, 0.9]], None, [1, -1]),  # greedy, not optimal
        ([[0.7, 0.7]], None, [1]),  # the last of equals
        ([[0.9, 0.6]], [True, False], [1]),  # one that counts goes before a better one that does not
        ([[0.9, 0.3]], [True, False], [0]),
    ],
)
def test_greedy_matching(ious: list[list[float]], ignored: list[bool] | None, at_50: list[int]) -> None:
    taken = match_greedily(np.asarray(ious, dtype=float), None if ignored is None else np.array(ignored))
    assert taken[0].tolist() == at_50


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 12), st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_no_object_is_taken_twice_nor_below_the_threshold(num_detections: int, num_objects: int, seed: int) -> None:
    ious = np.random.default_rng(seed).random((num_detections, num_objects))
    for threshold, taken in zip(IOU_THRESHOLDS, match_greedily(ious), strict=True):
        rows = np.flatnonzero(taken >= 0)
        assert len(set(taken[rows])) == len(rows)
        assert (ious[rows, taken[rows]] >= threshold).all()


def test_at_most_a_hundred_detections_of_a_class_enter(make_truth, make_predictions) -> None:
    truth = make_truth(np.random.default_rng(0), cameras=1, clips=1, frames=1, classes=1)
    found = make_predictions(np.random.default_rng(1), truth, most_false=1000)
    assert len(found.scores) > 100
    matches = match_all(truth, found)
    assert matches.scores.tolist() == sorted(found.scores, reverse=True)[:100]

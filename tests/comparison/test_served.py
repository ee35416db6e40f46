from __future__ import annotations

import numpy as np
import pytest

from flows.comparison.matching import match_all
from flows.comparison.predictions import LabelledFrame, ground_truth, predictions
from flows.comparison.served import precision_recall, served_counts, unmatched_boxes

CAR, BUS, FAR = [0, 0, 40, 40], [100, 0, 180, 60], [500, 500, 540, 540]


def two_frames(boxes, scores, class_ids):
    frames = [
        LabelledFrame("a", "cam", "clip", "day", [CAR, BUS], [0, 1]),
        LabelledFrame("b", "cam", "clip", "day", [CAR], [0]),
    ]
    return ground_truth(["car", "bus"], frames), predictions(["a", "b"], boxes, scores, class_ids)


@pytest.mark.parametrize(
    ("boxes", "scores", "class_ids", "precision", "recall"),
    [
        ([[], []], [[], []], [[], []], np.nan, 0.0),
        ([[CAR, BUS], [CAR]], [[0.9, 0.9], [0.9]], [[0, 1], [0]], 1.0, 1.0),
        ([[CAR, BUS], [CAR]], [[0.9, 0.2], [0.25]], [[0, 1], [0]], 1.0, 2 / 3),
        ([[CAR, FAR], [FAR]], [[0.9, 0.9], [0.9]], [[0, 1], [0]], 1 / 3, 1 / 3),
        ([[CAR, BUS], []], [[0.9, 0.9], []], [[1, 0], []], 0.0, 0.0),
        ([[CAR, CAR], []], [[0.9, 0.8], []], [[0, 0], []], 0.5, 1 / 3),
    ],
)
def test_precision_and_recall_at_a_quarter(boxes, scores, class_ids, precision: float, recall: float) -> None:
    truth, found = two_frames(boxes, scores, class_ids)
    counts = served_counts(match_all(truth, found), 0.25)
    values = precision_recall(counts, np.ones((1, 2), dtype=int))
    np.testing.assert_allclose(np.ravel(values), [precision, recall])


def test_low_scores_do_not_change_what_is_served(make_truth, make_predictions) -> None:
    rng = np.random.default_rng(0)
    truth = make_truth(rng)
    found = make_predictions(rng, truth)
    whole = served_counts(match_all(truth, found), 0.4)
    cut = served_counts(match_all(truth, found.at_confidence(0.4)), 0.4)
    assert (whole.num_hits == cut.num_hits).all()
    assert (whole.num_detections == cut.num_detections).all()


@pytest.mark.parametrize(
    ("boxes", "scores", "class_ids", "expected"),
    [
        ([[], []], [[], []], [[], []], [2, 1]),
        ([[BUS, CAR], [CAR]], [[0.9, 0.8], [0.9]], [[1, 0], [0]], [0, 0]),
        ([[CAR, BUS], [CAR]], [[0.9, 0.8], [0.9]], [[1, 0], [0]], [4, 0]),
        ([[CAR], [CAR, FAR]], [[0.9], [0.9, 0.9]], [[0], [0, 0]], [1, 1]),
    ],
)
def test_boxes_without_a_partner(boxes, scores, class_ids, expected: list[int]) -> None:
    truth, found = two_frames(boxes, scores, class_ids)
    assert unmatched_boxes(found, truth).tolist() == expected

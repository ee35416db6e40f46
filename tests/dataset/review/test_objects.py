from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flows.dataset.review.objects import (
    Floats,
    covered_share,
    hidden_share,
    match_boxes,
    merge_detections,
)
from tests.dataset.review.review_scenes import detected

PLACE, NEAR, FAR = (10.0, 10.0, 50.0, 40.0), (11.0, 10.0, 51.0, 41.0), (200.0, 10.0, 240.0, 40.0)
sides = st.integers(0, 60)
boxes = st.lists(st.tuples(sides, sides, sides, sides), max_size=7).map(
    lambda rows: np.array([(x, y, x + w, y + h) for x, y, w, h in rows], dtype=np.float64).reshape(-1, 4)
)


def test_nothing_found_is_no_object() -> None:
    objects = merge_detections(detected(), {0: 0}, 3)
    assert objects.boxes_xyxy.shape == (0, 4)
    assert objects.class_scores.shape == (0, 3)
    assert objects.scores.shape == objects.class_ids.shape == (0,)


def test_classes_at_one_place_are_one_object_with_a_score_each() -> None:
    objects = merge_detections(detected((7, 0.3, NEAR), (2, 0.6, PLACE), (2, 0.9, FAR)), {2: 0, 7: 1}, 2)
    assert objects.boxes_xyxy.tolist() == [list(FAR), list(PLACE)]
    assert objects.class_scores.tolist() == [[0.9, 0.0], [0.6, 0.3]]
    assert objects.class_ids.tolist() == [0, 0]


def test_two_classes_of_the_reference_for_one_of_the_data_are_one_object() -> None:
    objects = merge_detections(detected((1, 0.3, NEAR), (3, 0.6, PLACE)), {1: 0, 3: 0}, 1)
    assert objects.class_scores.tolist() == [[0.6]]


def test_two_of_the_same_class_that_suppression_kept_are_two() -> None:
    assert len(merge_detections(detected((2, 0.6, PLACE), (2, 0.5, NEAR)), {2: 0}, 1).boxes_xyxy) == 2


def test_classes_without_correspondence_are_ignored() -> None:
    assert len(merge_detections(detected((0, 0.9, PLACE)), {2: 0}, 1).boxes_xyxy) == 0


@given(boxes, boxes)
def test_pairs_are_one_to_one_and_overlap_enough(first: Floats, second: Floats) -> None:
    partner, overlap = match_boxes(first, second, 0.3)
    taken = partner[partner >= 0]
    assert len(set(taken.tolist())) == len(taken)
    assert (overlap[partner >= 0] >= 0.3).all()
    assert (overlap[partner < 0] == 0).all()


@given(boxes)
def test_boxes_are_their_own_best_partners(some: Floats) -> None:
    _, overlap = match_boxes(some, some, 0.3)
    solid = np.prod(some[:, 2:] - some[:, :2], axis=1) > 0
    assert np.allclose(overlap[solid], 1)


@given(boxes, boxes)
def test_shares_lie_between_0_and_1(first: Floats, second: Floats) -> None:
    for share in (covered_share(first, second), hidden_share(first)):
        assert ((share >= 0) & (share <= 1)).all()


def test_how_much_is_covered() -> None:
    half = np.array([[0.0, 0, 10, 5]])
    whole = np.array([[0.0, 0, 10, 10]])
    assert covered_share(whole, half).tolist() == [0.5]
    assert hidden_share(np.concatenate([whole, half])).tolist() == [0.5, 1.0]

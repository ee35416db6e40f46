"""The confusion matrix: what is taken for what, and in step with precision and recall."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.comparison.confusion import confusion
from flows.comparison.matching import match_all
from flows.comparison.predictions import GroundTruth, LabelledFrame, Predictions, ground_truth, predictions
from flows.comparison.served import served_counts
from tests.comparison.conftest import draw_predictions, draw_truth

CLASSES = ("car", "bus", "truck")


def scene(objects: list[tuple[int, int]], found: list[tuple[int, int, float]]) -> tuple[GroundTruth, Predictions]:
    """One image; objects are (class, place), detections (class, place, confidence), at the same place the same box."""

    def boxes(places: list[int]) -> np.ndarray:
        return np.array([[100.0 * place, 0.0, 100.0 * place + 40, 40.0] for place in places]).reshape(-1, 4)

    places, classes = [place for _, place in objects], [class_id for class_id, _ in objects]
    frame = LabelledFrame("a.jpg", "cam", "clip", "day", boxes(places), np.array(classes, dtype=np.int64))
    scores = np.array([score for _, _, score in found])
    found_classes = np.array([class_id for class_id, _, _ in found], dtype=np.int64)
    return ground_truth(CLASSES, [frame]), predictions(
        ["a.jpg"], [boxes([place for _, place, _ in found])], [scores], [found_classes]
    )


def counted(objects: list[tuple[int, int]], found: list[tuple[int, int, float]]) -> dict[tuple[str, str], int]:
    cells = confusion(*scene(objects, found), conf=0.25).cells
    return {(one.labelled or "nothing", one.found or "nothing"): one.num for one in cells}


@pytest.mark.parametrize(
    ("objects", "found", "expected"),
    [
        ([(0, 0)], [(0, 0, 0.9)], {("car", "car"): 1}),
        ([(0, 0)], [(1, 0, 0.9)], {("car", "bus"): 1}),
        ([(0, 0)], [(0, 0, 0.2)], {("car", "nothing"): 1}),
        ([], [(2, 0, 0.9)], {("nothing", "truck"): 1}),
        ([], [], {}),
        # a better detection of another class does not take the object from the right one
        ([(0, 0)], [(1, 0, 0.9), (0, 0, 0.3)], {("car", "car"): 1, ("nothing", "bus"): 1}),
        ([(0, 0), (1, 1)], [(1, 0, 0.9), (0, 1, 0.8)], {("car", "bus"): 1, ("bus", "car"): 1}),
    ],
)
def test_each_box_lands_in_its_cell(objects, found, expected) -> None:
    assert counted(objects, found) == expected


def test_matrix_has_a_row_and_a_column_for_nothing() -> None:
    found = confusion(*scene([(0, 0), (1, 1)], [(0, 0, 0.9), (2, 1, 0.8), (2, 5, 0.7)]), conf=0.25)
    assert found.matrix(CLASSES) == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    assert found.count("bus", "truck") == 1
    assert found.count("bus", "car") == 0


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), conf=st.sampled_from([0.1, 0.25, 0.5]))
def test_it_adds_up_to_what_precision_and_recall_count(seed: int, conf: float) -> None:
    rng = np.random.default_rng(seed)
    truth = draw_truth(rng, cameras=3, frames=3)
    found = draw_predictions(rng, truth)
    counts = np.array(confusion(truth, found, conf).matrix(truth.classes))
    served = served_counts(match_all(truth, found), conf)
    assert np.trace(counts[:-1, :-1]) == served.num_hits.sum()
    assert counts[:, :-1].sum() == served.num_detections.sum()
    assert counts[:-1].sum() == served.num_objects.sum()
    assert counts[-1, -1] == 0

"""Who was taken for whom: every label and every detection counts once, right ones are never called confused."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.training.report.confusion import best_frames, confusion_table, count_confusions, find_pairs, worst_frames
from flows.training.report.judged import JudgedFrame

NUM_CLASSES = 3
Floats = npt.NDArray[np.float64]


def boxes(*corners: tuple[float, float, float, float]) -> Floats:
    return np.array(corners, dtype=np.float64).reshape(-1, 4)


def ids(*numbers: int) -> npt.NDArray[np.int64]:
    return np.array(numbers, dtype=np.int64)


def frame(
    image: str, right: int = 0, missed: int = 0, false: int = 0, confused: int = 0, camera: str = "a"
) -> JudgedFrame:
    return JudgedFrame(
        image=image,
        camera=camera,
        slice="day",
        num_right=right,
        num_confused=confused,
        num_missed=missed,
        num_false=false,
        labels=(),
        found=(),
    )


@pytest.mark.parametrize(
    ("labels", "label_ids", "found", "found_ids", "expected"),
    [
        (boxes(), ids(), boxes(), ids(), np.zeros((4, 4))),
        (boxes((0, 0, 10, 10)), ids(1), boxes(), ids(), {(1, 3): 1}),
        (boxes(), ids(), boxes((0, 0, 10, 10)), ids(2), {(3, 2): 1}),
        (boxes((0, 0, 10, 10)), ids(1), boxes((0, 0, 10, 10)), ids(1), {(1, 1): 1}),
        (boxes((0, 0, 10, 10)), ids(1), boxes((0, 0, 10, 10)), ids(0), {(1, 0): 1}),
        (boxes((0, 0, 10, 10)), ids(1), boxes((50, 0, 60, 10)), ids(1), {(1, 3): 1, (3, 1): 1}),
        # A better placed box of another class does not take the label from one of its own class.
        (boxes((0, 0, 10, 10)), ids(1), boxes((0, 0, 10, 10), (0, 0, 10, 9)), ids(0, 1), {(1, 1): 1, (3, 0): 1}),
        # Found twice: once right, once false.
        (boxes((0, 0, 10, 10)), ids(1), boxes((0, 0, 10, 9), (0, 0, 10, 10)), ids(1, 1), {(1, 1): 1, (3, 1): 1}),
    ],
)
def test_each_case_of_a_frame(labels, label_ids, found, found_ids, expected) -> None:
    wanted = np.zeros((4, 4))
    for place, number in expected.items() if isinstance(expected, dict) else ():
        wanted[place] = number
    pairs = find_pairs(labels, label_ids, found, found_ids, 0.5)
    np.testing.assert_array_equal(count_confusions(label_ids, found_ids, *pairs, NUM_CLASSES), wanted)


BOX = st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 15), st.integers(1, 15), st.integers(0, 2))


@given(st.lists(BOX, max_size=12), st.lists(BOX, max_size=12))
def test_every_label_and_detection_is_counted_once(labelled: list, found: list) -> None:
    def split(given_boxes: list) -> tuple[Floats, npt.NDArray[np.int64]]:
        return boxes(*((x, y, x + w, y + h) for x, y, w, h, _ in given_boxes)), ids(*(one[4] for one in given_boxes))

    (labels, label_ids), (detections, found_ids) = split(labelled), split(found)
    of_label, of_found = find_pairs(labels, label_ids, detections, found_ids, 0.5)
    counts = count_confusions(label_ids, found_ids, of_label, of_found, NUM_CLASSES)
    np.testing.assert_array_equal(counts[:-1].sum(axis=1), np.bincount(label_ids, minlength=NUM_CLASSES))
    np.testing.assert_array_equal(counts[:, :-1].sum(axis=0), np.bincount(found_ids, minlength=NUM_CLASSES))
    assert counts[-1, -1] == 0
    for label, detection in enumerate(of_label):
        assert detection < 0 or of_found[detection] == label
    assert (of_found >= 0).sum() == (of_label >= 0).sum()


def test_worst_frames_are_those_of_most_errors_and_not_of_one_camera_alone() -> None:
    crowd = [frame(f"a{number}", missed=20 - number, camera="a") for number in range(6)]
    others = [frame("b0", false=2, camera="b"), frame("c0", confused=1, camera="c"), frame("d0", right=3, camera="d")]
    assert [one.image for one in worst_frames([*others, *crowd], 4)] == ["a0", "a1", "b0", "c0"]
    assert [one.image for one in worst_frames(crowd, 4)] == ["a0", "a1", "a2", "a3"]
    assert worst_frames([others[2]], 4) == ()


def test_best_frames_have_most_objects_and_fewest_errors() -> None:
    frames = [frame("one", right=1), frame("many", right=9, missed=1), frame("empty"), frame("bad", right=2, false=9)]
    assert [one.image for one in best_frames(frames, 2)] == ["many", "one"]
    assert best_frames([frame("empty"), frame("missed", missed=3)], 2) == ()


def test_the_table_shows_every_count_and_escapes_names() -> None:
    html = confusion_table(("<car>", "bus"), ((5, 1, 2), (0, 0, 0), (1234, 0, 0)))
    assert "&lt;car&gt;" in html
    assert "<car>" not in html
    assert "1,234" in html
    assert html.count("<td") == 9
    assert ">–</td>" in html  # nothing found as nothing

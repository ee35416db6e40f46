from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.geometry import iou_xyxy
from flows.rollout.agreement import agreement

CAR = [0.0, 0.0, 100.0, 100.0, 0.9, 0]
TRUCK = [200.0, 0.0, 300.0, 100.0, 0.8, 1]


@pytest.mark.parametrize(
    ("ours", "others", "expected"),
    [
        ([], [], 1.0),
        ([CAR], [], 0.0),
        ([], [CAR], 0.0),
        ([CAR], [CAR], 1.0),
        ([CAR, TRUCK], [CAR], 2 / 3),
        ([CAR], [[*CAR[:5], 1]], 0.0),  # another class
        ([CAR], [[0.0, 0.0, 100.0, 51.0, 0.1, 0]], 1.0),  # IoU .51
        ([CAR], [[0.0, 0.0, 100.0, 49.0, 0.9, 0]], 0.0),  # IoU .49
        ([CAR], [CAR, CAR], 2 / 3),  # one to one
        ([[5.0, 5.0, 5.0, 5.0, 0.9, 0]], [[5.0, 5.0, 5.0, 5.0, 0.9, 0]], 0.0),  # boxes without area match nothing
    ],
)
def test_agreement_is_f1_of_matched_boxes(ours: list, others: list, expected: float) -> None:
    assert agreement(ours, others) == pytest.approx(expected)


@pytest.mark.parametrize(
    "broken",
    [
        *(None, "boxes", [[1, 2, 3]], [[1, 2, 3, 4, 5, math.nan]], [CAR, [1]], [["a"] * 6], [[[1.0] * 6]], ["abcdef"]),
        *([[math.inf, 0, 0, 0, -math.inf, 0]], [[10**400, 0, 1, 1, 1, 0]], [[None] * 6], [{}]),
    ],
)
def test_what_is_no_answer_is_refused(broken) -> None:
    with pytest.raises(ValueError):
        agreement([CAR], broken)


BOX = st.tuples(st.integers(0, 90), st.integers(0, 90), st.integers(1, 60), st.integers(1, 60), st.integers(0, 1))


def rows(boxes: list[tuple[int, ...]]) -> list[list[float]]:
    return [[float(x), float(y), float(x + w), float(y + h), 0.5, k] for x, y, w, h, k in boxes]


@given(st.lists(BOX, max_size=8), st.lists(BOX, max_size=8))
def test_agreement_is_a_share_and_full_with_oneself(ours, others) -> None:
    assert 0.0 <= agreement(rows(ours), rows(others)) <= 1.0
    assert agreement(rows(ours), rows(ours)) == 1.0


def with_arrays(ours: list[list[float]], others: list[list[float]]) -> float:
    """The same by the boxes' arrays that evaluation uses."""
    if not ours or not others:
        return float(not ours and not others)
    rows, columns = np.array(ours), np.array(others)
    ious = iou_xyxy(rows[:, :4], columns[:, :4]) * (rows[:, 5][:, None] == columns[:, 5][None, :])
    matched = 0
    for row in np.argsort(-rows[:, 4], kind="stable"):
        best = int(ious[row].argmax())
        if ious[row, best] >= 0.5:
            matched += 1
            ious[:, best] = -1.0
    return 2 * matched / (len(ours) + len(others))


@given(st.lists(st.tuples(BOX, st.integers(0, 9)), max_size=12), st.lists(BOX, max_size=12))
def test_agreement_is_what_arrays_say(ours, others) -> None:
    scored = [
        [*row[:4], score / 10, row[5]] for row, (_, score) in zip(rows([box for box, _ in ours]), ours, strict=True)
    ]
    assert agreement(scored, rows(others)) == pytest.approx(with_arrays(scored, rows(others)))

"""Pairing of boxes: what counts as the same, and what does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flows.exporting.parity import ParityReport, Tolerance, find_partners, judge_pairs

BOX = [10.0, 10.0, 30.0, 20.0, 0.9, 1.0]


def rows(*boxes: list[float]) -> np.ndarray:
    return np.array(boxes, dtype=np.float32).reshape(-1, 6)


@pytest.mark.parametrize(
    ("some", "others", "expected"),
    [
        (rows(), rows(), []),
        (rows(), rows(BOX), []),
        (rows(BOX), rows(), []),
        (rows(BOX), rows(BOX), [(1.0, 0.0)]),
        (rows(BOX), rows([10, 10, 30, 20, 0.7, 1]), [(1.0, 0.2)]),
        (rows(BOX), rows([10, 10, 30, 20, 0.9, 0]), []),
        (rows(BOX), rows([10, 10, 26, 20, 0.9, 1]), [(0.8, 0.0)]),
        (rows(BOX), rows([25, 10, 45, 20, 0.9, 1]), []),
        (rows(BOX), rows([10, 10, 26, 20, 0.9, 1], BOX), [(1.0, 0.0)]),
        (rows([5, 5, 5, 5, 0.5, 0]), rows([5, 5, 5, 5, 0.5, 0]), []),
    ],
)
def testfind_partners(some: np.ndarray, others: np.ndarray, expected: list[tuple[float, float]]) -> None:
    found = find_partners(some, others)
    assert len(found) == len(expected)
    np.testing.assert_allclose(np.array(found).reshape(-1, 2), np.array(expected).reshape(-1, 2), atol=1e-6)


@given(arrays(np.float32, (5, 4), elements=st.floats(0, 100, width=32)))
def test_every_box_with_an_area_is_its_own_partner(corners: np.ndarray) -> None:
    low, high = np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:]) + 1
    boxes = np.column_stack([low, high, np.linspace(0.1, 0.9, 5), np.arange(5)]).astype(np.float32)
    assert all(iou == pytest.approx(1, abs=1e-4) and difference == 0 for iou, difference in find_partners(boxes, boxes))
    assert len(find_partners(boxes, boxes)) == 5


def judge(looking: int, ious: list[float], differences: list[float]) -> ParityReport:
    return judge_pairs(2, looking, list(zip(ious, differences, strict=True)), Tolerance(0.99, 0.02))


@pytest.mark.parametrize(
    ("looking", "ious", "differences", "passed"),
    [
        (0, [], [], False),  # nothing seen proves nothing
        (4, [1.0] * 4, [0.0] * 4, True),
        (4, [0.98] * 4, [0.0] * 4, False),
        (4, [1.0] * 4, [0.03] * 4, False),
        (40, [1.0] * 37, [0.0] * 37, False),  # too many without a partner
        (40, [1.0] * 39, [0.0] * 39, True),
    ],
)
def test_verdict(looking: int, ious: list[float], differences: list[float], passed: bool) -> None:
    assert judge(looking, ious, differences).passed is passed

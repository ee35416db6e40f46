"""Boxes as arrays: the properties that any correct formula has."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flows.geometry import area_xyxy, iou_xyxy, outside_px, xywhn_to_xyxy, xyxy_to_xywhn

SIZES = st.tuples(st.integers(1, 4096), st.integers(1, 4096))
Boxes = npt.NDArray[np.float64]


def box_arrays(low: float, high: float) -> st.SearchStrategy[Boxes]:
    """Boxes with ordered corners between `low` and `high`."""
    raw = arrays(np.float64, st.tuples(st.integers(0, 6), st.just(4)), elements=st.floats(low, high, width=32))
    return raw.map(lambda a: np.concatenate([np.minimum(a[:, :2], a[:, 2:]), np.maximum(a[:, :2], a[:, 2:])], axis=1))


def clipped_to(boxes: Boxes, size_wh: tuple[int, int]) -> Boxes:
    return np.clip(boxes, 0.0, [*size_wh, *size_wh])


@pytest.mark.parametrize("function", [xywhn_to_xyxy, xyxy_to_xywhn])
def test_no_boxes_stay_no_boxes(function: object) -> None:
    assert callable(function)
    assert function([], (10, 10)).shape == (0, 4)


def test_no_boxes_have_no_figures() -> None:
    assert outside_px([], (10, 10)).shape == (0,)
    assert area_xyxy([]).shape == (0,)
    assert iou_xyxy([], [[0, 0, 1, 1]]).shape == (0, 1)


@pytest.mark.parametrize("shape", [(4,), (2, 5), (1, 2, 4)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        area_xyxy(np.ones(shape))


def test_known_corners() -> None:
    np.testing.assert_allclose(xywhn_to_xyxy([[0.5, 0.5, 1, 1], [0, 0, 0.5, 0.2]], (200, 100)),
                               [[0, 0, 200, 100], [-50, -10, 50, 10]])  # fmt: skip


@given(box_arrays(-5000, 5000), SIZES)
def test_fractions_and_pixels_are_inverse(boxes: Boxes, size_wh: tuple[int, int]) -> None:
    np.testing.assert_allclose(xywhn_to_xyxy(xyxy_to_xywhn(boxes, size_wh), size_wh), boxes, atol=1e-6)


@given(box_arrays(-5000, 5000), SIZES)
def test_clipped_boxes_lie_inside_and_are_no_larger(boxes: Boxes, size_wh: tuple[int, int]) -> None:
    clipped = clipped_to(boxes, size_wh)
    assert (outside_px(clipped, size_wh) == 0).all()
    assert (area_xyxy(clipped) <= area_xyxy(boxes)).all()
    np.testing.assert_array_equal(clipped_to(clipped, size_wh), clipped)


@given(box_arrays(-5000, 5000), SIZES)
def test_only_boxes_inside_are_left_as_they_are(boxes: Boxes, size_wh: tuple[int, int]) -> None:
    unchanged = (clipped_to(boxes, size_wh) == boxes).all(axis=1)
    np.testing.assert_array_equal(outside_px(boxes, size_wh) == 0, unchanged)


@pytest.mark.parametrize(
    ("box", "outside"),
    [([0, 0, 20, 10], 0), ([-3, 0, 5, 5], 3), ([0, 0, 21, 14], 4), ([30, 2, 40, 4], 20), ([1, -2, 2, -1], 2)],
)
def test_how_far_a_box_reaches_outside(box: list[float], outside: float) -> None:
    assert outside_px([box], (20, 10)).tolist() == [outside]


@given(box_arrays(0, 1000), box_arrays(0, 1000))
def test_overlap_is_a_symmetric_share(first: Boxes, second: Boxes) -> None:
    iou = iou_xyxy(first, second)
    assert iou.shape == (len(first), len(second))
    assert ((iou >= 0) & (iou <= 1 + 1e-9)).all()
    np.testing.assert_array_equal(iou, iou_xyxy(second, first).T)


@given(box_arrays(0, 1000))
def test_a_box_overlaps_itself_wholly_unless_it_is_empty(boxes: Boxes) -> None:
    np.testing.assert_allclose(np.diag(iou_xyxy(boxes, boxes)), (area_xyxy(boxes) > 0).astype(float))


def test_known_overlap() -> None:
    np.testing.assert_allclose(iou_xyxy([[0, 0, 10, 10]], [[5, 0, 15, 10], [10, 0, 20, 10]]), [[1 / 3, 0]])

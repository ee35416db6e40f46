"""Boxes of many frames at once come out as frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.dataset.labels import LabelBox, boxes_xyxy
from flows.dataset.manifest import overlaps
from flows.dataset.manifest.overlaps import box_columns, largest_overlaps
from flows.geometry import iou_xyxy, outside_px, touches_border

fraction = st.floats(-0.2, 1.2, allow_nan=False)
side = st.floats(0.001, 0.9)
box = st.builds(LabelBox, st.integers(0, 3), fraction, fraction, side, side, st.integers(1, 99))
frames = st.lists(
    st.tuples(st.lists(box, max_size=6), st.tuples(st.integers(1, 2000), st.integers(1, 2000))), max_size=5
)


@settings(max_examples=150, deadline=None)
@given(frames=frames)
def test_columns_are_those_of_each_frame_alone(frames: list[tuple[list[LabelBox], tuple[int, int]]]) -> None:
    found = box_columns([boxes for boxes, _ in frames], [size for _, size in frames])
    start = 0
    for index, (boxes, size_wh) in enumerate(frames):
        rows = slice(start, start + len(boxes))
        start += len(boxes)
        corners = boxes_xyxy(boxes, size_wh)
        assert (found["frame"][rows] == index).all()
        assert list(found["line"][rows]) == [one.line for one in boxes]
        np.testing.assert_array_equal(np.stack([found[c][rows] for c in ("x1", "y1", "x2", "y2")], axis=1), corners)
        np.testing.assert_array_equal(found["outside_px"][rows], outside_px(corners, size_wh))
        np.testing.assert_array_equal(found["truncated"][rows], touches_border(corners, size_wh))
        apart = iou_xyxy(corners, corners)
        np.fill_diagonal(apart, 0.0)
        np.testing.assert_array_equal(found["max_iou"][rows], apart.max(axis=1, initial=0.0))
        for row, line in enumerate(found["max_iou_line"][rows]):
            assert line == (boxes[apart[row].argmax()].line if apart[row].max() > 0 else 0)
    assert all(len(values) == start for values in found.values())


@pytest.mark.parametrize("pairs_at_once", [1, 7, 1000])
def test_the_size_of_a_step_changes_nothing(pairs_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 80, (40, 2))
    corners, counts = np.concatenate([low, low + rng.uniform(1, 40, (40, 2))], axis=1), np.array([0, 25, 1, 0, 14])
    whole = largest_overlaps(corners, counts)
    monkeypatch.setattr(overlaps, "_PAIRS_AT_ONCE", pairs_at_once)
    for once, again in zip(whole, largest_overlaps(corners, counts), strict=True):
        np.testing.assert_array_equal(once, again)


def test_no_frames_and_no_boxes_give_empty_columns() -> None:
    for found in (box_columns([], []), box_columns([[], []], [(4, 3), (0, 0)])):
        assert {len(values) for values in found.values()} == {0}
        assert found["line"].dtype == np.int64 and found["truncated"].dtype == np.bool_

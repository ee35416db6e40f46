"""Letterbox geometry there and back, and class-aware NMS."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.detector.boxes import (
    Letterbox,
    clip_boxes,
    iou_matrix,
    letterbox_boxes,
    select_detections,
    suppress,
    unletterbox_boxes,
)

sides = st.integers(1, 5000)
input_sides = st.sampled_from([32, 64, 320, 640, 1280])


@given(sides, sides, input_sides, input_sides)
def test_content_fits_centred_and_touches_two_borders(width: int, height: int, input_w: int, input_h: int) -> None:
    box = Letterbox.fit((width, height), (input_w, input_h))
    assert 1 <= box.content_wh[0] <= input_w
    assert 1 <= box.content_wh[1] <= input_h
    assert box.content_wh[0] == input_w or box.content_wh[1] == input_h
    right, bottom = input_w - box.left - box.content_wh[0], input_h - box.top - box.content_wh[1]
    assert 0 <= right - box.left <= 1
    assert 0 <= bottom - box.top <= 1


@pytest.mark.parametrize(
    ("image_wh", "input_wh", "content_wh", "corner"),
    [
        ((640, 640), (640, 640), (640, 640), (0, 0)),
        ((1280, 720), (640, 640), (640, 360), (0, 140)),
        ((720, 1280), (320, 320), (180, 320), (70, 0)),
        ((100, 50), (320, 320), (320, 160), (0, 80)),
        ((101, 50), (320, 320), (320, 158), (0, 81)),
        ((5000, 1), (32, 32), (32, 1), (0, 15)),
    ],
)
def test_known_letterboxes(image_wh, input_wh, content_wh, corner) -> None:
    box = Letterbox.fit(image_wh, input_wh)
    assert (box.content_wh, (box.left, box.top)) == (content_wh, corner)


@given(sides, sides, input_sides, st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=5))
def test_mapping_there_and_back_is_the_identity(width, height, side, shares) -> None:
    box = Letterbox.fit((width, height), (side, side))
    boxes = np.array(shares, dtype=np.float32).reshape(-1, 4) * np.array([width, height] * 2, dtype=np.float32)
    tolerance = max(width, height) * 1e-5 + max(width, height) / side * 1e-3
    np.testing.assert_allclose(unletterbox_boxes(letterbox_boxes(boxes, box), box), boxes, atol=tolerance)


def test_clip_keeps_boxes_inside() -> None:
    boxes = np.array([[-5, -1, 700, 20], [10, 10, 20, 500]], dtype=np.float32)
    assert clip_boxes(boxes, (640, 360)).tolist() == [[0, 0, 640, 20], [10, 10, 20, 360]]
    assert clip_boxes(np.zeros((0, 4), dtype=np.float32), (640, 360)).shape == (0, 4)


def candidates(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, dtype=np.float32).reshape(-1, 6)


A, B, C = (0, 0, 10, 10), (0, 0, 10, 9), (100, 0, 110, 10)


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([], []),
        ([(*A, 0.9, 0)], [0.9]),
        ([(*A, 0.9, 0), (*B, 0.8, 0)], [0.9]),
        ([(*B, 0.8, 0), (*A, 0.9, 0)], [0.9]),
        ([(*A, 0.9, 0), (*B, 0.8, 1)], [0.9, 0.8]),
        ([(*A, 0.9, 0), (*C, 0.8, 0)], [0.9, 0.8]),
        ([(*A, 0.2, 0)], []),
        ([(*A, float("nan"), 0), (float("inf"), 0, 1, 1, 0.9, 0)], []),
        ([(5, 5, 5, 9, 0.9, 0), (5, 5, 4, 9, 0.9, 0)], []),
    ],
)
def test_select_detections(rows, kept) -> None:
    boxes, scores, class_ids = select_detections(candidates(*rows), conf=0.25, iou=0.6, max_det=100)
    assert scores.tolist() == pytest.approx(kept)
    assert boxes.shape == (len(kept), 4)
    assert class_ids.dtype == np.int64


def test_a_suppressed_box_suppresses_no_other() -> None:
    chain = candidates((0, 0, 10, 10, 0.9, 0), (4, 0, 14, 10, 0.8, 0), (8, 0, 18, 10, 0.7, 0))
    _, scores, _ = select_detections(chain, conf=0.0, iou=0.3, max_det=100)
    assert scores.tolist() == pytest.approx([0.9, 0.7])


def test_max_det_keeps_the_best() -> None:
    rows = [(20 * i, 0, 20 * i + 10, 10, 0.3 + i / 10, 0) for i in range(5)]
    _, scores, _ = select_detections(candidates(*rows), conf=0.25, iou=0.6, max_det=2)
    assert scores.tolist() == pytest.approx([0.7, 0.6])


box_rows = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2)),
    max_size=30,
)


@given(box_rows, st.floats(0, 1), st.randoms(use_true_random=False))
def test_nms_agrees_with_the_definition(rows, iou, rng) -> None:
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h, _ in rows], dtype=np.float32).reshape(-1, 4)
    scores = np.array([rng.random() for _ in rows], dtype=np.float32)
    class_ids = np.array([row[4] for row in rows], dtype=np.int64)
    overlaps = iou_matrix(boxes)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        if all(class_ids[index] != class_ids[other] or overlaps[other, index] <= iou for other in kept):
            kept.append(index)
    assert suppress(boxes, scores, class_ids, iou).tolist() == kept


@given(box_rows)
def test_iou_is_symmetric_and_one_with_itself(rows) -> None:
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h, _ in rows], dtype=np.float32).reshape(-1, 4)
    overlaps = iou_matrix(boxes)
    np.testing.assert_array_equal(overlaps, overlaps.T)
    np.testing.assert_allclose(np.diag(overlaps), 1)
    assert ((overlaps >= 0) & (overlaps <= 1)).all()

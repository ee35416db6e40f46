"""Projection and polygons."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.dataset.rendering.camera import Camera, Point2, bounds, convex_hull, pixels, polygon_area

coordinates = st.floats(-100, 100).map(lambda value: round(value, 2))
points = st.lists(st.tuples(coordinates, coordinates), max_size=20)


def camera(yaw: float = 0.0, pitch: float = 0.0) -> Camera:
    return Camera((640, 384), (0.0, 0.0, 6.0), yaw, pitch, 1.0)


def test_what_lies_straight_ahead_is_in_the_middle() -> None:
    assert camera().project((0.0, 10.0, 6.0)) == (320.0, 192.0)
    pixel = camera(yaw=math.pi / 2).project((10.0, 0.0, 6.0))
    assert pixel == pytest.approx((320.0, 192.0))


def test_right_is_right_up_is_up_and_sizes_shrink_with_distance() -> None:
    right, up = camera().project((1.0, 10.0, 6.0)), camera().project((0.0, 10.0, 7.0))
    assert right == pytest.approx((384.0, 192.0)) and up == pytest.approx((320.0, 128.0))
    assert camera().length_px(1.0, (0.0, 20.0, 6.0)) == pytest.approx(32.0)


@given(st.floats(0.01, 0.5), st.floats(-1, 1))
def test_far_ground_approaches_the_horizon_from_below(pitch: float, yaw: float) -> None:
    view = camera(yaw, pitch)
    rows = [view.project((far * math.sin(yaw), far * math.cos(yaw), 0.0)) for far in (20.0, 200.0, 1e7)]
    heights = [row[1] for row in rows if row is not None]
    assert heights == sorted(heights, reverse=True)
    assert heights[-1] == pytest.approx(view.horizon_px, abs=0.1)


def test_what_is_behind_is_not_seen_and_polygons_are_cut() -> None:
    assert camera().project((0.0, -5.0, 0.0)) is None
    assert camera().outline([(0.0, -5.0, 0.0), (1.0, -5.0, 0.0), (1.0, -9.0, 0.0)]) == []
    road = camera().outline([(-2.0, -5.0, 0.0), (2.0, -5.0, 0.0), (2.0, 50.0, 0.0), (-2.0, 50.0, 0.0)])
    assert len(road) == 4 and all(y > 192 for _, y in road)


@given(points)
def test_the_hull_is_convex_and_holds_every_point(some: list[Point2]) -> None:
    hull = convex_hull(some)
    assert set(hull) <= set(some)
    if len(hull) >= 3:
        for (ax, ay), (bx, by) in zip(hull, hull[1:] + hull[:1], strict=True):
            assert all((bx - ax) * (y - ay) - (by - ay) * (x - ax) >= -1e-6 for x, y in some)
        assert bounds(hull) == bounds(some)


@pytest.mark.parametrize(
    ("polygon", "area"), [([(0, 0), (2, 0)], 0), ([(0, 0), (2, 0), (0, 2)], 2), ([(0, 0), (3, 0), (3, 2), (0, 2)], 6)]
)
def test_polygon_area(polygon: list[Point2], area: float) -> None:
    assert polygon_area(polygon) == area


def test_pixels_round_half_up_on_a_finer_canvas() -> None:
    assert pixels([(0.25, -0.25), (1.2, 1.3)], 2) == [(1, 0), (2, 3)]

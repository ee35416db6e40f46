"""A fixed camera over a flat world: pinhole projection, near clipping, convex outlines.

World coordinates are metres: x east, y north, z up, the ground is z = 0. Frame coordinates are pixels, origin top
left. Angles are radians: yaw turns clockwise from north, pitch looks down.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

Point2 = tuple[float, float]
Point3 = tuple[float, float, float]

NEAR_M = 0.6


@dataclass(frozen=True)
class Camera:
    """Where a camera stands and looks; `focal` is in units of the frame's width."""

    size_wh: tuple[int, int]
    position: Point3
    yaw: float
    pitch: float
    focal: float
    _turn: tuple[float, float, float, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        turn = (math.sin(self.yaw), math.cos(self.yaw), math.sin(self.pitch), math.cos(self.pitch))
        object.__setattr__(self, "_turn", turn)

    @cached_property
    def focal_px(self) -> float:
        """Focal length in pixels."""
        return self.focal * self.size_wh[0]

    @cached_property
    def horizon_px(self) -> float:
        """Row of the horizon; negative when it lies above the frame."""
        _, _, sin_pitch, cos_pitch = self._turn
        return self.size_wh[1] / 2 - self.focal_px * sin_pitch / cos_pitch

    def view(self, point: Point3) -> Point3:
        """A world point as (right, up, depth) seen from the camera, m."""
        sin_yaw, cos_yaw, sin_pitch, cos_pitch = self._turn
        dx, dy, dz = point[0] - self.position[0], point[1] - self.position[1], point[2] - self.position[2]
        ahead = dx * sin_yaw + dy * cos_yaw
        return dx * cos_yaw - dy * sin_yaw, ahead * sin_pitch + dz * cos_pitch, ahead * cos_pitch - dz * sin_pitch

    def project(self, point: Point3) -> Point2 | None:
        """The pixel at which a world point appears, or None where it is behind the near plane."""
        seen = self.view(point)
        return self._pixel(seen) if seen[2] >= NEAR_M else None

    def outline(self, points: Iterable[Point3]) -> list[Point2]:
        """A convex world polygon in the frame, cut at the near plane; empty when all of it is behind."""
        return [self._pixel(seen) for seen in _cut_near([self.view(point) for point in points])]

    def length_px(self, length_m: float, at: Point3) -> float:
        """How long `length_m` across the line of sight appears at a world point in front of the camera."""
        return self.focal_px * length_m / max(self.view(at)[2], NEAR_M)

    def distance_m(self, point: Point3) -> float:
        """Distance from the camera to a world point."""
        return math.dist(self.position, point)

    def contains(self, pixel: Point2, margin_px: float = 0.0) -> bool:
        """Whether a pixel lies in the frame, at least `margin_px` from its edge."""
        width, height = self.size_wh
        return margin_px <= pixel[0] <= width - margin_px and margin_px <= pixel[1] <= height - margin_px

    def _pixel(self, seen: Point3) -> Point2:
        right, up, depth = seen
        width, height = self.size_wh
        return width / 2 + self.focal_px * right / depth, height / 2 - self.focal_px * up / depth


def _cut_near(seen: list[Point3]) -> list[Point3]:
    if all(point[2] >= NEAR_M for point in seen):
        return seen
    kept: list[Point3] = []
    for start, end in zip(seen, seen[1:] + seen[:1], strict=True):
        if start[2] >= NEAR_M:
            kept.append(start)
        if (start[2] >= NEAR_M) != (end[2] >= NEAR_M):
            share = (NEAR_M - start[2]) / (end[2] - start[2])
            kept.append((start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]), NEAR_M))
    return kept


def pixels(points: Iterable[Point2], scale: int = 1) -> list[tuple[int, int]]:
    """Points on an integer canvas `scale` times as fine, so that no rounding of a machine reaches the picture."""
    return [(math.floor(x * scale + 0.5), math.floor(y * scale + 0.5)) for x, y in points]


def convex_hull(points: Iterable[Point2]) -> list[Point2]:
    """The smallest convex polygon around the points (Andrew's monotone chain, 1979)."""
    ordered = sorted(set(points))
    if len(ordered) < 3:
        return ordered
    lower, upper = _chain(ordered), _chain(ordered[::-1])
    return lower[:-1] + upper[:-1]


def _chain(ordered: Sequence[Point2]) -> list[Point2]:
    chain: list[Point2] = []
    for x, y in ordered:
        while len(chain) >= 2:
            (x0, y0), (x1, y1) = chain[-2], chain[-1]
            if (x1 - x0) * (y - y0) > (y1 - y0) * (x - x0):
                break
            chain.pop()
        chain.append((x, y))
    return chain


def polygon_area(points: Sequence[Point2]) -> float:
    """Area of a simple polygon."""
    pairs = zip(points, [*points[1:], *points[:1]], strict=True)
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in pairs)) / 2


def bounds(points: Sequence[Point2]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of at least one point."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)

"""Roads with lanes, and what a camera sees of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from flows.dataset.rendering.camera import Camera, Point2, Point3

FAR_M = 70.0  # beyond, a car is too small to be found
LANE_W = 3.5


@dataclass(frozen=True)
class Lane:
    """A lane: metres right of its road's middle, and whether traffic runs along the road (1) or against it (-1)."""

    offset_m: float
    direction: int


@dataclass(frozen=True)
class Road:
    """An arc of constant curvature (1/m, positive to the right) through `origin`, where it has `heading`."""

    origin: Point2
    heading: float
    curvature: float
    lanes: tuple[Lane, ...]
    start_m: float = -60.0
    end_m: float = 190.0

    @property
    def half_w(self) -> float:
        """Half the width of the asphalt."""
        return max(abs(lane.offset_m) for lane in self.lanes) + LANE_W / 2 + 0.4

    def at(self, along_m: float, offset_m: float = 0.0) -> tuple[float, float, float]:
        """(x, y, heading) of a point `along_m` from the origin and `offset_m` right of the middle."""
        turn = self.heading + self.curvature * along_m
        if self.curvature == 0:
            x, y = along_m * math.sin(turn), along_m * math.cos(turn)
        else:
            x = (math.cos(self.heading) - math.cos(turn)) / self.curvature
            y = (math.sin(turn) - math.sin(self.heading)) / self.curvature
        x, y = self.origin[0] + x, self.origin[1] + y
        return x + offset_m * math.cos(turn), y - offset_m * math.sin(turn), turn

    def ground(self, along_m: float, offset_m: float = 0.0) -> Point3:
        """The same point as a world point on the ground."""
        x, y, _ = self.at(along_m, offset_m)
        return x, y, 0.0


@dataclass(frozen=True)
class Layout:
    """A camera and the roads before it; `crossing_m` is where the second crosses the first, in metres along it."""

    camera: Camera
    roads: tuple[Road, ...]
    crossing_m: float | None
    urban: bool

    @cached_property
    def seen(self) -> tuple[tuple[Road, Lane, float], ...]:
        """Points of all lanes that the camera sees nearer than FAR_M, every 2 m: (road, lane, along_m)."""
        return tuple(self._lane_points())

    def meeting(self, road: Road) -> tuple[float, Road] | None:
        """Where along a road the other one crosses it, and that other road."""
        if self.crossing_m is None:
            return None
        return (self.crossing_m, self.roads[1]) if road is self.roads[0] else (0.0, self.roads[0])

    def gap_m(self, x: float, y: float) -> float:
        """Distance from a point to the nearest kerb, negative on a road."""
        distances = []
        for road in self.roads:
            for along in range(int(road.start_m), int(road.end_m), 4):
                px, py, _ = road.at(along)
                distances.append(math.hypot(px - x, py - y) - road.half_w)
        return min(distances)

    def _lane_points(self) -> Iterator[tuple[Road, Lane, float]]:
        for road in self.roads:
            for lane in road.lanes:
                for along in range(int(road.start_m), int(road.end_m), 2):
                    point = road.ground(along, lane.offset_m)
                    pixel = self.camera.project(point)
                    if pixel is not None and self.camera.contains(pixel) and self.camera.view(point)[2] < FAR_M:
                        yield road, lane, float(along)

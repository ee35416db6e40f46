"""Solids that scenes are built from: hexahedra with painted faces, and discs.

Local coordinates are metres: x forward, y left, z up, the origin on the ground below the middle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from flows.dataset.rendering.camera import Point2, Point3

Colour = tuple[int, int, int]
Glow = Literal["", "head", "tail", "cabin", "sign", "window", "lamp"]
Side = Literal["front", "rear", "left", "right", "top"]

_CORNERS: dict[Side, tuple[int, int]] = {"front": (1, 0), "rear": (3, 2), "left": (0, 3), "right": (1, 2)}
WHEEL_CORNERS = 12


@dataclass(frozen=True)
class Panel:
    """A flat convex polygon; `glow` names the lamp it is when lights are on."""

    points: tuple[Point3, ...]
    normal: Point3
    colour: Colour
    glow: Glow = ""


@dataclass(frozen=True)
class Paint:
    """A rectangle painted on a side, from (u0, v0) to (u1, v1).

    u runs from the front to the rear on the flanks and across elsewhere, v from the bottom to the top, or from the
    front to the rear on top.
    """

    side: Side | Literal["flanks"]
    u0: float
    u1: float
    v0: float
    v1: float
    colour: Colour
    glow: Glow = ""


@dataclass(frozen=True)
class Solid:
    """Panels of one convex body and the corners of its hull; a higher `level` covers a lower one."""

    panels: tuple[Panel, ...]
    corners: tuple[Point3, ...]
    middle: Point3
    level: int = 0


@dataclass(frozen=True)
class Placed:
    """Solids standing at a place of the world, their forward axis turned to `heading`, clockwise from north."""

    solids: tuple[Solid, ...]
    x: float
    y: float
    heading: float
    half_l: float
    half_w: float

    def world(self, points: Iterable[Point3]) -> list[Point3]:
        """Local points in the world."""
        sin, cos, x0, y0 = math.sin(self.heading), math.cos(self.heading), self.x, self.y
        return [(x0 + x * sin - y * cos, y0 + x * cos + y * sin, z) for x, y, z in points]

    def direction(self, vector: Point3) -> Point3:
        """A local direction in the world."""
        sin, cos = math.sin(self.heading), math.cos(self.heading)
        return vector[0] * sin - vector[1] * cos, vector[0] * cos + vector[1] * sin, vector[2]

    def footprint(self) -> list[Point2]:
        """The four corners on the ground, in turn."""
        ahead, aside = self.half_l, self.half_w
        corners = ((ahead, aside, 0.0), (ahead, -aside, 0.0), (-ahead, -aside, 0.0), (-ahead, aside, 0.0))
        return [(x, y) for x, y, _ in self.world(corners)]


@dataclass(frozen=True)
class Block:
    """A hexahedron between two heights: the top rectangle may be smaller, shifted, or lower at the front."""

    x0: float
    x1: float
    half_w: float
    z0: float
    z1: float
    top_x0: float | None = None
    top_x1: float | None = None
    top_half_w: float | None = None
    front_z1: float | None = None
    y: float = 0.0

    def corners(self) -> list[Point3]:
        """Bottom then top: front left, front right, rear right, rear left."""
        top_x0 = self.x0 if self.top_x0 is None else self.top_x0
        top_x1 = self.x1 if self.top_x1 is None else self.top_x1
        top_w = self.half_w if self.top_half_w is None else self.top_half_w
        front = self.z1 if self.front_z1 is None else self.front_z1
        low, high = self.half_w, top_w
        return [
            (self.x1, self.y + low, self.z0),
            (self.x1, self.y - low, self.z0),
            (self.x0, self.y - low, self.z0),
            (self.x0, self.y + low, self.z0),
            (top_x1, self.y + high, front),
            (top_x1, self.y - high, front),
            (top_x0, self.y - high, self.z1),
            (top_x0, self.y + high, self.z1),
        ]


def solid(block: Block, colour: Colour, paints: Iterable[Paint] = (), level: int = 0) -> Solid:
    """A block of one colour with rectangles painted on its sides."""
    corners = block.corners()
    quads = {side: _quad(corners, side) for side in ("front", "rear", "left", "right", "top")}
    middle = _mean(corners)
    normals = {side: _outward(quad, middle) for side, quad in quads.items()}
    panels = [Panel(quad, normals[side], colour) for side, quad in quads.items()]
    for paint in paints:
        for side in ("left", "right") if paint.side == "flanks" else (paint.side,):
            panels.append(Panel(_rectangle(quads[side], paint), normals[side], paint.colour, paint.glow))
    return Solid(tuple(panels), tuple(corners), middle, level)


def wheels(
    axles_x: Iterable[float], half_w: float, radius: float, hub: Colour = (150, 152, 155), level: int = 9
) -> Solid:
    """Both wheels of each axle, as discs on the flanks with a dark arch around them."""
    panels: list[Panel] = []
    corners: list[Point3] = []
    for x in axles_x:
        for y in (half_w + 0.01, -half_w - 0.01):
            normal = (0.0, 1.0 if y > 0 else -1.0, 0.0)
            panels.append(Panel(disc(x, y, radius + 0.02, 1.14 * radius), normal, (18, 18, 20)))
            panels.append(Panel(disc(x, y, radius, radius), normal, (34, 34, 36)))
            panels.append(Panel(disc(x, y, radius, 0.55 * radius), normal, hub))
            corners += panels[-2].points[::2]
    return Solid(tuple(panels), tuple(corners), (0.0, 0.0, radius), level)


def disc(x: float, y: float, z: float, radius: float) -> tuple[Point3, ...]:
    """A circle in the plane of a flank, cut off at the ground."""
    angles = [2 * math.pi * (corner + 0.5) / WHEEL_CORNERS for corner in range(WHEEL_CORNERS)]
    return tuple((x + radius * math.cos(a), y, max(0.0, z + radius * math.sin(a))) for a in angles)


def dot(first: Point3, second: Point3) -> float:
    """Scalar product."""
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


def unit(vector: Point3) -> Point3:
    """The vector at length one."""
    length = math.sqrt(dot(vector, vector)) or 1.0
    return vector[0] / length, vector[1] / length, vector[2] / length


def shade(colour: Colour, factor: float) -> Colour:
    """A colour made darker or brighter, in whole steps."""
    step = math.floor(factor * 256 + 0.5)
    return min(255, colour[0] * step >> 8), min(255, colour[1] * step >> 8), min(255, colour[2] * step >> 8)


def _quad(corners: Sequence[Point3], side: Side) -> tuple[Point3, Point3, Point3, Point3]:
    if side == "top":
        return corners[4], corners[5], corners[6], corners[7]
    first, second = _CORNERS[side]
    return corners[first], corners[second], corners[second + 4], corners[first + 4]


def _outward(quad: Sequence[Point3], middle: Point3) -> Point3:
    first, second = _minus(quad[2], quad[0]), _minus(quad[3], quad[1])
    normal = unit(
        (
            first[1] * second[2] - first[2] * second[1],
            first[2] * second[0] - first[0] * second[2],
            first[0] * second[1] - first[1] * second[0],
        )
    )
    if dot(normal, _minus(_mean(quad), middle)) < 0:
        return -normal[0], -normal[1], -normal[2]
    return normal


def _rectangle(quad: Sequence[Point3], paint: Paint) -> tuple[Point3, ...]:
    corners = ((paint.u0, paint.v0), (paint.u1, paint.v0), (paint.u1, paint.v1), (paint.u0, paint.v1))
    return tuple(_between(quad, u, v) for u, v in corners)


def _between(quad: Sequence[Point3], u: float, v: float) -> Point3:
    (ax, ay, az), (bx, by, bz), (cx, cy, cz), (dx, dy, dz) = quad
    a, b, c, d = (1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v
    return a * ax + b * bx + c * cx + d * dx, a * ay + b * by + c * cy + d * dy, a * az + b * bz + c * cz + d * dz


def _mean(points: Sequence[Point3]) -> Point3:
    x, y, z = (sum(point[axis] for point in points) / len(points) for axis in range(3))
    return x, y, z


def _minus(first: Point3, second: Point3) -> Point3:
    return first[0] - second[0], first[1] - second[1], first[2] - second[2]

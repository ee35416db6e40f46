"""What a camera watches: roads with lanes, and the houses, trees and lamps beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from flows.dataset.scene_camera import Camera, Point2, Point3
from flows.dataset.scene_solids import Block, Colour, Paint, Solid, shade, solid
from flows.dataset.scene_vehicles import pick

FAR_M = 70.0
LANE_W = 3.5
DRAWS = 40  # tries per kind of roadside object


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
class Placed:
    """Solids standing at a place, their forward axis turned to `heading`."""

    solids: tuple[Solid, ...]
    x: float
    y: float
    heading: float
    half_l: float
    half_w: float

    def world(self, point: Point3) -> Point3:
        """A local point in the world."""
        sin, cos = math.sin(self.heading), math.cos(self.heading)
        return self.x + point[0] * sin - point[1] * cos, self.y + point[0] * cos + point[1] * sin, point[2]

    def direction(self, vector: Point3) -> Point3:
        """A local direction in the world."""
        sin, cos = math.sin(self.heading), math.cos(self.heading)
        return vector[0] * sin - vector[1] * cos, vector[0] * cos + vector[1] * sin, vector[2]

    def footprint(self) -> list[Point2]:
        """The four corners on the ground, in turn."""
        l, w = self.half_l, self.half_w
        return [self.world(corner)[:2] for corner in ((l, w, 0.0), (l, -w, 0.0), (-l, -w, 0.0), (-l, w, 0.0))]


@dataclass(frozen=True)
class Tree:
    """A trunk with a crown of leaf clusters, each (right, up, radius, brightness)."""

    base: Point3
    height_m: float
    colour: Colour
    clusters: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Site:
    """A camera and everything that does not move before it."""

    camera: Camera
    roads: tuple[Road, ...]
    crossing_m: float | None
    houses: tuple[Placed, ...]
    trees: tuple[Tree, ...]
    poles: tuple[Placed, ...]
    lamps: tuple[Point3, ...]
    urban: bool
    sun: Point3

    def lane_points(self) -> Iterator[tuple[Road, Lane, float]]:
        """Points of all lanes that the camera sees nearer than FAR_M, every 2 m: (road, lane, along_m)."""
        for road in self.roads:
            for lane in road.lanes:
                for along in range(int(road.start_m), int(road.end_m), 2):
                    if sees(self.camera, road.ground(along, lane.offset_m)):
                        yield road, lane, float(along)


def sees(camera: Camera, point: Point3) -> bool:
    """Whether a world point is in the frame and nearer than FAR_M."""
    pixel = camera.project(point)
    return pixel is not None and camera.contains(pixel) and camera.view(point)[2] < FAR_M


@dataclass(frozen=True)
class _View:
    """Kind of road, then the camera: height and place (m), yaw and pitch (degrees), focal length (frame widths)."""

    kind: str
    height: float
    x: float
    y: float
    yaw: float
    pitch: float
    focal: float
    curvature: float = 0.0
    urban: bool = True


VIEWS = (
    _View("avenue", 7.5, 0.5, -4, 0.0, 14.0, 1.25),
    _View("avenue", 6.5, -12.0, -4, 24.0, 13.0, 1.15),
    _View("street", 6.0, 8.5, -2, -19.0, 14.0, 1.25, 0.006, urban=False),
    _View("crossing", 9.0, -12.0, 2, 23.0, 17.0, 1.05),
    _View("oneway", 8.0, -1.0, 0, 2.0, 13.5, 1.2, -0.004, urban=False),
    _View("avenue", 6.0, -20.0, 12, 63.0, 15.0, 1.0),
    _View("street", 7.0, -9.0, -4, 16.0, 15.0, 1.15, -0.007, urban=False),
    _View("crossing", 10.0, 10.5, -1, -16.0, 18.0, 1.1),
)
_LANES = {
    "avenue": (Lane(1.75, 1), Lane(5.25, 1), Lane(-1.75, -1), Lane(-5.25, -1)),
    "street": (Lane(1.75, 1), Lane(-1.75, -1)),
    "oneway": (Lane(0.0, 1), Lane(3.5, 1), Lane(-3.5, 1)),
    "crossing": (Lane(1.75, 1), Lane(5.25, 1), Lane(-1.75, -1), Lane(-5.25, -1)),
}


def draw_site(index: int, size_wh: tuple[int, int], rng: np.random.Generator) -> Site:
    """The site of camera `index`: one of eight kinds of view, moved and turned a little by draw."""
    view = VIEWS[index % len(VIEWS)]
    camera = Camera(
        size_wh,
        (view.x + _spread(rng, 0.6), view.y + _spread(rng, 1.5), view.height * (1 + _spread(rng, 0.06))),
        math.radians(view.yaw + _spread(rng, 1.5)),
        math.radians(view.pitch + _spread(rng, 0.8)),
        view.focal * (1 + _spread(rng, 0.05)),
    )
    roads = [Road((0.0, 0.0), 0.0, view.curvature * (1 + _spread(rng, 0.25)), _LANES[view.kind])]
    crossing = None
    if view.kind == "crossing":
        crossing = 33.0 + _spread(rng, 2.0)
        roads.append(Road((0.0, crossing), math.pi / 2, 0.0, _LANES["street"], -120.0, 120.0))
    angle = 2 * math.pi * rng.random()
    sun = (0.62 * math.sin(angle), 0.62 * math.cos(angle), 0.78)
    bare = Site(camera, tuple(roads), crossing, (), (), (), (), view.urban, sun)
    poles, lamps = _lamp_poles(bare, rng)
    houses = tuple(_houses(bare, rng))
    trees = tuple(_trees(bare, houses, rng))
    return Site(camera, tuple(roads), crossing, houses, trees, poles, lamps, view.urban, sun)


def _spread(rng: np.random.Generator, most: float) -> float:
    return most * (2 * rng.random() - 1)


def _lamp_poles(site: Site, rng: np.random.Generator) -> tuple[tuple[Placed, ...], tuple[Point3, ...]]:
    road, steel = site.roads[0], (112, 116, 120)
    poles, lamps = [], []
    phase = 12 + 12 * rng.random()
    for number in range(6):
        for side in (1, -1) if site.urban else (1,):
            along = phase + 28 * number + (7 if side < 0 else 0)
            if site.crossing_m is not None and abs(along - site.crossing_m) < 7:
                continue
            offset = side * (road.half_w + 1.0)
            x, y, turn = road.at(along, offset)
            if site.camera.distance_m((x, y, 4.0)) < 16 or road.curvature * side > 0:
                continue
            arm = Block(-0.06, 0.06, 1.1, 7.9, 8.02, y=side * 1.1)
            head = Block(-0.22, 0.22, 0.45, 7.80, 7.95, y=side * 2.2)
            lamp = Block(-0.2, 0.2, 0.42, 7.74, 7.80, y=side * 2.2)
            light = [Paint(face, 0, 1, 0, 1, (214, 214, 206), "lamp") for face in ("front", "rear", "flanks")]
            solids = (
                solid(Block(-0.09, 0.09, 0.09, 0.0, 8.0), steel),
                solid(arm, steel, level=1),
                solid(head, shade(steel, 0.8), level=2),
                solid(lamp, (214, 214, 206), light, level=2),
            )
            poles.append(Placed(solids, x, y, turn, 0.15, 0.15))
            lamps.append(road.ground(along, offset - side * 2.4))
    return tuple(poles), tuple(lamps)


def _clear(site: Site, x: float, y: float, radius: float) -> bool:
    for road in site.roads:
        for along in range(int(road.start_m), int(road.end_m), 4):
            px, py, _ = road.at(along)
            if math.hypot(px - x, py - y) < radius + road.half_w + 3.0:
                return False
    return True


def _hides_lane(site: Site, corners: list[Point3]) -> bool:
    seen = [pixel for corner in corners if (pixel := site.camera.project(corner)) is not None]
    if len(seen) < len(corners):
        return True
    left, right = min(p[0] for p in seen), max(p[0] for p in seen)
    top, bottom = min(p[1] for p in seen), max(p[1] for p in seen)
    depth = min(site.camera.view(corner)[2] for corner in corners)
    for road, lane, along in site.lane_points():
        x, y, _ = road.at(along, lane.offset_m)
        if site.camera.view((x, y, 0.0))[2] <= depth:
            continue
        for z in (0.0, 3.0):
            pixel = site.camera.project((x, y, z))
            if pixel and left - 8 < pixel[0] < right + 8 and top - 8 < pixel[1] < bottom + 8:
                return True
    return False


def _houses(site: Site, rng: np.random.Generator) -> Iterator[Placed]:
    taken: list[tuple[float, float, float]] = []
    for _ in range(4 * DRAWS if site.urban else DRAWS // 4):
        road = pick(rng, site.roads)
        side, along = pick(rng, (1, -1)), 20 + 150 * rng.random()
        half_l, half_w = 5 + 5 * rng.random(), 5 + 3 * rng.random()
        x, y, turn = road.at(along, side * (road.half_w + half_w + 6 + 4 * rng.random()))
        height = pick(rng, (7.0, 10.0, 13.0, 16.0, 19.0)) if site.urban else 6.5
        house = Placed(_house(half_l, half_w, height, rng), x, y, turn, half_l, half_w)
        radius = math.hypot(half_l, half_w)
        corners = [(*corner, z) for corner in house.footprint() for z in (0.0, height)]
        far_enough = all(math.hypot(x - a, y - b) > 0.8 * (radius + c) for a, b, c in taken)
        if far_enough and _clear(site, x, y, half_w) and not _hides_lane(site, corners):
            taken.append((x, y, radius))
            yield house


_WALLS: tuple[Colour, ...] = (
    (186, 172, 150), (164, 112, 92), (196, 192, 184), (148, 150, 156), (206, 186, 146), (140, 120, 108),
)  # fmt: skip


def _house(half_l: float, half_w: float, height: float, rng: np.random.Generator) -> tuple[Solid, ...]:
    wall = pick(rng, _WALLS)
    floors = max(1, round((height - 3.6) / 3.1))
    paints = [Paint(side, 0, 1, 0, 3.4 / height, shade(wall, 0.72)) for side in ("front", "rear", "flanks")]
    for side, width in (("front", half_w), ("rear", half_w), ("left", half_l), ("right", half_l)):
        columns = max(2, round(2 * width / 2.8))
        for column in range(columns):
            u0, u1 = (column + 0.24) / columns, (column + 0.76) / columns
            shop = (70, 84, 96) if rng.integers(3) else (120, 96, 70)
            paints.append(Paint(side, u0 - 0.14 / columns, u1 + 0.14 / columns, 0.3 / height, 2.7 / height, shop))  # type: ignore[arg-type]
            for floor in range(floors):
                low = 3.9 + 3.1 * floor
                glow = "cabin" if rng.integers(3) == 0 else ""
                pane = pick(rng, ((74, 90, 108), (88, 104, 120), (62, 76, 92)))
                paints.append(Paint(side, u0, u1, low / height, (low + 1.7) / height, pane, glow))  # type: ignore[arg-type]
    roof = Block(-half_l - 0.3, half_l + 0.3, half_w + 0.3, height, height + 0.5)
    return (
        solid(Block(-half_l, half_l, half_w, 0.0, height), wall, paints),
        solid(roof, shade(wall, 0.8), level=1),
    )


def _trees(site: Site, houses: tuple[Placed, ...], rng: np.random.Generator) -> Iterator[Tree]:
    for _ in range(DRAWS * (2 if site.urban else 8)):
        road = pick(rng, site.roads)
        side, along = pick(rng, (1, -1)), 8 + 150 * rng.random()
        beyond = (3.0 + 3.0 * rng.random()) if site.urban else (3.5 + 50 * rng.random() * rng.random())
        x, y, _turn = road.at(along, side * (road.half_w + beyond))
        height = 4.5 + 5 * rng.random()
        tree = _tree((x, y, 0.0), height, rng)
        reach = 0.34 * height
        corners = [(x + dx, y, z) for dx in (-reach, reach) for z in (0.0, height)]
        beside = all(math.hypot(x - h.x, y - h.y) > 0.8 * math.hypot(h.half_l, h.half_w) for h in houses)
        if beside and _clear(site, x, y, -1.5) and not _hides_lane(site, corners):
            yield tree


def _tree(base: Point3, height: float, rng: np.random.Generator) -> Tree:
    colour = pick(rng, ((62, 92, 44), (74, 104, 50), (52, 84, 46), (92, 108, 52)))
    clusters = []
    for number in range(26):
        up = 0.38 + 0.52 * rng.random()
        reach = 0.30 * (1 - abs(up - 0.6) / 0.5)
        brightness = 0.66 + 0.42 * (number / 26) + 0.12 * rng.random()
        clusters.append((_spread(rng, reach) * height, up * height, (0.09 + 0.08 * rng.random()) * height, brightness))
    return Tree(base, height, colour, tuple(clusters))

"""What stands beside the roads: lamps, houses, trees, placed so that they hide no lane."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from flows.dataset.rendering.camera import Point2, Point3
from flows.dataset.rendering.roads import Layout
from flows.dataset.rendering.solids import Block, Colour, Paint, Placed, Side, Solid, shade, solid
from flows.dataset.rendering.vehicles import pick

STEEL: Colour = (112, 116, 120)
LENS: Colour = (214, 214, 206)
WALLS: tuple[Colour, ...] = (
    (186, 172, 150), (164, 112, 92), (196, 192, 184), (148, 150, 156), (206, 186, 146), (140, 120, 108),
)  # fmt: skip
PANES: tuple[Colour, ...] = ((74, 90, 108), (88, 104, 120), (62, 76, 92))
LEAVES: tuple[Colour, ...] = ((62, 92, 44), (74, 104, 50), (52, 84, 46), (92, 108, 52))


@dataclass(frozen=True)
class Tree:
    """A trunk with a crown of leaf clusters, each (right, up, radius, brightness)."""

    base: Point3
    height_m: float
    colour: Colour
    clusters: tuple[tuple[float, float, float, float], ...]


def spread(rng: np.random.Generator, most: float) -> float:
    """A number between -most and most."""
    return most * (2 * rng.random() - 1)


def draw_lamps(layout: Layout, rng: np.random.Generator) -> tuple[tuple[Placed, ...], tuple[Point2, ...]]:
    """Lamp posts along the first road, and the places that they light."""
    road = layout.roads[0]
    posts, lit = [], []
    phase = 12 + 12 * rng.random()
    for number in range(6):
        for side in (1, -1) if layout.urban else (1,):
            along = phase + 28 * number + (7 if side < 0 else 0)
            offset = side * (road.half_w + 1.0)
            x, y, turn = road.at(along, offset)
            in_crossing = layout.crossing_m is not None and abs(along - layout.crossing_m) < 9
            # a post close to the camera would cut the view in two, one inside a bend would stand before the road
            in_view = layout.camera.distance_m((x, y, 4.0)) < 16 or road.curvature * side > 0
            if not in_crossing and not in_view:
                posts.append(Placed(_post(side), x, y, turn, 0.15, 0.15))
                lit.append(road.at(along, offset - side * 2.4)[:2])
    return tuple(posts), tuple(lit)


def _post(side: int) -> tuple[Solid, ...]:
    light = [Paint(face, 0, 1, 0, 1, LENS, "lamp") for face in ("front", "rear", "left", "right")]
    return (
        solid(Block(-0.09, 0.09, 0.09, 0.0, 8.0), STEEL),
        solid(Block(-0.06, 0.06, 1.1, 7.9, 8.02, y=side * 1.1), STEEL, level=1),
        solid(Block(-0.22, 0.22, 0.45, 7.80, 7.95, y=side * 2.2), shade(STEEL, 0.8), level=2),
        solid(Block(-0.2, 0.2, 0.42, 7.70, 7.80, y=side * 2.2), LENS, light, level=2),
    )


def draw_houses(layout: Layout, rng: np.random.Generator) -> tuple[Placed, ...]:
    """Houses along the roads: many and high in town, few and low outside."""
    houses: list[Placed] = []
    for _ in range(160 if layout.urban else 10):
        road, side, along = pick(rng, layout.roads), pick(rng, (1, -1)), 20 + 150 * rng.random()
        half_l, half_w = 5 + 5 * rng.random(), 5 + 3 * rng.random()
        height = pick(rng, (7.0, 10.0, 13.0, 16.0, 19.0)) if layout.urban else 6.5
        x, y, turn = road.at(along, side * (road.half_w + half_w + 6 + 4 * rng.random()))
        plot = Placed((), x, y, turn, half_l, half_w)
        corners = [(*corner, z) for corner in plot.footprint() for z in (0.0, height)]
        if not _overlaps(plot, houses) and layout.gap_m(x, y) > half_w + 3 and not _hides_lane(layout, corners):
            houses.append(Placed(_house(half_l, half_w, height, rng), x, y, turn, half_l, half_w))
    return tuple(houses)


def _overlaps(plot: Placed, houses: Sequence[Placed]) -> bool:
    reach = math.hypot(plot.half_l, plot.half_w)
    return any(
        math.hypot(plot.x - house.x, plot.y - house.y) < 0.8 * (reach + math.hypot(house.half_l, house.half_w))
        for house in houses
    )


def _hides_lane(layout: Layout, corners: Sequence[Point3]) -> bool:
    """Whether something with these corners comes between the camera and a lane, or the vehicles on it."""
    camera = layout.camera
    seen = [pixel for corner in corners if (pixel := camera.project(corner)) is not None]
    if len(seen) < len(corners):
        return True
    left, right = min(x for x, _ in seen) - 8, max(x for x, _ in seen) + 8
    top, bottom = min(y for _, y in seen) - 8, max(y for _, y in seen) + 8
    depth = min(camera.view(corner)[2] for corner in corners)
    for road, lane, along in layout.seen:
        x, y, _ = road.at(along, lane.offset_m)
        if camera.view((x, y, 0.0))[2] > depth:
            for z in (0.0, 3.0):
                pixel = camera.project((x, y, z))
                if pixel and left < pixel[0] < right and top < pixel[1] < bottom:
                    return True
    return False


def _house(half_l: float, half_w: float, height: float, rng: np.random.Generator) -> tuple[Solid, ...]:
    wall = pick(rng, WALLS)
    paints: list[Paint] = []
    widths: tuple[tuple[Side, float], ...] = (("front", half_w), ("rear", half_w), ("left", half_l), ("right", half_l))
    for side, half in widths:
        paints += _facade(side, 2 * half, height, wall, rng)
    roof = Block(-half_l - 0.3, half_l + 0.3, half_w + 0.3, height, height + 0.5)
    walls = Block(-half_l, half_l, half_w, 0.0, height)
    return solid(walls, wall, paints), solid(roof, shade(wall, 0.8), level=1)


def _facade(side: Side, width: float, height: float, wall: Colour, rng: np.random.Generator) -> Iterator[Paint]:
    """A ground floor with shops, and a window for every 2.8 m of each floor above."""
    yield Paint(side, 0, 1, 0, 3.4 / height, shade(wall, 0.72))
    columns = max(2, round(width / 2.8))
    for column in range(columns):
        left, right = (column + 0.24) / columns, (column + 0.76) / columns
        shop = pick(rng, ((70, 84, 96), (70, 84, 96), (120, 96, 70)))
        yield Paint(side, left - 0.14 / columns, right + 0.14 / columns, 0.3 / height, 2.7 / height, shop)
        for floor in range(max(1, round((height - 3.6) / 3.1))):
            low = 3.9 + 3.1 * floor
            inhabited = rng.integers(3) == 0
            pane = Paint(side, left, right, low / height, (low + 1.7) / height, pick(rng, PANES))
            yield Paint(**{**vars(pane), "glow": "window"}) if inhabited else pane


def draw_trees(layout: Layout, houses: Sequence[Placed], rng: np.random.Generator) -> tuple[Tree, ...]:
    """Trees along the roads: a row in town, a wood outside."""
    trees = []
    for _ in range(80 if layout.urban else 320):
        road, side, along = pick(rng, layout.roads), pick(rng, (1, -1)), 8 + 150 * rng.random()
        beyond = 4.0 + 3.0 * rng.random() if layout.urban else 4.0 + 50 * rng.random() * rng.random()
        x, y, _ = road.at(along, side * (road.half_w + beyond))
        height = 4.5 + 5 * rng.random()
        reach = 0.40 * height
        corners = [(x + dx, y, z) for dx in (-reach, reach) for z in (0.0, height)]
        inside = any(math.hypot(x - h.x, y - h.y) < 0.8 * math.hypot(h.half_l, h.half_w) for h in houses)
        near = layout.camera.distance_m((x, y, height)) < 14
        if not inside and not near and layout.gap_m(x, y) > 2.0 and not _hides_lane(layout, corners):
            trees.append(_tree((x, y, 0.0), height, rng))
    return tuple(trees)


def _tree(base: Point3, height: float, rng: np.random.Generator) -> Tree:
    clusters = []
    for number in range(34):
        up = 0.36 + 0.54 * rng.random()
        reach = 0.30 * (1 - abs(up - 0.6) / 0.5)
        brightness = 0.62 + 0.46 * (number / 34) + 0.14 * rng.random()
        radius = (0.10 - 0.05 * number / 34 + 0.05 * rng.random()) * height
        clusters.append((spread(rng, reach) * height, up * height, radius, brightness))
    return Tree(base, height, pick(rng, LEAVES), tuple(clusters))

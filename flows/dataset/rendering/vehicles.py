"""The vehicles of the scenes: a few bodies of each class, coloured by draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from flows.dataset.rendering.solids import Block, Colour, Paint, Solid, shade, solid, wheels

CLASSES = ("car", "truck", "bus", "motorcycle")
T = TypeVar("T")

GLASS: Colour = (44, 54, 64)
BLACK: Colour = (24, 24, 27)
LAMP: Colour = (236, 236, 226)
TAIL: Colour = (150, 24, 22)
PLATE: Colour = (222, 222, 210)

CAR_COLOURS: tuple[Colour, ...] = (
    (226, 228, 230), (200, 203, 207), (150, 154, 158), (92, 96, 102), (44, 46, 52), (30, 31, 36),
    (172, 34, 36), (38, 72, 140), (22, 44, 92), (58, 92, 72), (190, 170, 130), (110, 66, 44), (208, 140, 40),
)  # fmt: skip
TRUCK_COLOURS: tuple[Colour, ...] = (
    (230, 232, 232), (196, 44, 40), (38, 84, 160), (236, 180, 40), (60, 120, 80), (70, 74, 84),
)  # fmt: skip
BOX_COLOURS: tuple[Colour, ...] = ((234, 234, 230), (222, 224, 228), (210, 196, 160), (60, 110, 160), (180, 60, 50))
BUS_COLOURS: tuple[Colour, ...] = ((206, 40, 38), (240, 186, 36), (40, 120, 180), (60, 150, 90), (226, 226, 222))
JACKETS: tuple[Colour, ...] = ((190, 40, 36), (36, 40, 48), (40, 80, 150), (210, 200, 60), (70, 70, 76), (220, 120, 40))


@dataclass(frozen=True)
class Body:
    """What a vehicle looks like, and the room it takes, m."""

    class_id: int
    solids: tuple[Solid, ...]
    length_m: float
    half_w: float


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options."""
    return options[int(rng.integers(len(options)))]


def draw_body(class_id: int, rng: np.random.Generator) -> Body:
    """A vehicle of the class."""
    makers: tuple[Callable[[np.random.Generator], Body], ...] = (_car, _truck, _bus, _motorcycle)
    return makers[class_id](rng)


def _lamps(v0: float, v1: float, width: float, edge: float = 0.04) -> list[Paint]:
    spans = ((edge, edge + width), (1 - edge - width, 1 - edge))
    front = [Paint("front", u0, u1, v0, v1, LAMP, "head") for u0, u1 in spans]
    return front + [Paint("rear", u0, u1, v0, v1, TAIL, "tail") for u0, u1 in spans]


def _windows(u0: float, u1: float, count: int, v0: float, v1: float, gap: float, glass: Colour) -> list[Paint]:
    step = (u1 - u0) / count
    starts = [u0 + step * index for index in range(count)]
    return [Paint("flanks", u + gap / 2, u + step - gap / 2, v0, v1, glass, "cabin") for u in starts]


def _car(rng: np.random.Generator) -> Body:
    colour = pick(rng, CAR_COLOURS)
    # length, body height, roof height, cabin's rear and front at the belt, and at the roof
    length, belt, roof, rear, front, top_rear, top_front = pick(
        rng,
        (
            (4.6, 0.86, 1.44, -1.85, 1.05, -1.15, 0.15),
            (4.0, 0.88, 1.50, -1.92, 1.05, -1.62, 0.25),
            (4.7, 1.00, 1.74, -2.22, 1.05, -2.00, 0.35),
            (4.7, 0.90, 1.48, -2.28, 1.00, -1.95, 0.15),
        ),
    )
    half = length / 2
    body = Block(-half, half, 0.91, 0.24, belt, -half + 0.06, half - 0.10, 0.87, belt - 0.14)
    paints = [
        Paint("flanks", 0, 1, 0, 0.16, shade(colour, 0.35)),
        Paint("flanks", 0.40, 0.41, 0.16, 0.96, shade(colour, 0.5)),
        Paint("flanks", 0.62, 0.63, 0.16, 0.96, shade(colour, 0.5)),
        Paint("front", 0, 1, 0, 0.25, shade(colour, 0.35)),
        Paint("front", 0.28, 0.72, 0.40, 0.80, BLACK),
        Paint("front", 0.38, 0.62, 0.20, 0.38, PLATE),
        Paint("rear", 0, 1, 0, 0.25, shade(colour, 0.35)),
        Paint("rear", 0.37, 0.63, 0.35, 0.56, PLATE),
        Paint("top", 0.06, 0.94, 0.03, 0.035, shade(colour, 0.55)),
        *_lamps(0.55, 0.90, 0.22),
    ]
    cabin = Block(rear, front, 0.86, belt - 0.04, roof, top_rear, top_front, 0.64)
    glass = [
        Paint("front", 0.05, 0.95, 0.06, 0.94, GLASS),
        Paint("front", 0.10, 0.90, 0.62, 0.94, shade(GLASS, 1.5)),
        Paint("rear", 0.08, 0.92, 0.12, 0.90, GLASS),
        Paint("flanks", 0.10, 0.50, 0.12, 0.88, GLASS),
        Paint("flanks", 0.54, 0.90, 0.12, 0.88, GLASS),
    ]
    if rng.integers(4) == 0:
        glass.append(Paint("top", 0.2, 0.8, 0.15, 0.6, shade(GLASS, 0.8)))
    parts = (
        solid(body, colour, paints),
        solid(cabin, colour, glass, level=1),
        wheels((-half + 0.85, half - 0.90), 0.90, 0.32),
    )
    return Body(0, parts, length, 0.91)


def _cab(rear: float, front: float, height: float, colour: Colour) -> list[Solid]:
    block = Block(rear, front, 1.18, 0.45, height, rear, front - 0.28, 1.10)
    paints = [
        Paint("front", 0.06, 0.94, 0.50, 0.86, GLASS),
        Paint("front", 0.22, 0.78, 0.16, 0.40, BLACK),
        Paint("front", 0, 1, 0, 0.08, BLACK),
        Paint("front", 0.30, 0.70, 0.91, 0.95, (250, 180, 60), "sign"),
        Paint("flanks", 0.14, 0.70, 0.52, 0.84, GLASS),
        Paint("flanks", 0, 1, 0, 0.08, BLACK),
        *(paint for paint in _lamps(0.12, 0.24, 0.16) if paint.side == "front"),
    ]
    mirrors = [
        solid(Block(front - 0.30, front - 0.16, 0.09, 1.6, 2.2, y=side * 1.36), BLACK, level=1) for side in (1, -1)
    ]
    return [solid(block, colour, paints, level=1), *mirrors]


def _truck(rng: np.random.Generator) -> Body:
    return pick(rng, (_box_truck, _box_truck, _tipper, _trailer_truck))(rng)


def _rear_frame(rear: float, front: float) -> Solid:
    paints = [paint for paint in _lamps(0.2, 0.8, 0.16) if paint.side == "rear"]
    return solid(Block(rear, front, 1.1, 0.50, 1.02), (38, 38, 42), paints)


def _cargo_box(rear: float, front: float, height: float, rng: np.random.Generator) -> Solid:
    colour, stripe = pick(rng, BOX_COLOURS), pick(rng, TRUCK_COLOURS)
    paints = [
        Paint("flanks", 0, 1, 0, 0.05, shade(colour, 0.5)),
        Paint("flanks", 0, 1, 0.95, 1, shade(colour, 0.75)),
        Paint("rear", 0.04, 0.49, 0.05, 0.94, shade(colour, 0.90)),
        Paint("rear", 0.51, 0.96, 0.05, 0.94, shade(colour, 0.90)),
        Paint("rear", 0, 1, 0, 0.04, (190, 60, 50)),
    ]
    if rng.integers(2):
        paints.append(Paint("flanks", 0.20, 0.80, 0.35, 0.65, stripe))
    else:
        paints.append(Paint("flanks", 0, 1, 0.22, 0.34, stripe))
    return solid(Block(rear, front, 1.22, 1.0, height), colour, paints, level=1)


def _box_truck(rng: np.random.Generator) -> Body:
    length = pick(rng, (6.8, 7.8))
    half = length / 2
    parts = (
        _rear_frame(-half, half - 0.6),
        *_cab(half - 1.9, half, 2.5, pick(rng, TRUCK_COLOURS)),
        _cargo_box(-half, half - 2.05, pick(rng, (3.1, 3.4)), rng),
        wheels((-half + 1.5, half - 1.0), 1.15, 0.46),
    )
    return Body(1, parts, length, 1.22)


def _tipper(rng: np.random.Generator) -> Body:
    colour, half = pick(rng, TRUCK_COLOURS), 3.8
    bed = Block(-half, half - 2.3, 1.12, 1.0, 2.3, -half - 0.15, half - 2.2, 1.24)
    ribs = [Paint("flanks", u, u + 0.03, 0.05, 0.95, shade(colour, 0.6)) for u in (0.05, 0.27, 0.49, 0.71, 0.93)]
    load = [Paint("top", 0.07, 0.93, 0.05, 0.95, pick(rng, ((112, 92, 70), (92, 90, 86), (136, 120, 96))))]
    parts = (
        _rear_frame(-half, half - 0.6),
        *_cab(half - 1.9, half, 2.7, colour),
        solid(bed, colour, ribs + load, level=1),
        wheels((-half + 0.9, -half + 2.0, half - 1.0), 1.15, 0.5),
    )
    return Body(1, parts, 2 * half, 1.22)


def _trailer_truck(rng: np.random.Generator) -> Body:
    half = 5.6
    parts = (
        _rear_frame(-half, half - 0.6),
        *_cab(half - 2.1, half, 3.1, pick(rng, TRUCK_COLOURS)),
        _cargo_box(-half, half - 2.6, 3.7, rng),
        wheels((-half + 0.9, -half + 2.0, half - 3.6, half - 1.1), 1.15, 0.5),
    )
    return Body(1, parts, 2 * half, 1.22)


def _bus(rng: np.random.Generator) -> Body:
    colour, second, half = pick(rng, BUS_COLOURS), pick(rng, ((236, 236, 232), (60, 64, 72))), pick(rng, (4.8, 5.4))
    paints = [
        Paint("flanks", 0, 1, 0, 0.10, BLACK),
        Paint("flanks", 0, 1, 0.24, 0.32, second),
        Paint("flanks", 0.02, 0.98, 0.44, 0.86, shade(GLASS, 0.7)),
        *_windows(0.10, 0.98, 7, 0.47, 0.83, 0.016, GLASS),
        Paint("right", 0.03, 0.10, 0.08, 0.83, (58, 68, 78), "cabin"),
        Paint("right", 0.50, 0.60, 0.08, 0.83, (58, 68, 78), "cabin"),
        Paint("left", 0.02, 0.09, 0.44, 0.83, GLASS),
        Paint("front", 0.05, 0.95, 0.32, 0.84, GLASS),
        Paint("front", 0.15, 0.85, 0.88, 0.97, (250, 170, 50), "sign"),
        Paint("front", 0, 1, 0, 0.07, BLACK),
        Paint("rear", 0.12, 0.88, 0.50, 0.84, GLASS, "cabin"),
        Paint("rear", 0.15, 0.85, 0.14, 0.34, shade(colour, 0.55)),
        Paint("rear", 0, 1, 0, 0.07, BLACK),
        *_lamps(0.13, 0.21, 0.16),
    ]
    body = Block(-half, half, 1.25, 0.32, 3.05, -half + 0.05, half - 0.12, 1.20)
    units = [solid(Block(x, x + 1.5, 0.75, 3.03, 3.25), (212, 214, 214), level=2) for x in (-half + 0.8, half - 3.6)]
    parts = (solid(body, colour, paints), *units, wheels((-half + 2.4, half - 2.2), 1.24, 0.48))
    return Body(2, parts, 2 * half, 1.25)


def _motorcycle(rng: np.random.Generator) -> Body:
    colour, jacket, helmet = pick(rng, CAR_COLOURS[6:]), pick(rng, JACKETS), pick(rng, CAR_COLOURS)
    trousers = pick(rng, ((40, 44, 58), (30, 30, 34), (74, 70, 62)))
    rims = [solid(Block(x - 0.16, x + 0.16, 0.07, 0.0, 0.64), (30, 30, 32), level=0) for x in (-0.72, 0.74)]
    tail = [Paint("rear", 0.2, 0.8, 0.5, 0.95, TAIL, "tail")]
    lamp = [Paint("front", 0.1, 0.9, 0.1, 0.9, LAMP, "head")]
    parts = (
        *rims,
        wheels((-0.72, 0.74), 0.07, 0.33, hub=(120, 122, 126), level=1),
        solid(Block(-0.95, 0.55, 0.17, 0.40, 0.82, -0.98, 0.45, 0.15), colour, tail, level=2),
        solid(Block(0.58, 0.82, 0.15, 0.62, 0.98, 0.60, 0.74, 0.12), colour, lamp, level=3),
        *(
            solid(Block(-0.28, 0.22, 0.10, 0.36, 0.92, -0.28, 0.10, 0.10, y=side * 0.26), trousers, level=3)
            for side in (1, -1)
        ),
        solid(Block(-0.36, 0.06, 0.22, 0.80, 1.42, -0.20, 0.14, 0.26), jacket, level=4),
        *(
            solid(Block(-0.05, 0.50, 0.06, 1.00, 1.14, -0.02, 0.10, 0.06, y=side * 0.34), shade(jacket, 0.85), level=5)
            for side in (1, -1)
        ),
        solid(Block(0.44, 0.54, 0.40, 1.00, 1.06), BLACK, level=5),
        solid(
            Block(-0.10, 0.18, 0.13, 1.42, 1.72, -0.06, 0.12, 0.10), helmet,
            [Paint("front", 0.1, 0.9, 0.3, 0.7, GLASS), Paint("flanks", 0.0, 0.45, 0.35, 0.7, GLASS)], level=6,
        ),
    )  # fmt: skip
    return Body(3, parts, 2.1, 0.42)

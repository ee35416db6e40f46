"""The places that the cameras watch: eight kinds of view, each camera's a little different."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flows.dataset.rendering.camera import Camera, Point2, Point3
from flows.dataset.rendering.roads import Lane, Layout, Road
from flows.dataset.rendering.roadside import Tree, draw_houses, draw_lamps, draw_trees, spread
from flows.dataset.rendering.solids import Placed


@dataclass(frozen=True)
class Site:
    """A camera and everything before it that does not move; `lamps` are the places that the `posts` light."""

    layout: Layout
    houses: tuple[Placed, ...]
    trees: tuple[Tree, ...]
    posts: tuple[Placed, ...]
    lamps: tuple[Point2, ...]
    sun: Point3

    @property
    def camera(self) -> Camera:
        """The camera of the layout."""
        return self.layout.camera


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
    _View("avenue", 7.5, 0.5, -4, 0.0, 13.0, 1.25),
    _View("avenue", 6.5, -12.0, -4, 24.0, 10.5, 1.15),
    _View("street", 6.0, 8.5, -2, -19.0, 11.0, 1.25, 0.006, urban=False),
    _View("crossing", 9.0, -12.0, 2, 23.0, 16.0, 1.05),
    _View("oneway", 8.0, -1.0, -2, 2.0, 11.5, 1.15, -0.004, urban=False),
    _View("avenue", 6.0, -20.0, 12, 63.0, 12.0, 1.0),
    _View("street", 7.0, -9.0, -4, 16.0, 13.0, 1.15, -0.007, urban=False),
    _View("crossing", 10.0, 10.5, -1, -16.0, 16.5, 1.1),
)
LANES = {
    "avenue": (Lane(1.75, 1), Lane(5.25, 1), Lane(-1.75, -1), Lane(-5.25, -1)),
    "street": (Lane(1.75, 1), Lane(-1.75, -1)),
    "oneway": (Lane(0.0, 1), Lane(3.5, 1), Lane(-3.5, 1)),
    "crossing": (Lane(1.75, 1), Lane(5.25, 1), Lane(-1.75, -1), Lane(-5.25, -1)),
}


def draw_site(index: int, size_wh: tuple[int, int], rng: np.random.Generator) -> Site:
    """The site of camera `index`: the views take turns, each moved and turned a little by draw."""
    layout = _layout(VIEWS[index % len(VIEWS)], size_wh, rng)
    azimuth = 2 * math.pi * rng.random()
    posts, lamps = draw_lamps(layout, rng)
    houses = draw_houses(layout, rng)
    trees = draw_trees(layout, houses, rng)
    return Site(layout, houses, trees, posts, lamps, (0.62 * math.sin(azimuth), 0.62 * math.cos(azimuth), 0.78))


def _layout(view: _View, size_wh: tuple[int, int], rng: np.random.Generator) -> Layout:
    camera = Camera(
        size_wh,
        (view.x + spread(rng, 0.6), view.y + spread(rng, 1.5), view.height * (1 + spread(rng, 0.06))),
        math.radians(view.yaw + spread(rng, 1.5)),
        math.radians(view.pitch + spread(rng, 0.8)),
        view.focal * (1 + spread(rng, 0.05)),
    )
    main = Road((0.0, 0.0), 0.0, view.curvature * (1 + spread(rng, 0.25)), LANES[view.kind])
    if view.kind != "crossing":
        return Layout(camera, (main,), None, view.urban)
    crossing_m = 33.0 + spread(rng, 2.0)
    other = Road((0.0, crossing_m), math.pi / 2, 0.0, LANES["street"], -120.0, 120.0)
    return Layout(camera, (main, other), crossing_m, view.urban)

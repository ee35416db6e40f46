"""Vehicles' lights: beams on the road, halos around lamps, reflections on a wet road."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from flows.dataset.rendering.camera import Camera, Point2, convex_hull
from flows.dataset.rendering.painting import COARSE, FINE, Facet, fill, fill_coarse, oval
from flows.dataset.rendering.solids import Glow, Placed, shade
from flows.dataset.rendering.traffic import Vehicle
from flows.dataset.rendering.weather import GLOWS, Look

BEAM = ((15.0, 3.0, 50), (12.0, 2.4, 95), (9.0, 1.8, 150), (6.5, 1.35, 205), (4.0, 1.0, 250))  # reach, spread, level
HALO_M: dict[Glow, float] = {"head": 0.42, "tail": 0.26, "lamp": 0.7}
HALO = ((1.6, 0.10), (1.2, 0.22), (0.8, 0.40), (0.4, 0.62))  # size, strength
GLOSS = 70  # how dark a wet road mirrors a vehicle, 0 to 255


@dataclass(frozen=True)
class Seen:
    """A vehicle, or something that stands (None), as the camera sees it."""

    vehicle: Vehicle | None
    thing: Placed
    facets: list[Facet]
    hull: list[Point2]


def headlights(camera: Camera, seen: Sequence[Seen]) -> Image.Image:
    """How much headlight falls on each pixel, COARSE times as coarse as the frame; `seen` is far to near; L."""
    width, height = camera.size_wh
    beams = Image.new("L", (-(-width // COARSE), -(-height // COARSE)))
    for item in seen:
        if item.vehicle is None:
            continue
        fill_coarse(ImageDraw.Draw(beams), item.hull, 0)  # what falls on the road behind does not fall on this body
        beam = Image.new("L", beams.size)
        draw = ImageDraw.Draw(beam)
        nose = item.thing.half_l
        for reach, spread, level in BEAM:
            half = ((nose, 0.7), (nose + 0.7 * reach, spread), (nose + reach, spread / 2))
            cone = [(x, y, 0.0) for x, y in half] + [(x, -y, 0.0) for x, y in reversed(half)]
            fill_coarse(draw, camera.outline(item.thing.world(cone)), level)
        beams = ImageChops.lighter(beams, beam)
    return beams.filter(ImageFilter.BoxBlur(2))


def halos(camera: Camera, look: Look, seen: Sequence[Seen], owner_ids: npt.NDArray[np.uint8]) -> Image.Image:
    """A glow around every lamp that nothing hides, COARSE times as coarse as the frame; RGB."""
    width, height = camera.size_wh
    shining: list[tuple[Point2, Facet]] = []
    for number, item in enumerate(seen):
        for facet in item.facets:
            x = sum(point[0] for point in facet.points) / len(facet.points)
            y = sum(point[1] for point in facet.points) / len(facet.points)
            visible = 0 <= x < width and 0 <= y < height and owner_ids[int(y), int(x)] == number + 1
            if facet.glow in HALO_M and facet.glow in look.glows and visible:
                shining.append(((x, y), facet))
    canvas = Image.new("RGB", (-(-width // COARSE), -(-height // COARSE)))
    draw = ImageDraw.Draw(canvas)
    for size, strength in HALO:
        for middle, facet in shining:
            radius = size * camera.length_px(HALO_M[facet.glow], facet.at)
            oval(draw, middle, (radius, radius), shade(GLOWS[facet.glow], strength), 1 / COARSE)
    return canvas


def reflect(albedo: Image.Image, glow: Image.Image, camera: Camera, seen: Sequence[Seen]) -> None:
    """Draw what a wet road mirrors: the vehicles dimly, their lamps as streaks towards the camera."""
    mask = Image.new("L", albedo.size)
    draw, shine = ImageDraw.Draw(mask), ImageDraw.Draw(glow)
    for item in seen:
        if item.vehicle is None:
            continue
        corners = [(x, y, -0.8 * z) for part in item.thing.solids for x, y, z in part.corners]
        mirrored = [pixel for point in item.thing.world(corners) if (pixel := camera.project(point)) is not None]
        fill(draw, convex_hull(mirrored), GLOSS, FINE)
        for facet in item.facets:
            if facet.glow in ("head", "tail"):
                _streak(shine, camera, facet)
    darken(albedo, mask, (34, 38, 44))


def _streak(shine: ImageDraw.ImageDraw, camera: Camera, facet: Facet) -> None:
    x, y, z = facet.at
    ground, below = camera.project((x, y, 0.0)), camera.project((x, y, -2.4 * z))
    if ground is None or below is None:
        return
    half = max(0.8, camera.length_px(0.1, facet.at))
    for share, strength in ((1.0, 0.08), (0.75, 0.14), (0.45, 0.22)):
        end = ground[1] + share * (below[1] - ground[1])
        left, right = ground[0] - half, ground[0] + half
        corners = [(left, ground[1]), (right, ground[1]), (right, end), (left, end)]
        fill(shine, corners, shade(GLOWS[facet.glow], strength))


def darken(albedo: Image.Image, mask: Image.Image, colour: tuple[int, int, int]) -> None:
    """Blend a colour into a picture where a mask (L) says so."""
    if box := mask.getbbox():
        albedo.paste(colour, box, mask.crop(box))

"""Solids as pixels: which panels the camera sees, in what order and how bright."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import ImageDraw

from flows.dataset.rendering.camera import Camera, Point2, Point3, convex_hull, pixels
from flows.dataset.rendering.solids import Colour, Glow, Placed, dot, shade
from flows.dataset.rendering.weather import Look

FINE = 2  # colours are drawn this many times as fine as the frame, then averaged
COARSE = 4  # light is drawn this many times as coarse as the frame


@dataclass(frozen=True)
class Facet:
    """A panel as the camera sees it, in pixels of the frame; `at` is a corner of it in the world."""

    points: tuple[Point2, ...]
    colour: Colour
    glow: Glow
    at: Point3


def facets(camera: Camera, thing: Placed, look: Look, sun: Point3) -> list[Facet]:
    """The panels that face the camera, far to near."""
    seen = []
    eye = camera.position
    for part in sorted(thing.solids, key=lambda part: (part.level, -camera.distance_m(thing.world([part.middle])[0]))):
        for panel in part.panels:
            corners = thing.world(panel.points)
            corner, normal = corners[0], thing.direction(panel.normal)
            if dot(normal, (eye[0] - corner[0], eye[1] - corner[1], eye[2] - corner[2])) <= 0:
                continue
            outline = camera.outline(corners)
            if len(outline) >= 3:
                bright = look.base + look.gain * max(0.0, dot(normal, sun))
                seen.append(Facet(tuple(outline), shade(panel.colour, bright), panel.glow, corner))
    return seen


def silhouette(camera: Camera, thing: Placed) -> list[Point2]:
    """The convex outline of a thing."""
    return convex_hull(point for part in thing.solids for point in camera.outline(thing.world(part.corners)))


def shadow(camera: Camera, thing: Placed, sun: Point3) -> list[list[Point2]]:
    """What each solid darkens of the ground, the sun standing in direction `sun`."""
    shadows = []
    for part in thing.solids:
        fallen = [(x - z * sun[0] / sun[2], y - z * sun[1] / sun[2]) for x, y, z in thing.world(part.corners)]
        shadows.append(camera.outline((x, y, 0.0) for x, y in convex_hull(fallen)))
    return shadows


def fill(draw: ImageDraw.ImageDraw, outline: Sequence[Point2], colour: Colour | int, scale: int = 1) -> None:
    """Fill a polygon given in pixels of the frame on a canvas `scale` times as fine."""
    if len(outline) >= 3:
        draw.polygon(pixels(outline, scale), fill=colour)


def fill_coarse(draw: ImageDraw.ImageDraw, outline: Sequence[Point2], level: int) -> None:
    """Fill a polygon given in pixels of the frame on a canvas COARSE times as coarse."""
    fill(draw, [(x / COARSE, y / COARSE) for x, y in outline], level)


def oval(draw: ImageDraw.ImageDraw, middle: Point2, radii: Point2, colour: Colour, scale: float = 1) -> None:
    """Fill an ellipse given in pixels of the frame on a canvas `scale` times as fine."""
    (x, y), (half_w, half_h) = middle, radii
    corners = [((x - half_w) * scale, (y - half_h) * scale), ((x + half_w) * scale, (y + half_h) * scale)]
    draw.ellipse(pixels(corners), fill=colour)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """A colour between two: `share` of the second."""
    part = round(share * 256)
    red, green, blue = ((a * (256 - part) + b * part) >> 8 for a, b in zip(first, second, strict=True))
    return red, green, blue

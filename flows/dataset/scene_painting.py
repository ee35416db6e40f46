"""Solids as pixels: which panels the camera sees, in what order and how bright."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import ImageDraw

from flows.dataset.scene_camera import Camera, Point2, Point3, convex_hull, pixels
from flows.dataset.scene_site import Placed
from flows.dataset.scene_solids import Colour, Glow, dot, shade
from flows.dataset.scene_weather import Look

FINE = 2  # the albedo is drawn this many times as fine as the frame, then averaged


@dataclass(frozen=True)
class Facet:
    """A panel as the camera sees it, in pixels of the frame."""

    points: tuple[Point2, ...]
    colour: Colour
    glow: Glow
    at: Point3


def facets(camera: Camera, thing: Placed, look: Look, sun: Point3) -> list[Facet]:
    """The panels that face the camera, far to near."""
    seen = []
    solids = sorted(thing.solids, key=lambda part: (part.level, -camera.distance_m(thing.world(part.middle))))
    for panel in (panel for part in solids for panel in part.panels):
        corner = thing.world(panel.points[0])
        normal = thing.direction(panel.normal)
        eye = camera.position
        if dot(normal, (eye[0] - corner[0], eye[1] - corner[1], eye[2] - corner[2])) <= 0:
            continue
        outline = camera.outline(thing.world(point) for point in panel.points)
        if len(outline) >= 3:
            bright = look.base + look.gain * max(0.0, dot(normal, sun))
            seen.append(Facet(tuple(outline), shade(panel.colour, bright), panel.glow, corner))
    return seen


def silhouette(seen: Iterable[Facet]) -> list[Point2]:
    """The outline around some facets."""
    return convex_hull(point for facet in seen for point in facet.points)


def shadow(camera: Camera, thing: Placed, sun: Point3) -> list[list[Point2]]:
    """What each solid darkens of the ground, the sun standing in direction `sun`."""
    shadows = []
    for part in thing.solids:
        corners = [thing.world(point) for panel in part.panels for point in panel.points]
        fallen = [(x - z * sun[0] / sun[2], y - z * sun[1] / sun[2]) for x, y, z in corners]
        outline = camera.outline((x, y, 0.0) for x, y in convex_hull(fallen))
        if len(outline) >= 3:
            shadows.append(outline)
    return shadows


def fill(draw: ImageDraw.ImageDraw, outline: Sequence[Point2], colour: Colour | int, scale: int = 1) -> None:
    """Fill a polygon given in pixels of the frame on a canvas `scale` times as fine."""
    if len(outline) >= 3:
        draw.polygon(pixels(outline, scale), fill=colour)

"""One frame: the background with its traffic, lit, seen through weather and sensor; and the boxes of the vehicles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from flows.dataset.rendering.background import Background
from flows.dataset.rendering.camera import bounds, polygon_area
from flows.dataset.rendering.lamps import Seen, darken, halos, headlights, reflect
from flows.dataset.rendering.painting import FINE, facets, fill, shadow, silhouette
from flows.dataset.rendering.roads import FAR_M
from flows.dataset.rendering.site import Site
from flows.dataset.rendering.solids import Placed
from flows.dataset.rendering.traffic import Vehicle, far_to_near
from flows.dataset.rendering.weather import GLOWS, Look, hazy, illuminate, noisy, rainy, shining

MIN_VISIBLE = 0.35
MIN_SIDE_PX = 8
UNDER_BODY = 150  # darkness below a vehicle, 0 to 255


@dataclass(frozen=True)
class SceneBox:
    """A labelled vehicle: corners in pixels of the frame, inside it, and the share of its outline that shows."""

    class_id: int
    vehicle: int
    xyxy: tuple[int, int, int, int]
    visible: float


def draw_frame(
    site: Site, background: Background, look: Look, vehicles: Sequence[Vehicle], time_s: float, rng: np.random.Generator
) -> tuple[Image.Image, list[SceneBox]]:
    """The picture (RGB) at a time of the clip, and the boxes of the vehicles that show in it."""
    camera = site.camera
    seen = _look_at(site, look, vehicles, time_s)
    albedo, glow, owners = background.albedo.copy(), background.glow.copy(), Image.new("L", camera.size_wh)
    _cast_shadows(albedo, site, look, seen)
    if look.wet:
        reflect(albedo, glow, camera, seen)
    _paint(albedo, glow, owners, look, seen)
    owner_ids = np.asarray(owners)
    beams = headlights(camera, seen) if "head" in look.glows else None
    lit = illuminate(albedo.reduce(FINE), background.light, beams, look)
    lit = hazy(shining(lit, glow, halos(camera, look, seen, owner_ids) if look.glows else None), background.air, look)
    picture = noisy(rainy(lit, rng) if look.wet else lit, look.noise, rng)
    return picture, _boxes(seen, owner_ids)


def _look_at(site: Site, look: Look, vehicles: Sequence[Vehicle], time_s: float) -> list[Seen]:
    """Vehicles and lamp posts that touch the frame, far to near."""
    things: list[tuple[Vehicle | None, Placed]] = [(None, post) for post in site.posts]
    things += [(vehicle, vehicle.placed(time_s)) for vehicle in vehicles]
    width, height = site.camera.size_wh
    seen = []
    for vehicle, thing in things:
        depth = site.camera.view((thing.x, thing.y, 0.0))[2]
        if depth < -thing.half_l or (vehicle is not None and depth > FAR_M):
            continue
        hull = silhouette(site.camera, thing)
        if not hull:
            continue
        left, top, right, bottom = bounds(hull)
        if right > 0 and left < width and bottom > 0 and top < height:
            seen.append(Seen(vehicle, thing, facets(site.camera, thing, look, site.sun), hull))
    return [seen[index] for index in far_to_near(site.camera, [item.thing for item in seen])]


def _cast_shadows(albedo: Image.Image, site: Site, look: Look, seen: Sequence[Seen]) -> None:
    mask = Image.new("L", albedo.size)
    draw = ImageDraw.Draw(mask)
    if look.shadow:
        for item in seen:
            for outline in shadow(site.camera, item.thing, site.sun):
                fill(draw, outline, look.shadow, FINE)
    for item in seen:
        if item.vehicle is not None:
            outline = site.camera.outline((x, y, 0.0) for x, y in item.thing.footprint())
            fill(draw, outline, UNDER_BODY, FINE)
    darken(albedo, mask, (16, 18, 24))


def _paint(albedo: Image.Image, glow: Image.Image, owners: Image.Image, look: Look, seen: Sequence[Seen]) -> None:
    """Far to near: colours, what shines, and whose pixel it is (1 + index into `seen`)."""
    draw, shine, owner = ImageDraw.Draw(albedo), ImageDraw.Draw(glow), ImageDraw.Draw(owners)
    for number, item in enumerate(seen):
        # a lamp post's outline spans far more than the post
        covers = [item.hull] if item.vehicle is not None else [facet.points for facet in item.facets]
        for outline in covers:
            fill(owner, outline, number + 1)
        for facet in item.facets:
            fill(draw, facet.points, facet.colour, FINE)
            fill(shine, facet.points, GLOWS[facet.glow] if facet.glow in look.glows else (0, 0, 0))


def _boxes(seen: Sequence[Seen], owner_ids: npt.NDArray[np.uint8]) -> list[SceneBox]:
    """Boxes around what shows of each vehicle, of those that show enough."""
    boxes = []
    for number, item in enumerate(seen):
        if item.vehicle is None:
            continue
        left, top, right, bottom = bounds(item.hull)
        x0, y0 = max(0, math.floor(left) - 1), max(0, math.floor(top) - 1)
        own = owner_ids[y0 : math.ceil(bottom) + 2, x0 : math.ceil(right) + 2] == number + 1
        rows, columns = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
        if len(rows) < MIN_SIDE_PX or len(columns) < MIN_SIDE_PX:
            continue
        visible = min(1.0, int(own.sum()) / polygon_area(item.hull))
        if visible >= MIN_VISIBLE:
            box = (x0 + int(columns[0]), y0 + int(rows[0]), x0 + int(columns[-1]) + 1, y0 + int(rows[-1]) + 1)
            boxes.append(SceneBox(item.vehicle.body.class_id, item.vehicle.number, box, visible))
    return boxes

"""One frame: the background with its traffic, lit, seen through weather and sensor; and the boxes of the vehicles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from flows.dataset.scene_background import POOL, Background
from flows.dataset.scene_camera import Camera, Point2, pixels, polygon_area
from flows.dataset.scene_painting import FINE, Facet, facets, fill, shadow, silhouette
from flows.dataset.scene_site import FAR_M, Placed, Site
from flows.dataset.scene_traffic import Vehicle, far_to_near
from flows.dataset.scene_weather import DAY_GLOWS, GLOWS, Look, bloom, illuminate, rain_streaks, sensor_noise

MIN_VISIBLE = 0.35
MIN_SIDE_PX = 8


@dataclass(frozen=True)
class SceneBox:
    """A labelled vehicle: corners in pixels of the frame, both ends inside it, and the share of it that shows."""

    class_id: int
    vehicle: int
    xyxy: tuple[int, int, int, int]
    visible: float


@dataclass(frozen=True)
class _Seen:
    vehicle: Vehicle | None
    thing: Placed
    facets: list[Facet]
    hull: list[Point2]


def draw_frame(
    site: Site, background: Background, look: Look, vehicles: Sequence[Vehicle], time_s: float, rng: np.random.Generator
) -> tuple[Image.Image, list[SceneBox]]:
    """The picture (RGB) at a time of the clip, and the boxes of the vehicles that show in it."""
    seen = _look_at(site, look, vehicles, time_s)
    albedo = background.albedo.copy()
    _cast_shadows(albedo, site, look, seen)
    lights, owners = background.lights.copy(), Image.new("L", site.camera.size_wh)
    if look.wet:
        _mirror(albedo, lights, site.camera, seen)
    _paint(albedo, lights, owners, look, seen)
    colours = np.asarray(albedo.reduce(FINE))
    heads = _headlights(site.camera, seen) if look.lit else None
    lit = Image.fromarray(illuminate(colours, background.light, heads, look))
    owner_ids = np.asarray(owners)
    if look.lit:
        lit = ImageChops.add(lit, bloom(lights, _halos(background, site.camera, seen, owner_ids)))
    if look.wet:
        streaks = rain_streaks(site.camera.size_wh, rng)
        lit = Image.composite(Image.new("RGB", lit.size, (206, 212, 218)), lit, streaks)
    picture = Image.fromarray(sensor_noise(np.asarray(lit), look.noise, rng))
    return picture, _boxes(seen, owner_ids)


def _look_at(site: Site, look: Look, vehicles: Sequence[Vehicle], time_s: float) -> list[_Seen]:
    """Vehicles and poles that touch the frame, far to near."""
    things: list[tuple[Vehicle | None, Placed]] = [(None, pole) for pole in site.poles]
    things += [(vehicle, vehicle.placed(time_s)) for vehicle in vehicles]
    width, height = site.camera.size_wh
    seen = []
    for vehicle, thing in things:
        depth = site.camera.view((thing.x, thing.y, 0.0))[2]
        if depth < -thing.half_l or (vehicle is not None and depth > FAR_M):
            continue
        visible = facets(site.camera, thing, look, site.sun)
        hull = silhouette(visible)
        if hull and max(x for x, _ in hull) > 0 and min(x for x, _ in hull) < width:
            if max(y for _, y in hull) > 0 and min(y for _, y in hull) < height:
                seen.append(_Seen(vehicle, thing, visible, hull))
    return [seen[index] for index in far_to_near(site.camera, [item.thing for item in seen])]


def _cast_shadows(albedo: Image.Image, site: Site, look: Look, seen: Sequence[_Seen]) -> None:
    mask = Image.new("L", albedo.size)
    draw = ImageDraw.Draw(mask)
    if look.shadow:
        for item in seen:
            for outline in shadow(site.camera, item.thing, site.sun):
                fill(draw, outline, look.shadow, FINE)
    for item in seen:
        if item.vehicle is not None:
            outline = site.camera.outline((x, y, 0.0) for x, y in item.thing.footprint())
            fill(draw, outline, max(look.shadow, 150), FINE)
    albedo.paste((16, 18, 24), (0, 0), mask)


def _mirror(albedo: Image.Image, lights: Image.Image, camera: Camera, seen: Sequence[_Seen]) -> None:
    """What a wet road reflects: the vehicles dimly, their lamps as streaks towards the camera."""
    mask = Image.new("L", albedo.size)
    draw, glow = ImageDraw.Draw(mask), ImageDraw.Draw(lights)
    for item in seen:
        if item.vehicle is None:
            continue
        upside_down = [
            item.thing.world((x, y, -0.8 * z))
            for part in item.thing.solids
            for panel in part.panels
            for x, y, z in panel.points
        ]
        mirrored = [pixel for point in upside_down if (pixel := camera.project(point)) is not None]
        fill(draw, silhouette([Facet(tuple(mirrored), (0, 0, 0), "", (0.0, 0.0, 0.0))]), 70, FINE)
        for facet in item.facets:
            if facet.glow in ("head", "tail"):
                _streak(glow, camera, facet)
    albedo.paste((34, 38, 44), (0, 0), mask)


def _streak(glow: ImageDraw.ImageDraw, camera: Camera, facet: Facet) -> None:
    x, y, z = facet.at
    ground, below = camera.project((x, y, 0.0)), camera.project((x, y, -2.2 * z))
    if ground is None or below is None:
        return
    half = max(1.0, camera.length_px(0.12, facet.at))
    red, green, blue = GLOWS[facet.glow]
    for share, strength in ((1.0, 5), (0.6, 3)):
        end = ground[1] + share * (below[1] - ground[1])
        corners = [(ground[0] - half, ground[1]), (ground[0] + half, ground[1]), (below[0] + half / 2, end), (below[0] - half / 2, end)]
        fill(glow, corners, (red // strength, green // strength, blue // strength))


def _paint(
    albedo: Image.Image, lights: Image.Image, owners: Image.Image, look: Look, seen: Sequence[_Seen]
) -> None:
    """Far to near: colours, lamps, and whose pixel it is (1 + index into `seen`; poles own theirs for nobody)."""
    draw, glow, owner = ImageDraw.Draw(albedo), ImageDraw.Draw(lights), ImageDraw.Draw(owners)
    for number, item in enumerate(seen):
        parts = item.facets if item.vehicle is None else None
        for outline in [facet.points for facet in parts] if parts is not None else [item.hull]:
            fill(owner, outline, number + 1)
            if look.lit:
                fill(glow, outline, (0, 0, 0))
        for facet in item.facets:
            fill(draw, facet.points, facet.colour, FINE)
            if facet.glow and (look.lit or facet.glow in DAY_GLOWS) and not (look.wet and facet.glow == "lamp"):
                fill(glow, facet.points, GLOWS[facet.glow])


def _headlights(camera: Camera, seen: Sequence[_Seen]) -> Image.Image:
    """How much headlight falls on the road, POOL times as coarse as the frame. (L)"""
    width, height = camera.size_wh
    beams = Image.new("L", (-(-width // POOL), -(-height // POOL)))
    draw = ImageDraw.Draw(beams)
    for reach, spread, level in ((15, 3.0, 50), (12, 2.4, 95), (9, 1.8, 150), (6.5, 1.35, 205), (4, 1.0, 250)):
        for item in seen:
            if item.vehicle is None:
                continue
            nose = item.thing.half_l
            local = ((nose, 0.7), (nose + 0.7 * reach, spread), (nose + reach, spread / 2))
            corners = [*local, *((x, -y) for x, y in reversed(local))]
            outline = camera.outline(item.thing.world((x, y, 0.0)) for x, y in corners)
            fill(draw, [(x / POOL, y / POOL) for x, y in outline], level)
    return beams.filter(ImageFilter.BoxBlur(2))


def _halos(
    background: Background, camera: Camera, seen: Sequence[_Seen], owner_ids: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
) -> Image.Image:
    """A glow around every lamp that nothing hides, POOL times as coarse as the frame. (RGB)"""
    halos = background.halos.copy()
    draw = ImageDraw.Draw(halos)
    width, height = camera.size_wh
    for number, item in enumerate(seen):
        for facet in item.facets:
            if facet.glow not in ("head", "tail"):
                continue
            x = sum(point[0] for point in facet.points) / len(facet.points)
            y = sum(point[1] for point in facet.points) / len(facet.points)
            if not (0 <= x < width and 0 <= y < height) or owner_ids[int(y), int(x)] != number + 1:
                continue
            radius = camera.length_px(0.42 if facet.glow == "head" else 0.26, facet.at)
            red, green, blue = GLOWS[facet.glow]
            box = pixels([((x - radius) / POOL, (y - radius) / POOL), ((x + radius) / POOL, (y + radius) / POOL)])
            draw.ellipse(box, fill=(red // 2, green // 2, blue // 2))
    return halos


def _boxes(seen: Sequence[_Seen], owner_ids: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> list[SceneBox]:
    boxes = []
    for number, item in enumerate(seen):
        if item.vehicle is None:
            continue
        rows, columns = np.nonzero(owner_ids == number + 1)
        whole = polygon_area(item.hull)
        if not len(rows) or whole <= 0:
            continue
        visible = min(1.0, len(rows) / whole)
        box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
        if visible >= MIN_VISIBLE and box[2] - box[0] >= MIN_SIDE_PX and box[3] - box[1] >= MIN_SIDE_PX:
            boxes.append(SceneBox(item.vehicle.body.class_id, item.vehicle.number, box, visible))
    return boxes

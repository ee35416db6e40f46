"""The part of a view that stands still: sky, ground, roads with their markings, houses and trees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from flows.dataset.scene_camera import Camera, Point2, Point3, pixels
from flows.dataset.scene_painting import FINE, facets, fill, silhouette
from flows.dataset.scene_site import Lane, Placed, Road, Site, Tree
from flows.dataset.scene_solids import Colour, shade
from flows.dataset.scene_weather import GLOWS, Light, Look, static_light

ASPHALT: Colour = (92, 93, 96)
PAVEMENT: Colour = (158, 154, 146)
KERB: Colour = (190, 188, 182)
GRASS: Colour = (98, 122, 66)
PAVING: Colour = (142, 138, 130)
PAINT: Colour = (226, 226, 220)
YELLOW: Colour = (222, 184, 70)
POOL = 4  # light is computed this many times as coarse as the frame


@dataclass(frozen=True)
class Background:
    """A view without its traffic: `albedo` FINE times as fine as the frame, `lights` that glow, `light` that falls."""

    albedo: Image.Image
    lights: Image.Image
    halos: Image.Image
    light: Light


def draw_background(site: Site, look: Look, rng: np.random.Generator) -> Background:
    """Everything that no frame of a camera and slice changes."""
    width, height = site.camera.size_wh
    albedo, sky_rows = _sky_and_ground(site, look)
    draw = ImageDraw.Draw(albedo)
    _skyline(draw, site, look, rng)
    for road in site.roads:
        _roadside(draw, site, road)
    for road in site.roads:
        _asphalt(draw, site.camera, road, look)
    for road in site.roads:
        _markings(draw, site, road)
    albedo = _grain(albedo, site, rng)
    lights = Image.new("RGB", (width, height))
    _stand(albedo, lights, site, look)
    pools, halos = _lamp_light(site, look)
    light = static_light(look, pools, sky_rows, (width, height))
    return Background(albedo, lights, halos, light)


def _sky_and_ground(site: Site, look: Look) -> tuple[Image.Image, Light]:
    width, height = site.camera.size_wh
    horizon = min(max(round(site.camera.horizon_px * FINE), 0), height * FINE)
    top, low = np.array(look.sky[0], dtype=np.int64), np.array(look.sky[1], dtype=np.int64)
    ground = np.array(PAVING if site.urban else GRASS, dtype=np.int64)
    rows = np.empty((height * FINE, 3), dtype=np.int64)
    reach = max(horizon, 60 * FINE)  # a low horizon shows all of the gradient, a sliver of sky its lower end
    share = np.clip(np.arange(horizon) + reach - horizon, 0, reach)[:, None]
    rows[:horizon] = (top * (reach - share) + low * share) // reach
    rows[horizon:] = ground
    picture = np.repeat(rows.astype(np.uint8)[:, None, :], width * FINE, axis=1)
    sky = np.where(np.arange(height) * FINE < horizon, 256, 0).astype(np.uint16)
    return Image.fromarray(picture), np.ascontiguousarray(sky[:, None, None])


def _skyline(draw: ImageDraw.ImageDraw, site: Site, look: Look, rng: np.random.Generator) -> None:
    """Distant hills or roofs along the horizon, paled by the air."""
    width = site.camera.size_wh[0]
    horizon = site.camera.horizon_px
    for layer, (tall, pale) in enumerate(((26, 0.55), (14, 0.25))):
        base: Colour = (96, 104, 116) if site.urban else ((88, 108, 92), (70, 96, 60))[layer]
        colour = _mix(base, look.sky[1], pale)
        x, steps = -10.0, [(-10.0, horizon)]
        while x < width + 20:
            step = (14 + 30 * rng.random()) * width / 640
            up = horizon - tall * (0.3 + 0.7 * rng.random()) * width / 640
            steps += [(x, up), (x + step, up)] if site.urban else [(x + step / 2, up)]
            x += step
        draw.polygon(pixels([*steps, (x, horizon + 2), (-10.0, horizon + 2)], FINE), fill=colour)


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    part = round(share * 256)
    red, green, blue = ((a * (256 - part) + b * part) >> 8 for a, b in zip(first, second, strict=True))
    return red, green, blue


def _band(camera: Camera, road: Road, left_m: float, right_m: float, start_m: float, end_m: float) -> Iterator[list[Point2]]:
    """The quads of a strip of road between two offsets and two distances."""
    step = 2.0 if road.curvature else 6.0
    along = start_m
    while along < end_m:
        upto = min(along + step, end_m)
        corners = ((along, left_m), (along, right_m), (upto, right_m), (upto, left_m))
        outline = camera.outline(road.ground(s, offset) for s, offset in corners)
        if len(outline) >= 3:
            yield outline
        along = upto


def _strip(
    draw: ImageDraw.ImageDraw, camera: Camera, road: Road, offsets_m: tuple[float, float], colour: Colour,
    start_m: float | None = None, end_m: float | None = None,
) -> None:  # fmt: skip
    start, end = road.start_m if start_m is None else start_m, road.end_m if end_m is None else end_m
    for outline in _band(camera, road, *offsets_m, start, end):
        fill(draw, outline, colour, FINE)


def _roadside(draw: ImageDraw.ImageDraw, site: Site, road: Road) -> None:
    half = road.half_w
    if site.urban:
        _strip(draw, site.camera, road, (-half - 9, half + 9), GRASS)
        _strip(draw, site.camera, road, (-half - 3.4, half + 3.4), PAVEMENT)
        _strip(draw, site.camera, road, (-half - 0.22, half + 0.22), KERB)
    else:
        _strip(draw, site.camera, road, (-half - 1.4, half + 1.4), (132, 122, 98))


def _asphalt(draw: ImageDraw.ImageDraw, camera: Camera, road: Road, look: Look) -> None:
    base = shade(ASPHALT, 0.80) if look.wet else ASPHALT
    _strip(draw, camera, road, (-road.half_w, road.half_w), base)
    for lane in road.lanes:
        for wheel in (-0.85, 0.85):
            middle = lane.offset_m + wheel
            _strip(draw, camera, road, (middle - 0.3, middle + 0.3), shade(base, 1.12 if look.wet else 0.94))


def _markings(draw: ImageDraw.ImageDraw, site: Site, road: Road) -> None:
    for start, end in _open_stretches(site, road):
        for side in (-1, 1):
            edge = side * (road.half_w - 0.35)
            _strip(draw, site.camera, road, (edge - 0.08, edge + 0.08), PAINT, start, end)
        offsets = sorted(road.lanes, key=lambda lane: lane.offset_m)
        for left, right in zip(offsets, offsets[1:], strict=False):
            _between_lanes(draw, site, road, left, right, (start, end))
    if site.crossing_m is not None:
        _crossing(draw, site, road)


def _between_lanes(
    draw: ImageDraw.ImageDraw, site: Site, road: Road, left: Lane, right: Lane, stretch: tuple[float, float]
) -> None:
    middle = (left.offset_m + right.offset_m) / 2
    if left.direction != right.direction:
        for offset in (-0.16, 0.16):
            line = (middle + offset - 0.07, middle + offset + 0.07)
            _strip(draw, site.camera, road, line, YELLOW if site.urban else PAINT, *stretch)
        return
    along = stretch[0]
    while along < stretch[1]:
        _strip(draw, site.camera, road, (middle - 0.09, middle + 0.09), PAINT, along, min(along + 3, stretch[1]))
        along += 8


def _open_stretches(site: Site, road: Road) -> list[tuple[float, float]]:
    if site.crossing_m is None:
        return [(road.start_m, road.end_m)]
    middle, other = _meeting(site, road)
    gap = other.half_w + 6.0
    return [(road.start_m, middle - gap), (middle + gap, road.end_m)]


def _meeting(site: Site, road: Road) -> tuple[float, Road]:
    assert site.crossing_m is not None
    main = road is site.roads[0]
    return (site.crossing_m, site.roads[1]) if main else (0.0, site.roads[0])


def _crossing(draw: ImageDraw.ImageDraw, site: Site, road: Road) -> None:
    """Stop lines and zebra crossings on the four arms."""
    middle, other = _meeting(site, road)
    for side in (-1, 1):
        near, far = middle + side * (other.half_w + 1.6), middle + side * (other.half_w + 4.6)
        offset = -road.half_w + 0.5
        while offset < road.half_w - 0.5:
            _strip(draw, site.camera, road, (offset, offset + 0.5), PAINT, min(near, far), max(near, far))
            offset += 1.0
        line = middle + side * (other.half_w + 5.6)
        lanes = [lane.offset_m for lane in road.lanes if lane.direction == -side]
        span = (min(lanes) - 1.6, max(lanes) + 1.6)
        _strip(draw, site.camera, road, span, PAINT, line - 0.25, line + 0.25)


def _grain(albedo: Image.Image, site: Site, rng: np.random.Generator) -> Image.Image:
    """Roughness of the ground: fine grain, and patches that grow with nearness."""
    width, height = albedo.size
    horizon = min(max(round(site.camera.horizon_px * FINE), 0), height)
    fine = rng.integers(-5, 6, (height, width), dtype=np.int16)
    rough = np.zeros((height, width), dtype=np.int16)
    for cells in (24, 80):
        small = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
        large = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
        rough += (large - 128) // 12
    fine += rough
    fine[:horizon] = 0
    picture = np.asarray(albedo, dtype=np.int16) + fine[..., None]
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def _stand(albedo: Image.Image, lights: Image.Image, site: Site, look: Look) -> None:
    """Houses and trees, far to near, paled by the air."""
    draw, glow = ImageDraw.Draw(albedo), ImageDraw.Draw(lights)
    things: list[tuple[float, Placed | Tree]] = []
    things += [(site.camera.distance_m((house.x, house.y, 0.0)), house) for house in site.houses]
    things += [(site.camera.distance_m(tree.base), tree) for tree in site.trees]
    for distance, thing in sorted(things, key=lambda item: -item[0]):
        pale = min(1.0, distance / 220) * look.haze / 160
        if isinstance(thing, Tree):
            _plant(draw, glow, site, look, thing, pale)
        else:
            _build(draw, glow, site, look, thing, pale)


def _build(
    draw: ImageDraw.ImageDraw, glow: ImageDraw.ImageDraw, site: Site, look: Look, house: Placed, pale: float
) -> None:
    seen = facets(site.camera, house, look, site.sun)
    fill(glow, silhouette(seen), (0, 0, 0))
    for facet in seen:
        fill(draw, facet.points, _mix(facet.colour, look.sky[1], pale), FINE)
        if facet.glow and look.lit and not look.wet:
            fill(glow, facet.points, GLOWS[facet.glow])


def _plant(
    draw: ImageDraw.ImageDraw, glow: ImageDraw.ImageDraw, site: Site, look: Look, tree: Tree, pale: float
) -> None:
    camera = site.camera
    foot = camera.project(tree.base)
    if foot is None:
        return
    unit_px = camera.length_px(1.0, tree.base)
    spread = 0.26 * tree.height_m * unit_px
    _oval(draw, (foot[0] + spread * 0.3, foot[1]), spread, spread * 0.25, shade((70, 84, 50), 0.8))
    trunk = 0.035 * tree.height_m * unit_px
    top = foot[1] - 0.5 * tree.height_m * unit_px
    corners = [(foot[0] - trunk, foot[1]), (foot[0] + trunk, foot[1]), (foot[0] + trunk / 2, top), (foot[0] - trunk / 2, top)]
    fill(draw, corners, _mix((84, 66, 48), look.sky[1], pale), FINE)
    for right, up, radius, bright in tree.clusters:
        middle = (foot[0] + right * unit_px, foot[1] - up * unit_px)
        colour = _mix(shade(tree.colour, bright * (look.base + 0.8 * look.gain)), look.sky[1], pale)
        _oval(draw, middle, radius * unit_px, 0.85 * radius * unit_px, colour)
        glow.ellipse(_box(middle, radius * unit_px, radius * unit_px, 1), fill=(0, 0, 0))


def _oval(draw: ImageDraw.ImageDraw, middle: Point2, half_w: float, half_h: float, colour: Colour) -> None:
    draw.ellipse(_box(middle, half_w, half_h, FINE), fill=colour)


def _box(middle: Point2, half_w: float, half_h: float, scale: int) -> list[tuple[int, int]]:
    x, y = middle
    return pixels([(x - half_w, y - half_h), (x + half_w, y + half_h)], scale)


def _lamp_light(site: Site, look: Look) -> tuple[Image.Image, Image.Image]:
    """How much lamp light falls on the ground (L), and the halos around the lamps (RGB), both POOL times as coarse."""
    width, height = site.camera.size_wh
    size = (-(-width // POOL), -(-height // POOL))
    pools, halos = Image.new("L", size), Image.new("RGB", size)
    if not (look.lit and not look.wet):
        return pools, halos
    draw = ImageDraw.Draw(pools)
    for ring in range(10, 0, -1):
        for x, y, _ in site.lamps:
            fill_disc(draw, site.camera, (x, y, 0.0), 1.3 * ring, 255 - 24 * ring)
    return pools.filter(ImageFilter.BoxBlur(3)), halos


def fill_disc(draw: ImageDraw.ImageDraw, camera: Camera, middle: Point3, radius_m: float, level: int) -> None:
    """Fill a circle on the ground, on a canvas POOL times as coarse as the frame."""
    ring = ((1.0, 0.0), (0.7, 0.7), (0.0, 1.0), (-0.7, 0.7), (-1.0, 0.0), (-0.7, -0.7), (0.0, -1.0), (0.7, -0.7))
    outline = camera.outline((middle[0] + radius_m * x, middle[1] + radius_m * y, 0.0) for x, y in ring)
    fill(draw, [(x / POOL, y / POOL) for x, y in outline], level)

"""The part of a view that stands still: sky, ground, houses and trees, and the light on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from flows.dataset.rendering.camera import pixels
from flows.dataset.rendering.ground import GRASS, PAVING, GroundPainter
from flows.dataset.rendering.painting import COARSE, FINE, facets, fill, fill_coarse, mix, oval
from flows.dataset.rendering.roads import FAR_M
from flows.dataset.rendering.roadside import Tree
from flows.dataset.rendering.site import Site
from flows.dataset.rendering.solids import Colour, Placed, shade
from flows.dataset.rendering.weather import GLOWS, Light, Look, static_light

BLACK: Colour = (0, 0, 0)
ROOFS: tuple[Colour, Colour] = ((96, 104, 116), (84, 88, 96))
HILLS: tuple[Colour, Colour] = ((88, 108, 92), (70, 96, 60))
RING = [(1.0, 0.0), (0.7, 0.7), (0.0, 1.0), (-0.7, 0.7), (-1.0, 0.0), (-0.7, -0.7), (0.0, -1.0), (0.7, -0.7)]


@dataclass(frozen=True)
class Background:
    """A view without its traffic.

    `albedo` (RGB, FINE times as fine as the frame) are the colours, `light` (3, H, W) falls on them, `glow` (RGB) is
    what shines by itself, and `air` (L) how much of a pixel is haze.
    """

    albedo: Image.Image
    light: Light
    glow: Image.Image
    air: Image.Image


def draw_background(site: Site, look: Look, rng: np.random.Generator) -> Background:
    """Everything that no frame of a camera and slice changes."""
    width, height = site.camera.size_wh
    base = PAVING if site.layout.urban else GRASS
    albedo = Image.new("RGB", (width * FINE, height * FINE), base)
    GroundPainter(ImageDraw.Draw(albedo), site.layout, look).paint()
    albedo = _grain(albedo, rng)
    glow = _sky(site, look, rng)
    horizon = min(max(round(site.camera.horizon_px), 0), height)
    albedo.paste(BLACK, (0, 0, width * FINE, horizon * FINE))  # the sky shines, it is not lit
    glow.paste(BLACK, (0, horizon, width, height))
    _skyline(ImageDraw.Draw(glow), site, look, rng)
    _stand(albedo, glow, site, look)
    return Background(albedo, static_light(look, _pools(site, look), (width, height)), glow, _air(site, look))


def _sky(site: Site, look: Look, rng: np.random.Generator) -> Image.Image:
    """A gradient that ends at the horizon, and clouds drawn out along it; RGB."""
    width, height = site.camera.size_wh
    reach = height // 2  # a sliver of sky shows the lower end of the gradient
    above = np.clip(round(site.camera.horizon_px) - np.arange(height), 0, reach)[:, None]
    top, low = np.array(look.sky[0], dtype=np.int64), np.array(look.sky[1], dtype=np.int64)
    rows = (top * above + low * (reach - above)) // reach
    cells = Image.fromarray(rng.integers(0, 256, (14, 7), dtype=np.uint8))
    cloud = np.asarray(cells.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int64)[..., None]
    share = np.clip(cloud - 120, 0, 90)  # of 256
    sky = (rows[:, None, :] * (256 - share) + np.array(look.cloud, dtype=np.int64) * share) >> 8
    return Image.fromarray(sky.astype(np.uint8))


def _skyline(draw: ImageDraw.ImageDraw, site: Site, look: Look, rng: np.random.Generator) -> None:
    """Distant roofs or hills along the horizon, paled by the air."""
    width, horizon = site.camera.size_wh[0], site.camera.horizon_px
    ambient = (look.ambient[0] + look.ambient[1] + look.ambient[2]) / 768
    layers = ROOFS if site.layout.urban else HILLS
    for base, tall, pale in zip(layers, (30, 15), (0.55, 0.25), strict=True):
        colour = mix(shade(base, ambient), look.sky[1], pale)
        x, outline = -10.0, [(-10.0, horizon)]
        while x < width + 20:
            step = (14 + 30 * rng.random()) * width / 640
            up = horizon - tall * (0.3 + 0.7 * rng.random()) * width / 640
            outline += [(x, up), (x + step, up)] if site.layout.urban else [(x + step / 2, up)]
            x += step
        draw.polygon(pixels([*outline, (x, horizon), (-10.0, horizon)]), fill=colour)


def _grain(albedo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Roughness of the ground: fine grain and faint patches."""
    width, height = albedo.size
    rough = rng.integers(-5, 6, (height, width), dtype=np.int16)
    for cells in (20, 90):
        small = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
        large = small.resize((width, height), Image.Resampling.BICUBIC)
        rough += (np.asarray(large, dtype=np.int16) - 128) // 24
    picture = np.asarray(albedo, dtype=np.int16) + rough[..., None]
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def _stand(albedo: Image.Image, glow: Image.Image, site: Site, look: Look) -> None:
    """Houses and trees, far to near, paled by the air."""
    draw, shine = ImageDraw.Draw(albedo), ImageDraw.Draw(glow)
    things: list[tuple[float, Placed | Tree]] = []
    things += [(site.camera.distance_m((house.x, house.y, 0.0)), house) for house in site.houses]
    things += [(site.camera.distance_m(tree.base), tree) for tree in site.trees]
    for distance, thing in sorted(things, key=lambda item: -item[0]):
        pale = min(1.0, distance / 220) * look.haze / 400
        if isinstance(thing, Tree):
            _plant(draw, shine, site, look, thing, pale)
        else:
            _build(draw, shine, site, look, thing, pale)


def _build(
    draw: ImageDraw.ImageDraw, shine: ImageDraw.ImageDraw, site: Site, look: Look, house: Placed, pale: float
) -> None:
    for facet in facets(site.camera, house, look, site.sun):
        fill(draw, facet.points, mix(facet.colour, look.sky[1], pale), FINE)
        fill(shine, facet.points, GLOWS[facet.glow] if facet.glow in look.glows else BLACK)


def _plant(
    draw: ImageDraw.ImageDraw, shine: ImageDraw.ImageDraw, site: Site, look: Look, tree: Tree, pale: float
) -> None:
    foot = site.camera.project(tree.base)
    if foot is None:
        return
    metre = site.camera.length_px(1.0, tree.base)
    size = tree.height_m * metre
    oval(draw, (foot[0] + 0.06 * size, foot[1]), (0.26 * size, 0.06 * size), (62, 70, 46), FINE)
    half, top = 0.03 * size, foot[1] - 0.5 * size
    stem = [(foot[0] + right, y) for right, y in ((-half, foot[1]), (half, foot[1]), (half / 2, top), (-half / 2, top))]
    fill(draw, stem, mix((84, 66, 48), look.sky[1], pale), FINE)
    fill(shine, stem, BLACK)
    for right, up, radius_m, bright in tree.clusters:
        middle, radius = (foot[0] + right * metre, foot[1] - up * metre), radius_m * metre
        colour = mix(shade(tree.colour, bright * (look.base + 0.8 * look.gain)), look.sky[1], pale)
        oval(draw, middle, (radius, 0.8 * radius), colour, FINE)
        oval(shine, middle, (radius, 0.8 * radius), BLACK)


def _pools(site: Site, look: Look) -> Image.Image:
    """How much lamp light falls on the ground, COARSE times as coarse as the frame; L."""
    width, height = site.camera.size_wh
    pools = Image.new("L", (-(-width // COARSE), -(-height // COARSE)))
    draw = ImageDraw.Draw(pools)
    if "lamp" not in look.glows:
        return pools
    for ring in range(10, 0, -1):
        for x, y in site.lamps:
            disc = [(x + 1.3 * ring * right, y + 1.3 * ring * ahead, 0.0) for right, ahead in RING]
            fill_coarse(draw, site.camera.outline(disc), 255 - 24 * ring)
    return pools.filter(ImageFilter.BoxBlur(3))


def _air(site: Site, look: Look) -> Image.Image:
    """How much of each row is haze: it grows with the distance of the ground seen there, up to FAR_M; L."""
    width, height = site.camera.size_wh
    levels = []
    for row in range(height):
        below = row - site.camera.horizon_px
        depth = site.camera.position[2] * site.camera.focal_px / below if below > 0 else FAR_M
        levels.append(round(look.haze * min(depth, FAR_M) / FAR_M))
    return Image.fromarray(np.repeat(np.array(levels, dtype=np.uint8)[:, None], width, axis=1))

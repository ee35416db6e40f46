"""Light and weather of the slices, and what they do to the pixels of a frame.

Pixels are computed with integers only: they come out the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from flows.dataset.scene_solids import Colour, Glow

Pixels = npt.NDArray[np.uint8]
Light = npt.NDArray[np.uint16]

SLICES = ("day", "dusk", "night", "rain")


@dataclass(frozen=True)
class Look:
    """How a slice looks. Light is in 1/256 of full daylight; times are local hours between which its clips lie."""

    name: str
    ambient: Colour
    base: float  # brightness of a side that the sun does not reach
    gain: float  # what the sun adds to a side that faces it
    shadow: int  # darkness of shadows, 0 to 255
    sky: tuple[Colour, Colour]  # top, horizon
    lamps: Colour  # light right under a street lamp
    head: Colour  # light in the middle of a headlight's cone
    haze: int  # how much of the far view is swallowed, 0 to 255
    lit: bool  # whether vehicles and houses have their lights on
    wet: bool
    noise: int  # amplitude of the sensor noise, in 1/16 of a level
    hours: tuple[int, int]


LOOKS: dict[str, Look] = {
    look.name: look
    for look in (
        Look("day", (262, 258, 250), 0.62, 0.46, 120, ((84, 138, 208), (196, 218, 236)), (0, 0, 0), (0, 0, 0),
             40, False, False, 40, (9, 16)),
        Look("dusk", (150, 124, 124), 0.72, 0.30, 30, ((66, 66, 112), (250, 168, 104)), (90, 66, 36), (90, 84, 66),
             70, True, False, 70, (17, 18)),
        Look("night", (44, 50, 70), 0.78, 0.20, 0, ((8, 10, 22), (44, 42, 56)), (170, 132, 84), (190, 180, 150),
             30, True, False, 110, (20, 23)),
        Look("rain", (150, 160, 170), 0.76, 0.22, 20, ((116, 124, 132), (176, 182, 186)), (20, 18, 12), (50, 48, 40),
             120, True, True, 60, (8, 15)),
    )
}  # fmt: skip

GLOWS: dict[Glow, Colour] = {
    "head": (255, 248, 226),
    "tail": (255, 44, 30),
    "cabin": (150, 126, 78),
    "sign": (255, 160, 50),
    "red": (255, 40, 30),
    "green": (60, 255, 140),
    "lamp": (255, 226, 170),
}
DAY_GLOWS: tuple[Glow, ...] = ("red", "green")


def static_light(look: Look, pools: Image.Image, sky_rows: Light, size_wh: tuple[int, int]) -> Light:
    """Light that does not change within a clip: ambient, street lamps (`pools`, L), a slight vignette. (H, W, 3)"""
    width, height = size_wh
    lamp = np.asarray(pools.resize(size_wh, Image.Resampling.BILINEAR), dtype=np.uint16)[..., None]
    ambient = np.array(look.ambient, dtype=np.uint16)
    light = ambient + (lamp * np.array(look.lamps, dtype=np.uint16) >> 8)
    light = light * (256 - sky_rows) + 256 * sky_rows >> 8
    return (light * _vignette(width, height)[..., None] >> 8).astype(np.uint16)


def _vignette(width: int, height: int) -> Light:
    x = (2 * np.arange(width, dtype=np.int64) - width) * 1024 // width
    y = (2 * np.arange(height, dtype=np.int64) - height) * 1024 // height
    radius2 = (x * x)[None, :] + (y * y)[:, None]  # up to 2 * 1024²
    return (256 - (radius2 * 40 >> 21)).astype(np.uint16)


def illuminate(albedo: Pixels, light: Light, heads: Image.Image | None, look: Look) -> Pixels:
    """The scene's colours under its light; `heads` (L, any size) is how much headlight falls on each pixel."""
    if heads is not None:
        size_wh = (albedo.shape[1], albedo.shape[0])
        beam = np.asarray(heads.resize(size_wh, Image.Resampling.BILINEAR), dtype=np.uint16)[..., None]
        light = light + (beam * np.array(look.head, dtype=np.uint16) >> 8)
    lit = albedo.astype(np.uint32) * light >> 8
    return np.minimum(lit, 255).astype(np.uint8)


def bloom(lights: Image.Image, halos: Image.Image) -> Image.Image:
    """Lamps with a glow around them. `lights` has the frame's size, `halos` a fraction of it."""
    soft = halos.filter(ImageFilter.BoxBlur(1)).filter(ImageFilter.BoxBlur(1))
    return ImageChops.add(lights, soft.resize(lights.size, Image.Resampling.BILINEAR))


def rain_streaks(size_wh: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Falling drops, drawn as short slanted lines. (L, frame size)"""
    width, height = size_wh
    streaks = Image.new("L", size_wh, 0)
    draw = ImageDraw.Draw(streaks)
    count = width * height // 900
    x, y = rng.integers(-20, width, count).tolist(), rng.integers(-30, height, count).tolist()
    long, strong = rng.integers(6, 22, count).tolist(), rng.integers(16, 58, count).tolist()
    for left, top, length, level in zip(x, y, long, strong, strict=True):
        draw.line((left, top, left + length // 5, top + length), fill=level)
    return streaks


def sensor_noise(pixels: Pixels, amplitude: int, rng: np.random.Generator) -> Pixels:
    """Add bell-shaped noise, mostly of brightness and a little of colour: sums of uniform integers."""
    height, width, _ = pixels.shape
    draws = rng.integers(0, 256, (4, height, width), dtype=np.uint8).astype(np.int16)
    grey = draws[0] + draws[1] + draws[2] + draws[3] - 510  # standard deviation 148
    tint = draws[0] - draws[3]
    noise = np.stack([grey + (tint >> 1), grey, grey - (tint >> 1)], axis=2).astype(np.int32) * amplitude >> 11
    return np.clip(pixels.astype(np.int32) + noise, 0, 255).astype(np.uint8)

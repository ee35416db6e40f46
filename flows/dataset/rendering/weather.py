"""Light and weather of the slices, and what they do to the pixels of a frame.

Pixels are computed with integers only: they come out the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from flows.dataset.rendering.solids import Colour, Glow

Light = npt.NDArray[np.uint16]

SLICES = ("day", "dusk", "night", "rain")
RAIN: Colour = (206, 212, 218)


@dataclass(frozen=True)
class Look:
    """How a slice looks. Light is in 1/256 of full daylight; clips lie between the two `hours`, local time."""

    name: str
    ambient: Colour
    base: float  # brightness of a side that the sun does not reach
    gain: float  # what the sun adds to a side that faces it
    shadow: int  # darkness of shadows, 0 to 255
    sky: tuple[Colour, Colour]  # top, horizon
    cloud: Colour
    lamps: Colour  # light right under a street lamp
    head: Colour  # light in the middle of a headlight's cone
    haze: int  # how much of the far view is swallowed, 0 to 255
    glows: tuple[Glow, ...]  # what has its lights on
    wet: bool
    noise: int  # amplitude of the sensor noise, in 1/14 of a level
    hours: tuple[int, int]


LOOKS: dict[str, Look] = {
    look.name: look
    for look in (
        Look(
            "day", (266, 260, 250), 0.60, 0.48, 120, ((84, 138, 208), (190, 214, 234)), (244, 246, 248),
            (0, 0, 0), (0, 0, 0), 26, (), False, 40, (9, 16),
        ),
        Look(
            "dusk", (154, 126, 124), 0.70, 0.32, 40, ((70, 70, 118), (250, 168, 104)), (214, 120, 104),
            (100, 72, 40), (96, 90, 72), 34, ("head", "tail", "sign", "lamp", "window"), False, 70, (17, 18),
        ),
        Look(
            "night", (52, 58, 78), 0.78, 0.20, 0, ((8, 10, 22), (44, 42, 56)), (30, 30, 40),
            (190, 150, 98), (190, 180, 150), 12, ("head", "tail", "sign", "lamp", "window", "cabin"), False, 110,
            (20, 23),
        ),
        Look(
            "rain", (150, 160, 170), 0.76, 0.22, 20, ((120, 128, 136), (176, 182, 186)), (146, 150, 156),
            (0, 0, 0), (50, 48, 40), 96, ("head", "tail", "sign"), True, 60, (8, 15),
        ),
    )
}  # fmt: skip

GLOWS: dict[Glow, Colour] = {
    "head": (255, 248, 226),
    "tail": (255, 44, 30),
    "cabin": (104, 90, 58),
    "window": (176, 142, 84),
    "sign": (230, 140, 40),
    "lamp": (255, 226, 170),
}


def static_light(look: Look, pools: Image.Image, size_wh: tuple[int, int]) -> Light:
    """Light that does not change within a clip: ambient, street lamps (`pools`, L), a slight vignette.

    Shape (3, H, W), in 1/128 of full daylight: 8 bit colours times this fit 16 bits.
    """
    lamp = np.asarray(pools.resize(size_wh, Image.Resampling.BILINEAR), dtype=np.uint32)
    ambient = np.array(look.ambient, dtype=np.uint32)[:, None, None]
    light = ambient + (lamp * np.array(look.lamps, dtype=np.uint32)[:, None, None] >> 8)
    dimmed: Light = np.minimum(light * _vignette(*size_wh) >> 9, 255).astype(np.uint16)
    return dimmed


def _vignette(width: int, height: int) -> npt.NDArray[np.uint32]:
    x = (2 * np.arange(width, dtype=np.int64) - width) * 1024 // width
    y = (2 * np.arange(height, dtype=np.int64) - height) * 1024 // height
    radius2 = (x * x)[None, :] + (y * y)[:, None]  # up to 2 * 1024²
    return (256 - radius2 * 40 // (1 << 21)).astype(np.uint32)


def expose(light: Light, exposure: int) -> Light:
    """The light as a camera set to `exposure` (in 1/256) sees it."""
    exposed: Light = np.minimum(light.astype(np.uint32) * exposure >> 8, 255).astype(np.uint16)
    return exposed


def illuminate(albedo: Image.Image, light: Light, beams: Image.Image | None, look: Look) -> Image.Image:
    """The scene's colours (RGB) under its light; `beams` (L, any size) is the headlight that falls on each pixel."""
    if beams is not None:
        beam = np.asarray(beams.resize(albedo.size, Image.Resampling.BILINEAR), dtype=np.uint16)
        light = np.stack([beam * np.uint16(level) >> 9 for level in look.head]) + light
    channels = []
    for colours, falls in zip(albedo.split(), np.minimum(light, 255), strict=True):
        lit = np.minimum(np.asarray(colours, dtype=np.uint16) * falls >> 7, 255)
        channels.append(Image.fromarray(lit.astype(np.uint8)))
    return Image.merge("RGB", channels)


def shining(lit: Image.Image, glow: Image.Image, halos: Image.Image | None) -> Image.Image:
    """Add what shines by itself, and the halos around lamps (a fraction of the frame's size, blurred here)."""
    lit = ImageChops.add(lit, glow)
    if halos is None:
        return lit
    soft = halos.filter(ImageFilter.BoxBlur(1)).filter(ImageFilter.BoxBlur(1))
    return ImageChops.add(lit, soft.resize(lit.size, Image.Resampling.BILINEAR))


def hazy(lit: Image.Image, air: Image.Image, look: Look) -> Image.Image:
    """Let the far view fade into the colour of the horizon."""
    return Image.composite(Image.new("RGB", lit.size, look.sky[1]), lit, air)


def rainy(lit: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Falling drops, drawn as short slanted lines."""
    width, height = lit.size
    streaks = Image.new("L", lit.size)
    draw = ImageDraw.Draw(streaks)
    count = width * height // 900
    x, y = rng.integers(-20, width, count).tolist(), rng.integers(-30, height, count).tolist()
    long, strong = rng.integers(6, 22, count).tolist(), rng.integers(16, 58, count).tolist()
    for left, top, length, level in zip(x, y, long, strong, strict=True):
        draw.line((left, top, left + length // 5, top + length), fill=level)
    return Image.composite(Image.new("RGB", lit.size, RAIN), lit, streaks)


def noisy(lit: Image.Image, amplitude: int, rng: np.random.Generator) -> Image.Image:
    """Add bell-shaped sensor noise, mostly of brightness and a little of colour: sums of uniform integers."""
    width, height = lit.size
    draws = rng.integers(0, 256, (4, height, width), dtype=np.uint8).astype(np.int16)
    grey = (draws[0] + draws[1] + draws[2] + draws[3] - 510) >> 2  # standard deviation 37
    tint = (draws[0] - draws[3]) >> 3
    channels = []
    for values, noise in zip(lit.split(), (grey + tint, grey, grey - tint), strict=True):
        louder = np.asarray(values, dtype=np.int16) + (noise * np.int16(amplitude) >> 9)
        channels.append(Image.fromarray(np.clip(louder, 0, 255).astype(np.uint8)))
    return Image.merge("RGB", channels)

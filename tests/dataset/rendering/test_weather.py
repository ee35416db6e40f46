"""What light and weather do to pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from flows.dataset.rendering.background import draw_background
from flows.dataset.rendering.site import draw_site
from flows.dataset.rendering.weather import LOOKS, expose, illuminate, noisy, rainy

SIZE_WH = (64, 48)


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def grey(level: int) -> Image.Image:
    return Image.new("RGB", SIZE_WH, (level, level, level))


@pytest.mark.parametrize(("light", "expected"), [(0, 0), (64, 50), (128, 100), (255, 199)])
def test_light_scales_colours(light: int, expected: int) -> None:
    falls = np.full((3, SIZE_WH[1], SIZE_WH[0]), light, dtype=np.uint16)
    assert np.asarray(illuminate(grey(100), falls, None, LOOKS["day"])).flatten().tolist() == [expected] * (64 * 48 * 3)


def test_strong_light_saturates_and_headlights_add_to_it() -> None:
    falls = np.full((3, SIZE_WH[1], SIZE_WH[0]), 250, dtype=np.uint16)
    assert np.asarray(illuminate(grey(255), falls, None, LOOKS["night"])).min() == 255
    beams = Image.new("L", (16, 12), 255)
    dark = np.full_like(falls, 20)
    unlit = np.asarray(illuminate(grey(100), dark, None, LOOKS["night"]))
    assert (np.asarray(illuminate(grey(100), dark, beams, LOOKS["night"])) > unlit).all()


def test_exposure_scales_light_and_saturates() -> None:
    falls = np.array([[[0, 100, 255]]] * 3, dtype=np.uint16)
    assert expose(falls, 512).tolist() == [[[0, 200, 255]]] * 3


def test_noise_is_centred_and_grows_with_amplitude() -> None:
    weak, strong = (np.asarray(noisy(grey(128), level, generator(4)), dtype=np.float64) - 128 for level in (40, 110))
    assert abs(weak.mean()) < 1 and abs(strong.mean()) < 1
    assert 1 < weak.std() < strong.std() < 15
    assert np.array_equal(np.asarray(noisy(grey(128), 0, generator(4))), np.asarray(grey(128)))


def test_rain_only_brightens_a_dark_picture() -> None:
    rained = np.asarray(rainy(grey(20), generator(4)))
    assert rained.min() == 20 and rained.max() > 40


def test_brightness_orders_the_slices() -> None:
    site = draw_site(0, (160, 96), generator(0))
    lights = {name: draw_background(site, look, generator(0)).light.mean() for name, look in LOOKS.items()}
    assert lights["night"] < lights["dusk"] < lights["day"] and lights["night"] < lights["rain"] < lights["day"]

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.dataset.drift.views import match_views, view_of

HEIGHT, WIDTH = 54, 96


def scene(seed: int, margin: int = 24) -> npt.NDArray[np.float64]:
    """Random rectangles on a canvas that is larger than the frame, so that it can be looked at from elsewhere."""
    generator = np.random.default_rng(seed)
    canvas = np.full((HEIGHT + 2 * margin, WIDTH + 2 * margin), 110.0)
    for _ in range(60):
        top, left = generator.integers(0, canvas.shape[0] - 6), generator.integers(0, canvas.shape[1] - 6)
        high, wide = generator.integers(3, 25, 2)
        canvas[top : top + high, left : left + wide] = generator.uniform(30, 220)
    return canvas


def looked_at(
    canvas: npt.NDArray[np.float64], right: int = 0, down: int = 0, light: float = 1.0, seed: int = 0, margin: int = 24
) -> npt.NDArray[np.uint8]:
    """Four frames of the canvas with its content moved, each with noise and a vehicle somewhere."""
    generator = np.random.default_rng([seed, 99])
    top, left = margin - down, margin - right
    frames = np.repeat(canvas[None, top : top + HEIGHT, left : left + WIDTH], 4, axis=0) * light
    for frame in frames:
        y, x = generator.integers(0, HEIGHT - 8), generator.integers(0, WIDTH - 12)
        frame[y : y + 8, x : x + 12] = generator.uniform(0, 255)
    return np.clip(frames + generator.normal(0, 2, frames.shape), 0, 255).astype(np.uint8)


@settings(max_examples=30, deadline=None)
@given(
    right=st.integers(-20, 20), down=st.integers(-12, 12), seed=st.integers(0, 20), light=st.sampled_from([0.4, 0.7, 1])
)
def test_a_shift_is_measured_whatever_the_light(right: int, down: int, seed: int, light: float) -> None:
    canvas = scene(seed)
    before, now = looked_at(canvas, seed=1), looked_at(canvas, right, down, light, seed=2)
    match = match_views(view_of(before), view_of(now))
    assert match.right * WIDTH == pytest.approx(right, abs=0.5)
    assert match.down * HEIGHT == pytest.approx(down, abs=0.5)
    assert match.similarity > 0.4
    assert match.distance == pytest.approx(np.hypot(match.right, match.down))


@pytest.mark.parametrize("seed", range(6))
def test_another_scene_resembles_less_than_the_same(seed: int) -> None:
    mine, other = scene(seed), scene(seed + 100)
    same = match_views(view_of(looked_at(mine, seed=1)), view_of(looked_at(mine, light=0.5, seed=2)))
    foreign = match_views(view_of(looked_at(mine, seed=1)), view_of(looked_at(other, seed=2)))
    assert foreign.similarity < 0.3 < 0.6 < same.similarity


def test_the_same_view_is_where_it_was() -> None:
    view = view_of(looked_at(scene(3)))
    match = match_views(view, view)
    assert match.similarity == pytest.approx(1)
    assert match.distance == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_nothing_to_see_resembles_nothing(grey: int) -> None:
    blank = view_of(np.full((3, HEIGHT, WIDTH), grey, dtype=np.uint8))
    assert match_views(view_of(looked_at(scene(1))), blank).similarity == pytest.approx(0, abs=0.05)
    assert match_views(blank, blank).similarity == pytest.approx(0, abs=0.05)

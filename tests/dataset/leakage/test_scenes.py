from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.dataset.layout import read_dataset
from flows.dataset.leakage.groups import connected
from flows.dataset.leakage.scenes import NO_SCENE, describe_view, find_scenes
from flows.dataset.manifest.manifest import Manifest, build_manifest
from flows.dataset.rendering.scene import render_dataset
from flows.params_data import RenderParams

MIN_SIMILARITY = 0.5


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Eight cameras, four clips each (day, dusk, night, rain), one frame a clip."""
    root = tmp_path_factory.mktemp("rendered") / "data"
    params = RenderParams(cameras=8, clips_per_camera=4, frames_per_clip=1, size_wh=[640, 384], jpeg_quality=90)
    render_dataset(root, params, seed=0)
    return build_manifest(read_dataset(root))


def test_the_scenes_are_the_cameras_by_day_and_by_night(rendered: Manifest) -> None:
    scenes = find_scenes(rendered.images, rendered.thumbnails, MIN_SIMILARITY)
    pairs = set(zip(scenes.tolist(), rendered.images["camera"], strict=True))
    assert len(pairs) == len(set(scenes.tolist())) == 8


def test_the_order_of_the_frames_does_not_matter(rendered: Manifest) -> None:
    order = np.random.default_rng(0).permutation(len(rendered.images))
    scenes = find_scenes(rendered.images, rendered.thumbnails, MIN_SIMILARITY)
    shuffled = find_scenes(rendered.images.iloc[order], rendered.thumbnails[order], MIN_SIMILARITY)
    pairs = set(zip(scenes[order].tolist(), shuffled.tolist(), strict=True))
    assert len(pairs) == len(set(scenes.tolist()))


def test_more_frames_than_a_block_are_compared_with_examples_of_earlier_blocks(rendered: Manifest) -> None:
    import pandas as pd

    repeated = np.concatenate([rendered.thumbnails] * 20)
    images = pd.concat([rendered.images] * 20, ignore_index=True)
    images["sha256"] = [f"{index * 7919 % len(images):05}" for index in range(len(images))]  # another order
    scenes = find_scenes(images, repeated, MIN_SIMILARITY)
    assert len(set(zip(scenes.tolist(), images["camera"], strict=True))) == 8


def test_frames_that_show_nothing_have_no_scene(rendered: Manifest) -> None:
    thumbnails = rendered.thumbnails.copy()
    thumbnails[0] = 0
    images = rendered.images.copy()
    images.loc[1, "readable"] = False
    assert (find_scenes(images, thumbnails, MIN_SIMILARITY)[:3] == NO_SCENE).tolist() == [True, True, False]


def test_a_view_does_not_depend_on_exposure() -> None:
    rng = np.random.default_rng(1)
    picture: npt.NDArray[np.uint8] = rng.integers(40, 200, (54, 96)).astype(np.uint8)
    darker = (picture * 0.6).astype(np.uint8)
    assert float(describe_view(picture) @ describe_view(darker)) > 0.95
    assert abs(float(describe_view(picture) @ describe_view(picture[:, ::-1].copy()))) < 0.3


@given(st.integers(1, 30), st.data())
@settings(max_examples=50, deadline=None)
def test_connected_items_share_a_number_and_others_do_not(number: int, data: st.DataObject) -> None:
    items = st.integers(0, number - 1)
    links = data.draw(st.lists(st.tuples(items, items), max_size=30))
    groups = connected(number, links).tolist()
    reach = [{item} for item in range(number)]
    for _ in range(number):
        for first, second in links:
            reach[first] = reach[second] = reach[first] | reach[second]
    for first in range(number):
        for second in range(number):
            assert (groups[first] == groups[second]) == any(first in some and second in some for some in reach)
    assert list(dict.fromkeys(groups)) == list(range(len(set(groups))))

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.dataset.layout import Dataset
from flows.dataset.review.page import review_page
from flows.dataset.review.record import KINDS, Review
from flows.dataset.review.review import review_labels
from tests.dataset.review.review_scenes import SIZE_WH, Scenes, draw_scenes, make_params, plant_faults, witness


@pytest.fixture(scope="module")
def spoilt() -> Scenes:
    scenes = draw_scenes(2, 60)
    plant_faults(scenes, 2, share=0.06)
    return scenes


@pytest.fixture(scope="module")
def found(spoilt: Scenes) -> Review:
    return review_labels(spoilt.dataset, spoilt.manifest, spoilt.detections, witness(), make_params())


@pytest.fixture(scope="module")
def dataset(spoilt: Scenes, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The frames as files: grey noise is enough to look at."""
    root = tmp_path_factory.mktemp("review") / "data"
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (SIZE_WH[1], SIZE_WH[0], 3), dtype=np.uint8))
    for frame in spoilt.dataset.frames:
        (root / frame.image).parent.mkdir(parents=True, exist_ok=True)
        picture.save(root / frame.image)
    return replace(spoilt.dataset, root=root)


def test_the_verdict_comes_first_and_every_kind_has_pictures(found: Review, spoilt: Scenes, dataset: Dataset) -> None:
    text = review_page(found, dataset, spoilt.manifest, top=3)
    assert text.index(found.sentence) < text.index("<section")
    shown = sum(min(number, 3) for number in found.num_cases.values())
    assert shown > 9
    assert text.count("data:image/jpeg") == shown
    for kind, number in found.num_cases.items():
        assert (f"{KINDS[kind]}: {number}" in text) == bool(number)
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text


def test_reduced_pictures_say_how_to_see_more(found: Review, spoilt: Scenes, dataset: Dataset) -> None:
    reduced, full = (review_page(found, dataset, spoilt.manifest, 1, detail) for detail in ("reduced", "full"))
    assert "--full" in reduced
    assert "--full" not in full
    assert len(full) > len(reduced)


def test_names_are_escaped(spoilt: Scenes) -> None:
    scenes = draw_scenes(3, 5)
    dataset = replace(scenes.dataset, root=Path("<b>data"))
    found = review_labels(scenes.dataset, scenes.manifest, scenes.detections, witness(name="<i>model"), make_params())
    text = review_page(found, dataset, scenes.manifest)
    assert "<b>data" not in text
    assert "<i>model" not in text


def test_sound_labels_give_a_page_without_pictures() -> None:
    scenes = draw_scenes(1, 30)
    found = review_labels(scenes.dataset, scenes.manifest, scenes.detections, witness(), make_params())
    text = review_page(found, scenes.dataset, scenes.manifest)
    assert "contradicts none of the labels" in text
    assert "data:image" not in text


def test_a_missing_image_does_not_stop_the_page(found: Review, spoilt: Scenes) -> None:
    assert found.sentence in review_page(found, spoilt.dataset, spoilt.manifest, top=1)

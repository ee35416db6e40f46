from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from flows.dataset.drift.cameras import judge_cameras, shift_words
from flows.dataset.drift.samples import Sample
from flows.dataset.formats.framing import UNKNOWN_CAMERA
from flows.params_data import MonitorParams
from tests.dataset.drift.drift_frames import make_sample, refreshed, scenes

PARAMS = MonitorParams(
    alpha=0.01,
    threshold=0.1,
    min_frames=50,
    min_units=6,
    shuffles=99,
    block_s=60.0,
    min_camera_frames=8,
    view_shift=0.02,
    blind_share=0.25,
    embedding_frames=0,
)
STREETS = scenes(5)


@pytest.fixture(scope="module")
def reference() -> Sample:
    return make_sample("train", STREETS, seed=1)


def sentences(reference: Sample, current: Sample) -> dict[str, str]:
    return {one.camera: one.sentence for one in judge_cameras(reference, current, PARAMS) if one.is_alarm}


def with_pictures(sample: Sample, camera: str, change: npt.NDArray[np.uint8]) -> Sample:
    assert sample.thumbnails is not None
    pictures = sample.thumbnails.copy()
    pictures[(sample.frames["camera"] == camera).to_numpy()] = change
    return refreshed(replace(sample, thumbnails=pictures))


def pictures_of(sample: Sample, camera: str) -> npt.NDArray[np.uint8]:
    assert sample.thumbnails is not None
    return np.asarray(sample.thumbnails[(sample.frames["camera"] == camera).to_numpy()])


@pytest.mark.parametrize("seed", range(2, 12))
def test_cameras_that_stay_are_steady(reference: Sample, seed: int) -> None:
    found = judge_cameras(reference, make_sample("new", STREETS, seed, num_clips=2 + seed % 3), PARAMS, seed)
    assert [one.state for one in found] == ["steady"] * 5


@pytest.mark.parametrize(
    ("pixels", "words"), [(-9, "9 % of the width to the left"), (5, "5 % of the width to the right")]
)
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_a_moved_camera_is_named(reference: Sample, seed: int, pixels: int, words: str) -> None:
    sample = make_sample("new", STREETS, seed)
    moved = with_pictures(sample, "cam03", np.roll(pictures_of(sample, "cam03"), pixels, axis=2))
    assert sentences(reference, moved) == {"cam03": f"camera cam03 has moved: its view is shifted by {words}"}


def test_a_blinded_camera_is_named(reference: Sample) -> None:
    sample = make_sample("new", STREETS, 2)
    blind = with_pictures(sample, "cam05", pictures_of(sample, "cam05") // 40 + 20)
    (sentence,) = sentences(reference, blind).values()
    assert sentence.startswith("camera cam05 sees nothing: contrast ")
    assert sentence.endswith("covered?")


def test_a_blinded_camera_is_named_without_pictures(reference: Sample) -> None:
    sample = make_sample("new", STREETS, 2)
    blind = with_pictures(sample, "cam05", pictures_of(sample, "cam05") // 40 + 20)
    assert set(sentences(reference, replace(blind, thumbnails=None))) == {"cam05"}


def test_swapped_cameras_are_named_with_the_scene_that_they_show(reference: Sample) -> None:
    sample = make_sample("new", STREETS, 2)
    names = {"cam01": "cam04", "cam04": "cam01"}
    swapped = replace(sample, frames=sample.frames.assign(camera=sample.frames["camera"].replace(names)))
    assert sentences(reference, swapped) == {
        "cam01": "camera cam01 shows another scene than before: that of cam04 (cables swapped?)",
        "cam04": "camera cam04 shows another scene than before: that of cam01 (cables swapped?)",
    }


def test_a_camera_turned_to_an_unknown_scene_is_named(reference: Sample) -> None:
    streets = {**STREETS, "cam02": scenes(1, seed=50)["cam01"]}
    assert sentences(reference, make_sample("new", streets, 2)) == {
        "cam02": "camera cam02 shows another scene than before (turned or replaced?)"
    }


def test_a_camera_with_many_views_is_not_judged() -> None:
    parts = [
        make_sample("train", {"cam01": street}, seed, num_clips=1)
        for seed, street in enumerate(scenes(24, seed=3).values())
    ]
    tables = [part.frames.assign(unit=str(at)) for at, part in enumerate(parts)]
    pictures = np.concatenate([part.thumbnails for part in parts if part.thumbnails is not None])
    mixed = Sample("train", pd.concat(tables, ignore_index=True), pictures)
    (one,) = judge_cameras(mixed, make_sample("new", {"cam01": STREETS["cam02"]}, 3), PARAMS)
    assert (one.state, one.is_alarm) == ("not judged", False)


def test_few_frames_and_frames_without_a_camera_are_passed_over(reference: Sample) -> None:
    few = make_sample("new", STREETS, 2, num_clips=1, num_frames=4)
    assert judge_cameras(reference, few, PARAMS) == ()
    unknown = [
        replace(sample, frames=sample.frames.assign(camera=UNKNOWN_CAMERA))
        for sample in (reference, make_sample("new", STREETS, 2))
    ]
    assert judge_cameras(unknown[0], unknown[1], PARAMS) == ()


def test_night_alone_is_no_other_scene(reference: Sample) -> None:
    sample = make_sample("new", STREETS, 4)
    night = (sample.frames["slice"] == "night").to_numpy()
    assert sample.thumbnails is not None
    only = replace(sample, frames=sample.frames[night].reset_index(drop=True), thumbnails=sample.thumbnails[night])
    assert sentences(reference, only) == {}


@pytest.mark.parametrize(
    ("right", "down", "words"),
    [
        (0.09, 0.0, "9 % of the width to the right"),
        (-0.05, 0.1, "5 % of the width to the left and 10 % of the height down"),
        (0.0, -0.03, "3 % of the height up"),
        (0.001, 0.001, "less than 1 %"),
    ],
)
def test_a_shift_in_words(right: float, down: float, words: str) -> None:
    assert shift_words(right, down) == words

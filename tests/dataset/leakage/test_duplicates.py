from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from flows.dataset.layout import read_dataset
from flows.dataset.leakage import duplicates
from flows.dataset.leakage.duplicates import FLIPS, flip_masks, near_duplicates
from flows.dataset.leakage.same_moment import flipped, has_structure, moment_difference
from flows.dataset.manifest.inspection import inspect_image, perceptual_hash
from flows.dataset.rendering.scene import render_dataset
from flows.params_data import RenderParams

Picture = npt.NDArray[np.uint8]
MAX_BITS, MAX_DIFFERENCE = 8, 0.2


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Picture]]:
    """Rendered frames (camera and clip, picture): three cameras, four clips each, three frames a clip."""
    root = tmp_path_factory.mktemp("rendered") / "data"
    params = RenderParams(cameras=3, clips_per_camera=4, frames_per_clip=3, size_wh=[480, 288], jpeg_quality=90)
    render_dataset(root, params, seed=0)
    rows = read_dataset(root).frames
    return [(f"{row.camera} {row.clip}", np.asarray(cv2.imread(str(root / row.image)), np.uint8)) for row in rows]


def encoded(picture: Picture, quality: int = 85) -> Picture:
    _, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR), np.uint8)


def cropped(picture: Picture, share: float) -> Picture:
    height, width = picture.shape[:2]
    down, across = round(height * share / 2), round(width * share / 2)
    return encoded(picture[down : height - down, across : width - across])


COPIES: dict[str, Callable[[Picture], Picture]] = {
    "quality 40": lambda picture: encoded(picture, 40),
    "half size": lambda picture: encoded(np.asarray(cv2.resize(picture, None, fx=0.5, fy=0.5), np.uint8)),
    "brighter": lambda picture: encoded(cv2.convertScaleAbs(picture, alpha=1.1)),  # type: ignore[arg-type]
    "darker": lambda picture: encoded(cv2.convertScaleAbs(picture, alpha=0.8)),  # type: ignore[arg-type]
    "cropped 1 %": lambda picture: cropped(picture, 0.01),
    "cropped 2 %": lambda picture: cropped(picture, 0.02),
    "mirrored": lambda picture: encoded(picture[:, ::-1], 40),
    "upside down": lambda picture: encoded(picture[::-1], 40),
    "turned by 180 degrees": lambda picture: encoded(picture[::-1, ::-1], 40),
}


def table(pictures: list[Picture], folder: Path) -> tuple[pd.DataFrame, Picture]:
    """What the manifest says of the pictures."""
    facts = []
    for picture in pictures:
        cv2.imwrite(str(folder / "frame.bmp"), picture)
        facts.append(inspect_image(folder / "frame.bmp"))
    rows = {"split": "train", "readable": True, "phash": [fact.phash for fact in facts]}
    return pd.DataFrame(rows), np.stack([fact.thumbnail for fact in facts])


@pytest.fixture(scope="module")
def originals(
    frames: list[tuple[str, Picture]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[pd.DataFrame, Picture]:
    return table([picture for _, picture in frames], tmp_path_factory.mktemp("originals"))


@pytest.mark.parametrize("crowd", [duplicates.CROWD, 0])
@pytest.mark.parametrize("how", COPIES)
def test_a_planted_copy_is_found_in_the_open_and_in_a_crowd(
    how: str,
    crowd: int,
    frames: list[tuple[str, Picture]],
    originals: tuple[pd.DataFrame, Picture],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(duplicates, "CROWD", crowd)
    copied = range(0, len(frames), 7)
    copies, small = table([COPIES[how](frames[index][1]) for index in copied], tmp_path)
    images = pd.concat([originals[0], copies], ignore_index=True)
    found = near_duplicates(images, np.concatenate([originals[1], small]), MAX_BITS, MAX_DIFFERENCE).pairs
    flip = how if how in FLIPS else ""
    expected = {(index, len(frames) + number, flip) for number, index in enumerate(copied)}
    assert {(pair.first, pair.second, pair.flip) for pair in found} == expected


def test_different_frames_of_one_camera_are_no_duplicates(originals: tuple[pd.DataFrame, Picture]) -> None:
    found = near_duplicates(*originals, 16, MAX_DIFFERENCE)
    assert found.pairs == ()
    assert found.num_pictures_compared > 0  # the hashes alone do not tell them apart


def test_blank_and_unreadable_frames_are_left_out() -> None:
    blank = np.full((54, 96), 3, np.uint8)
    images = pd.DataFrame({"split": "train", "readable": [True, True, False], "phash": ["0" * 16, "0" * 16, ""]})
    assert not has_structure(blank)
    assert near_duplicates(images, np.stack([blank] * 3), MAX_BITS, MAX_DIFFERENCE).pairs == ()


def test_the_masks_are_the_bits_that_flips_turn() -> None:
    picture = np.random.default_rng(3).integers(0, 256, (54, 96)).astype(np.uint8)
    plain = int(perceptual_hash(picture), 16)
    for flip, mask in enumerate(flip_masks()):
        turned = int(perceptual_hash(flipped(picture, flip)), 16)
        assert (plain ^ mask ^ turned).bit_count() <= 1  # a coefficient that is almost 0 may go either way


def test_the_difference_is_nothing_for_the_same_picture_and_much_for_what_has_moved() -> None:
    road = cv2.GaussianBlur(np.random.default_rng(4).integers(60, 200, (54, 96)).astype(np.float32), (0, 0), 3)
    road = ((road - road.mean()) * 4 + 120).clip(0, 255)
    before, after = road.copy(), road.copy()
    before[20:26, 30:40] = after[20:26, 44:54] = 10  # a dark car, a moment later
    first, second = before.astype(np.uint8), after.astype(np.uint8)
    assert moment_difference(first, first) == 0
    assert moment_difference(first, (before * 0.8 + 10).astype(np.uint8)) < MAX_DIFFERENCE / 2
    assert moment_difference(first, second) > 2 * MAX_DIFFERENCE


def fixed_camera(number: int, seed: int) -> tuple[pd.DataFrame, Picture]:
    """Thumbnails of one camera: a road on which cars are here and there."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[0:54, 0:96]
    road = 90 + 40 * np.sin(across / 9.0) + 60 * (down < 18) - 30 * (np.abs(across - 48) < down / 2)
    pictures = np.empty((number, 54, 96), np.uint8)
    for picture in pictures:
        picture[:] = road + rng.normal(0, 1, road.shape)
        for top, left, grey in zip(
            rng.integers(20, 48, 6), rng.integers(0, 88, 6), rng.integers(0, 255, 6), strict=True
        ):
            picture[top : top + 5, left : left + 7] = grey
    hashes = [perceptual_hash(picture) for picture in pictures]
    splits = np.where(np.arange(number) % 5 == 0, "val", "train")
    return pd.DataFrame({"split": splits, "readable": True, "phash": hashes}), pictures


def test_the_work_for_one_fixed_camera_grows_with_its_frames_not_with_their_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(duplicates, "CROWD", 32)
    numbers = (300, 600, 1200)
    work = []
    for number in numbers:
        images, pictures = fixed_camera(number, seed=number)
        pictures[7] = cv2.convertScaleAbs(pictures[5], alpha=0.9)  # type: ignore[call-overload]
        found = near_duplicates(images, pictures, MAX_BITS, MAX_DIFFERENCE)
        assert found.num_crowded > number / 2
        assert (5, 7) in {(pair.first, pair.second) for pair in found.pairs}
        work.append((found.num_hashes_compared, found.num_pictures_compared))
    for number, (hashes, pictures_compared) in zip(numbers, work, strict=True):
        assert hashes <= 32 * number
        assert pictures_compared <= 32 * number + 2 * 4 * (duplicates.NEAREST_IN_CROWD + 1) * number
    assert sum(work[-1]) < 0.1 * numbers[-1] ** 2 / 2


def test_many_copies_of_one_moment_in_a_crowd_are_found_across_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "CROWD", 8)
    images, pictures = fixed_camera(200, seed=9)
    noise = np.random.default_rng(10).integers(-1, 2, (100, 54, 96))
    pictures[100:] = (pictures[100].astype(np.int64) + noise).clip(0, 255)  # the empty road all night
    images["phash"] = [perceptual_hash(picture) for picture in pictures]
    found = near_duplicates(images, pictures, MAX_BITS, MAX_DIFFERENCE)
    split = images["split"].tolist()
    across = {
        frame for pair in found.pairs for frame in (pair.first, pair.second) if split[pair.first] != split[pair.second]
    }
    assert across >= set(range(100, 200))
    assert found.num_pictures_compared < 200 * 99 / 2

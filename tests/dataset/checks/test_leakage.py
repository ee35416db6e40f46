"""What splits share is told with the partner; what they may share is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from flows.dataset.checks.check import Evidence
from flows.dataset.checks.leakage import leakage_checks, leakage_tables
from flows.dataset.formats.framing import UNKNOWN_CAMERA
from flows.dataset.layout import Frame, read_dataset, write_frames
from flows.dataset.manifest.manifest import build_manifest
from flows.dataset.rendering.scene import render_dataset
from flows.params_data import RenderParams
from flows.params_file import read_params

PARAMS = read_params(Path(__file__).parents[3] / "params.yaml").validate_


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn") / "data"
    params = RenderParams(cameras=2, clips_per_camera=4, frames_per_clip=3, size_wh=[480, 288], jpeg_quality=90)
    render_dataset(root, params, seed=0)
    return root


@pytest.fixture
def root(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "data"))


def told(root: Path) -> dict[str, dict[str, str]]:
    """The offenders of each check that has any: file (line, if any) to message."""
    dataset = read_dataset(root)
    tables = leakage_tables(Evidence(dataset, build_manifest(dataset), PARAMS))
    found: dict[str, dict[str, str]] = {}
    for check in leakage_checks(PARAMS):
        for row in tables[check.table].to_dict("records"):
            value = row[check.column]
            failed = value is not None if check.arguments == {} else value > check.arguments["max_value"]
            if failed:
                found.setdefault(check.name, {})[str(row["file"])] = check.message({str(k): v for k, v in row.items()})
    return found


def rewrite(root: Path, change: Callable[[Frame], Frame]) -> None:
    write_frames(root, [change(frame) for frame in read_dataset(root).frames])


def first(root: Path, split: str, camera: str = "cam01") -> str:
    return next(frame.image for frame in read_dataset(root).split(split) if frame.camera == camera)


def test_rendered_data_leak_nothing(root: Path) -> None:
    assert told(root) == {}


def test_the_same_bytes_in_two_splits_stop_and_name_the_partner(root: Path) -> None:
    one, two = first(root, "train"), first(root, "val")
    shutil.copy(root / one, root / two)
    found = told(root)
    assert found == {
        "no_duplicates_across_splits": {
            f"data/{one}": f"is byte for byte the same as data/{two}",
            f"data/{two}": f"is byte for byte the same as data/{one}",
        }
    }


def test_the_same_bytes_twice_in_a_split_are_told_once(root: Path) -> None:
    one, two = first(root, "train"), first(root, "train", "cam02")
    shutil.copy(root / one, root / two)
    assert told(root) == {"no_duplicates_in_split": {f"data/{two}": f"is byte for byte the same as data/{one}"}}


@pytest.mark.parametrize(("flip", "words"), [(None, ""), (Image.Transpose.FLIP_LEFT_RIGHT, ", mirrored")])
def test_a_copy_of_other_bytes_in_another_split_stops(root: Path, flip: Image.Transpose | None, words: str) -> None:
    one, two = first(root, "train"), first(root, "test")
    with Image.open(root / one) as image:
        small = image.resize((240, 144))
        (small.transpose(flip) if flip is not None else small).save(root / two, quality=60)
    assert told(root) == {
        "no_near_duplicates_across_splits": {
            f"data/{one}": f"shows the same moment as data/{two}{words}",
            f"data/{two}": f"shows the same moment as data/{one}{words}",
        }
    }


def test_a_copy_of_other_bytes_inside_a_split_is_told_once_but_not_inside_a_clip(root: Path) -> None:
    frames = [frame for frame in read_dataset(root).split("train") if frame.camera == "cam01"]
    one, same_clip = frames[0], frames[1]
    other_clip = next(frame for frame in frames if frame.clip != one.clip)
    assert same_clip.clip == one.clip
    for copy in (same_clip, other_clip):
        with Image.open(root / one.image) as image:
            image.save(root / copy.image, quality=50 if copy is same_clip else 60)
    found = told(root)
    assert set(found) == {"no_near_duplicates_in_split"}
    assert list(found["no_near_duplicates_in_split"]) == [f"data/{other_clip.image}"]


def test_the_empty_road_of_one_named_camera_may_look_the_same_in_two_splits(root: Path) -> None:
    one, two = first(root, "train"), first(root, "val")
    with Image.open(root / one) as image:
        image.save(root / two, quality=60)
    for image_path in (one, two):
        label = next(frame.label for frame in read_dataset(root).frames if frame.image == image_path)
        (root / label).write_text("")
    assert told(root) == {}


def test_a_clip_in_two_splits_stops_where_the_camera_is_named(root: Path) -> None:
    clips = {frame.split: frame.clip for frame in read_dataset(root).frames if frame.camera == "cam01"}
    rewrite(root, lambda frame: replace(frame, clip=clips["val"]) if frame.clip == clips["test"] else frame)
    found = told(root)["clips_in_one_split"]
    assert list(found) == ["data/frames.csv"]
    assert "of camera cam02 lies in val, test" in found["data/frames.csv"]  # the last of the two cameras


def test_a_guessed_clip_in_two_splits_warns(root: Path) -> None:
    rewrite(root, lambda frame: replace(frame, camera=UNKNOWN_CAMERA, clip="frame"))
    found = told(root)
    assert "clips_in_one_split" not in found
    assert (
        "clip frame of camera unknown lies in train, val, test"
        in found["guessed_clips_in_one_split"]["data/frames.csv"]
    )


def test_frames_without_a_clip_belong_to_no_clip(root: Path) -> None:
    rewrite(root, lambda frame: replace(frame, clip=""))
    assert told(root) == {}


def test_a_scene_of_train_is_recognised_in_val_and_test_where_the_camera_is_not_known(root: Path) -> None:
    rewrite(root, lambda frame: replace(frame, camera=UNKNOWN_CAMERA))
    dataset = read_dataset(root)
    found = told(root)
    assert set(found) == {"scenes_in_one_split"} | (set(found) & {"guessed_clips_in_one_split"})
    assert set(found["scenes_in_one_split"]) == {
        f"data/{frame.image}" for frame in dataset.frames if frame.split != "train"
    }
    words = found["scenes_in_one_split"][f"data/{first(root, 'val', UNKNOWN_CAMERA)}"]
    assert words.startswith("shows the scene of data/images/train/cam01_") and "the camera is not known" in words


def test_two_names_for_one_view_are_told(root: Path) -> None:
    rewrite(root, lambda frame: replace(frame, camera="east") if frame.camera + frame.split == "cam02test" else frame)
    found = told(root)["scenes_in_one_split"]
    assert len(found) == sum(frame.camera == "east" for frame in read_dataset(root).frames)
    assert all("there the camera is 'cam02'" in words for words in found.values())
    assert set(told(root)) == {"scenes_in_one_split"}


def test_unreadable_frames_are_left_to_other_checks(root: Path) -> None:
    (root / first(root, "train")).write_bytes(b"")
    (root / first(root, "val")).write_bytes(b"")
    assert told(root) == {}


def test_every_row_says_where_it_is_and_has_its_image_and_partner(root: Path) -> None:
    one, two = first(root, "train"), first(root, "val")
    shutil.copy(root / one, root / two)
    dataset = read_dataset(root)
    tables = leakage_tables(Evidence(dataset, build_manifest(dataset), PARAMS))
    for table in tables.values():
        assert {"file", "line", "image"} <= set(table.columns)
    partners = tables["shared_frames"].set_index("image")["partner"]
    assert (partners[one], partners[two]) == (two, one)
    assert (partners.drop([one, two]) == "").all()

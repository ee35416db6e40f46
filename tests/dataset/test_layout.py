"""Reading and writing the folder a dataset lies in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flows.dataset.layout import (
    FRAME_COLUMNS,
    FRAMES_CSV,
    Frame,
    read_classes,
    read_dataset,
    write_data_yaml,
    write_frames,
)
from flows.errors import DataError

HEADER = ",".join(FRAME_COLUMNS)
ROW = "images/train/a.jpg,train,cam1,c1,,day"
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0", exclude_categories=("Cs",)), max_size=12)


def test_a_sound_dataset_is_read_in_order(sound_dataset: Path) -> None:
    dataset = read_dataset(sound_dataset)
    assert dataset.classes == ("car", "big truck", "bus")
    assert len(dataset.frames) == 12
    assert [frame.split for frame in dataset.split("val")] == ["val"] * 4
    assert dataset.split("test")[0].label == "labels/test/cam1_test_0.txt"


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/train/a.jpg", "labels/train/a.txt"),
        ("images/val/a.b.png", "labels/val/a.b.txt"),
        ("images/test/night 'x' é.JPG", "labels/test/night 'x' é.txt"),
        ("images/train/images/a.jpg", "labels/train/images/a.txt"),
    ],
)
def test_the_label_mirrors_the_image(image: str, label: str) -> None:
    assert Frame(image, "train", "c", "1", "", "day").label == label


def test_no_folder_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no dataset.*tca data render"):
        read_dataset(tmp_path / "data")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "is missing"),
        ("", "names no classes"),
        ("names: [", "is not YAML"),
        ("names: car", "names no classes"),
        ("names: []", "names no classes"),
        ("names: {0: car, 2: bus}", "do not count up from 0"),
        ("names: {a: car}", "do not count up from 0"),
        ("names: [car, car]", "'car' twice"),
        ("names: [yes, car]", "class name as True"),
        ("names: [car, ' ']", "class 1 is empty"),
        ("names: [car, ]\nnames2: é", "ok"),
    ],
)
def test_a_bad_data_yaml_is_named_with_the_reason(tmp_path: Path, text: str | None, reason: str) -> None:
    path = tmp_path / "data.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    if reason == "ok":
        assert read_classes(path) == ("car",)
        return
    with pytest.raises(DataError, match=reason) as caught:
        read_classes(path)
    assert caught.value.remedy and str(path) in caught.value.message


def test_names_may_be_a_mapping_in_any_order_and_need_not_be_text(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("names: {1: 12, 0: bus}\n")
    assert read_classes(path) == ("bus", "12")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"frames.csv:1: the header is ''"),
        ("image,split\n", r"frames.csv:1: the header is 'image,split'"),
        (f"{HEADER}\n", "lists no frames"),
        (f"{HEADER}\n{ROW}\nimages/train/b.jpg,train\n", r"frames.csv:3: 2 columns"),
        (f"{HEADER}\n{ROW.replace(',train,', ',valid,')}\n", r"frames.csv:2: split 'valid'"),
        (f"{HEADER}\n{ROW.replace('images/train', 'images/val')}\n", "lies elsewhere"),
        (f"{HEADER}\n{ROW.replace('a.jpg', '../../x.jpg')}\n", "lies elsewhere"),
        (f"{HEADER}\n{ROW}\n{ROW}\n", "would share the label file labels/train/a.txt"),
        (f"{HEADER}\n{ROW}\n{ROW.replace('a.jpg', 'a.png')}\n", "would share the label file"),
    ],
)
def test_a_bad_frames_csv_is_named_with_line_and_reason(tmp_path: Path, text: str, reason: str) -> None:
    write_data_yaml(tmp_path, ["car"])
    (tmp_path / FRAMES_CSV).write_text(text)
    with pytest.raises(DataError, match=reason):
        read_dataset(tmp_path)


def test_a_missing_frames_csv_and_a_wrong_encoding_are_said(tmp_path: Path) -> None:
    write_data_yaml(tmp_path, ["car"])
    with pytest.raises(DataError, match=r"frames\.csv is missing"):
        read_dataset(tmp_path)
    (tmp_path / FRAMES_CSV).write_bytes(f"{HEADER}\nimages/train/\xe9.jpg,train,c,1,,day\n".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8"):
        read_dataset(tmp_path)


@example([("", "", "")], ["0\x850", "\u2028x", "é🚗"])
@given(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=5), st.lists(WORDS, min_size=1, unique=True))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], names: list[str]
) -> None:
    root = tmp_path_factory.mktemp("data")
    frames = tuple(
        Frame(f"images/val/é '{i}'.jpg", "val", camera, clip, "2026-05-01T12:00:00Z", slice_)
        for i, (camera, clip, slice_) in enumerate(rows)
    )
    classes = tuple(f"{index}{name.strip()}" for index, name in enumerate(names))
    write_data_yaml(root, classes)
    write_frames(root, frames)
    dataset = read_dataset(root)
    assert dataset.frames == frames
    assert dataset.classes == classes


def test_writing_never_goes_through_a_hard_link(tmp_path: Path) -> None:
    cached = tmp_path / "cache"
    cached.write_text("what DVC keeps")
    os.link(cached, tmp_path / FRAMES_CSV)
    write_frames(tmp_path, [Frame("images/val/a.jpg", "val", "c", "1", "", "day")])
    assert cached.read_text() == "what DVC keeps"


@pytest.mark.parametrize("name", ["data.yaml", "frames.csv"])
def test_a_named_pipe_is_refused_and_not_waited_for(sound_dataset: Path, name: str) -> None:
    (sound_dataset / name).unlink()
    os.mkfifo(sound_dataset / name)
    with pytest.raises(DataError, match=f"{name} is a named pipe"):
        read_dataset(sound_dataset)

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from flows.dataset.layout import SPLITS, Dataset, read_dataset, write_frames
from flows.dataset.leakage.relocation import relocate, resplit_frames
from flows.errors import DataError


def contents(dataset: Dataset) -> list[tuple[bytes, str]]:
    return [
        ((dataset.root / frame.image).read_bytes(), (dataset.root / frame.label).read_text())
        for frame in dataset.frames
    ]


def rotated(dataset: Dataset) -> list[str]:
    """Another split for every frame."""
    return [SPLITS[(SPLITS.index(frame.split) + 1) % 3] for frame in dataset.frames]


def test_files_move_with_their_labels_and_all_others_stay(sound_dataset: Path) -> None:
    before = read_dataset(sound_dataset)
    old = contents(before)
    (sound_dataset / "notes.txt").write_text("mine")
    (sound_dataset / "images/train/stray.jpg").write_bytes(b"x")
    splits = rotated(before)
    relocate(before, resplit_frames(before, splits, [frame.clip for frame in before.frames]))
    after = read_dataset(sound_dataset)
    assert contents(after) == old
    assert [frame.split for frame in after.frames] == splits
    assert (sound_dataset / "notes.txt").read_text() == "mine"
    assert (sound_dataset / "images/train/stray.jpg").is_file()
    assert sum(path.is_file() for path in sound_dataset.rglob("*.jpg")) == len(old) + 1
    assert after.classes == before.classes


def test_a_frame_that_moves_gives_way_to_one_of_the_same_name(sound_dataset: Path) -> None:
    dataset = read_dataset(sound_dataset)
    frames = list(dataset.frames)
    for place, split in ((0, "train"), (4, "val")):
        old = frames[place]
        frames[place] = replace(old, image=f"images/{split}/same.JPG")
        (sound_dataset / old.image).rename(sound_dataset / frames[place].image)
        (sound_dataset / old.label).rename(sound_dataset / frames[place].label)
    write_frames(sound_dataset, frames)
    dataset = read_dataset(sound_dataset)
    expected = contents(dataset)
    moved = resplit_frames(
        dataset, ["val" if frame.split == "train" else frame.split for frame in frames], [f.clip for f in frames]
    )
    assert moved[0].image == "images/val/same_from_train.JPG"
    assert moved[4].image == "images/val/same.JPG"
    relocate(dataset, moved)
    assert contents(read_dataset(sound_dataset)) == expected


def test_two_frames_of_the_same_name_may_change_places(sound_dataset: Path) -> None:
    dataset = read_dataset(sound_dataset)
    moved = resplit_frames(dataset, rotated(dataset), [frame.clip for frame in dataset.frames])
    assert [Path(frame.image).name for frame in moved] == [Path(frame.image).name for frame in dataset.frames]


def test_files_are_never_written_through_and_links_into_a_cache_stay_links(sound_dataset: Path, tmp_path: Path) -> None:
    dataset = read_dataset(sound_dataset)
    cached = tmp_path / "cache" / "ab12"
    cached.parent.mkdir()
    image, other = (sound_dataset / frame.image for frame in dataset.frames[:2])
    image.rename(cached)
    image.symlink_to(cached)
    os.link(other, tmp_path / "cache" / "cd34")
    frozen = [path.read_bytes() for path in sorted(cached.parent.iterdir())]
    moved = resplit_frames(dataset, rotated(dataset), [frame.clip for frame in dataset.frames])
    relocate(dataset, moved)
    assert [path.read_bytes() for path in sorted(cached.parent.iterdir())] == frozen
    assert (sound_dataset / moved[0].image).is_symlink()
    assert (sound_dataset / moved[0].image).read_bytes() == frozen[0]


def test_an_interruption_leaves_the_set_as_it_was(sound_dataset: Path) -> None:
    dataset = read_dataset(sound_dataset)
    before = {path: path.read_bytes() for path in sound_dataset.rglob("*") if path.is_file()}

    def interrupt(done: int, total: int, note: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        relocate(dataset, resplit_frames(dataset, rotated(dataset), [f.clip for f in dataset.frames]), interrupt)
    assert {path: path.read_bytes() for path in sound_dataset.rglob("*") if path.is_file()} == before
    assert [path.name for path in sound_dataset.parent.iterdir() if path.name.startswith(".")] == []


def test_without_hard_links_files_are_copied(sound_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError("no hard links here")

    dataset = read_dataset(sound_dataset)
    expected = contents(dataset)
    monkeypatch.setattr(os, "link", refuse)
    relocate(dataset, resplit_frames(dataset, rotated(dataset), [frame.clip for frame in dataset.frames]))
    assert contents(read_dataset(sound_dataset)) == expected


def test_missing_files_stay_missing(sound_dataset: Path) -> None:
    dataset = read_dataset(sound_dataset)
    (sound_dataset / dataset.frames[0].image).unlink()
    moved = resplit_frames(dataset, rotated(dataset), [frame.clip for frame in dataset.frames])
    relocate(dataset, moved)
    assert not (sound_dataset / moved[0].image).exists()
    assert (sound_dataset / moved[0].label).is_file()


def test_a_folder_that_is_a_link_is_refused(sound_dataset: Path, tmp_path: Path) -> None:
    (sound_dataset / "images/train").rename(tmp_path / "elsewhere")
    (sound_dataset / "images/train").symlink_to(tmp_path / "elsewhere")
    dataset = read_dataset(sound_dataset)
    with pytest.raises(DataError, match="is a link to a folder"):
        resplit_frames(dataset, rotated(dataset), [frame.clip for frame in dataset.frames])

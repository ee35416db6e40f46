"""The manifest says of every file what is in it, and of every broken file why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from PIL import Image

from bentos.detector.features import image_features
from flows.dataset.layout import read_dataset
from flows.dataset.manifest.inspection import decode_rgb, inspect_image, perceptual_hash
from flows.dataset.manifest.manifest import TABLES, build_manifest, read_manifest, write_manifest
from flows.errors import DataError

IMAGE = "images/train/cam1_train_0.jpg"
LABEL = "labels/train/cam1_train_0.txt"


def problems_of(root: Path) -> list[tuple[str, int, str, str]]:
    table = build_manifest(read_dataset(root)).problems
    return [(row.file, row.line, row.check, row.message) for row in table.itertuples()]


def test_a_sound_dataset_has_rows_for_all_and_no_problem(sound_dataset: Path) -> None:
    dataset, calls = read_dataset(sound_dataset), []
    manifest = build_manifest(dataset, 2, lambda done, total, note: calls.append((done, total)))
    assert calls[-1] == (12, 12) and calls == sorted(calls)
    assert list(manifest.images["image"]) == [frame.image for frame in dataset.frames]
    assert manifest.images["readable"].all() and (manifest.images["num_boxes"] == 3).all()
    assert len(manifest.boxes) == 36 and len(manifest.problems) == 0
    row = manifest.images.iloc[0]
    content = (sound_dataset / IMAGE).read_bytes()
    assert (row.width, row.height, row.format, row.camera, row.time) == (96, 64, "JPEG", "cam1", dataset.frames[0].time)
    assert row.brightness == pytest.approx(image_features(decode_rgb(content)[0])["brightness"], abs=0.5)


def test_boxes_are_in_pixels_with_their_line(sound_dataset: Path) -> None:
    (sound_dataset / LABEL).write_text("\n1 0.5 0.5 0.25 0.5\n0 0.0 0.5 0.5 0.5\n")
    boxes = build_manifest(read_dataset(sound_dataset)).boxes.iloc[:2]
    assert list(boxes["line"]) == [2, 3] and list(boxes["class_name"]) == ["big truck", "car"]
    np.testing.assert_allclose(boxes[["x1", "y1", "x2", "y2"]], [[36, 16, 60, 48], [-24, 16, 24, 48]])
    np.testing.assert_allclose(boxes[["width_px", "height_px", "outside_px"]], [[24, 32, 0], [48, 32, 24]])


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_truncate, "truncated"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_bytes(b"no image"), "no image of a known format"),
        (lambda path: path.unlink(), "the file is missing"),
        (lambda path: (path.unlink(), path.mkdir()), "this is a folder, not a file"),
    ],
)
def test_a_broken_image_is_a_problem_with_the_reason(
    sound_dataset: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(sound_dataset / IMAGE)
    manifest = build_manifest(read_dataset(sound_dataset))
    broken = manifest.images.iloc[0]
    assert not broken.readable and reason in broken.error and np.isnan(broken.brightness)
    assert [(row.file, row.check) for row in manifest.problems.itertuples()] == [(f"data/{IMAGE}", "image_readable")]
    assert len(manifest.boxes) == 33  # no pixels, no boxes in pixels


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        (LABEL, None, (f"data/{LABEL}", 0, "label_present", "the label file is missing")),
        (LABEL, "0 0.5 0.5 0.1", (f"data/{LABEL}", 1, "label_syntax", "4 columns")),
        (LABEL, "\n7 .5 .5 .1 .1", (f"data/{LABEL}", 2, "label_class", "class 7, but data.yaml names only 3 classes")),
        ("labels/val/gone.txt", "", ("data/labels/val/gone.txt", 0, "label_orphan", "belongs to no frame")),
        ("images/val/new.JPG", "x", ("data/images/val/new.JPG", 0, "image_unlisted", "frames.csv does not list")),
    ],
)
def test_a_faulty_file_is_a_problem(
    sound_dataset: Path, file: str, content: str | None, problem: tuple[str, int, str, str]
) -> None:
    path = sound_dataset / file
    path.unlink() if content is None else path.write_text(content)
    [found] = problems_of(sound_dataset)
    assert found[:3] == problem[:3] and found[3].startswith(problem[3])


@pytest.mark.parametrize("file", ["labels/train/.hidden.txt", "labels/classes.json", "notes.txt"])
def test_other_files_are_no_problem(sound_dataset: Path, file: str) -> None:
    (sound_dataset / file).write_text("x")
    assert problems_of(sound_dataset) == []


def test_an_empty_label_file_means_no_vehicle(sound_dataset: Path) -> None:
    (sound_dataset / LABEL).write_text("")
    manifest = build_manifest(read_dataset(sound_dataset))
    assert manifest.images["num_boxes"][0] == 0 and len(manifest.problems) == 0


def test_an_orientation_in_the_file_turns_the_frame(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    facts = inspect_image(tmp_path / "a.jpg")
    assert (facts.width, facts.height) == (20, 40)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_other_formats_and_colours_are_read(tmp_path: Path, mode: str, suffix: str) -> None:
    mode = "RGB" if mode == "CMYK" and suffix != ".jpg" else mode
    Image.new(mode, (12, 7)).save(tmp_path / f"a{suffix}")
    facts = inspect_image(tmp_path / f"a{suffix}")
    assert facts.readable and (facts.width, facts.height) == (12, 7)


def test_the_hash_survives_compression_and_scaling_but_not_another_frame(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    frame = np.asarray(small.resize((480, 360), Image.Resampling.BICUBIC))
    Image.fromarray(frame).resize((320, 240)).save(tmp_path / "again.jpg", quality=40)
    again = decode_rgb((tmp_path / "again.jpg").read_bytes())[0]
    hashes = [
        int(perceptual_hash(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)), 16)
        for image in (frame, again, np.ascontiguousarray(frame[:, ::-1]))
    ]
    assert (hashes[0] ^ hashes[1]).bit_count() <= 4
    assert (hashes[0] ^ hashes[2]).bit_count() > 16


def test_written_tables_are_read_back_with_their_types(sound_dataset: Path, tmp_path: Path) -> None:
    manifest = build_manifest(read_dataset(sound_dataset))
    write_manifest(manifest, tmp_path / "manifest")
    write_manifest(manifest, tmp_path / "manifest")  # replaces
    again = read_manifest(tmp_path / "manifest")
    for name, columns in TABLES.items():
        table = getattr(again, name)
        pd.testing.assert_frame_equal(table, getattr(manifest, name))
        assert list(table.columns) == list(columns)
    assert [path.name for path in tmp_path.iterdir() if "manifest" in path.name] == ["manifest"]


def test_a_failure_while_writing_leaves_the_old_manifest(
    sound_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = build_manifest(read_dataset(sound_dataset))
    write_manifest(manifest, tmp_path / "manifest")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pyarrow.parquet.ParquetWriter, "write_table", full)
        with pytest.raises(OSError, match="No space"):
            write_manifest(manifest, tmp_path / "manifest")
    assert len(read_manifest(tmp_path / "manifest").images) == 12


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(b"PAR1 and then nothing"), "cannot be read"),
        (lambda path: pd.DataFrame({"a": [1]}).to_parquet(path), "other columns"),
    ],
)
def test_a_broken_manifest_is_refused(
    sound_dataset: Path, tmp_path: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    write_manifest(build_manifest(read_dataset(sound_dataset)), tmp_path / "manifest")
    spoil(tmp_path / "manifest" / "boxes.parquet")
    with pytest.raises(DataError, match=reason):
        read_manifest(tmp_path / "manifest")

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bentos.detector.detector import Detections
from bentos.detector.recorder import Recorder, describe
from flows.dataset.drift.batch import batch_sample, known_camera
from flows.dataset.drift.samples import BOX_COLUMNS, IMAGE_COLUMNS, describe_frames, record_sample, split_sample
from flows.dataset.formats.mapping import mapping_from_regex
from flows.dataset.layout import read_dataset, write_data_yaml
from flows.dataset.manifest.manifest import build_manifest
from flows.errors import DataError

CLASSES = ("car", "big truck", "bus")
LABELS = "0 0.25 0.5 0.2 0.2\n1 0.5 0.5 0.3 0.4\n"
Draw = Callable[..., None]


def test_a_split_has_its_readable_frames_with_all_figures(sound_dataset: Path) -> None:
    broken = sound_dataset / "images/train/cam1_train_0.jpg"
    broken.write_bytes(b"no image")
    manifest = build_manifest(read_dataset(sound_dataset), num_workers=1)
    sample = split_sample(manifest, "train", sound_dataset)
    frames = sample.frames
    assert frames["image"].tolist() == [
        f"images/train/{name}.jpg" for name in ("cam1_train_1", "cam2_train_0", "cam2_train_1")
    ]
    assert frames["unit"].tolist() == ["cam1/c_train", "cam2/c_train", "cam2/c_train"]
    assert set(sample.columns) == {*IMAGE_COLUMNS, *BOX_COLUMNS, *(f"share of {name}" for name in CLASSES)}
    assert sample.thumbnails is not None
    assert sample.paths is not None
    assert len(sample.thumbnails) == len(sample.paths) == 3
    assert all(path.is_file() for path in sample.paths)
    assert frames["num_boxes"].tolist() == [3.0] * 3
    assert frames["share of bus"].tolist() == pytest.approx([1 / 3] * 3)
    assert frames["mean_box_share"][0] == pytest.approx((0.04 + 0.12 + 0.4) / 3)
    assert frames["box_centre_y"][0] == pytest.approx(0.5)


def test_frames_without_boxes_have_a_number_of_them_and_nothing_else() -> None:
    images = pd.DataFrame(
        {
            "image": ["a", "b"],
            "sha256": ["1", "2"],
            "camera": "cam1",
            "clip": ["", "c1"],
            "slice": "day",
            "width": 100,
            "height": 50,
            "num_boxes": [2, 0],
            **dict.fromkeys(IMAGE_COLUMNS, 1.0),
        }
    )
    boxes = pd.DataFrame(
        {
            "image": ["a", "a", "elsewhere"],
            "class_name": ["car", "bus", "tram"],
            "width_px": [10.0, 30.0, 1.0],
            "height_px": [10.0, 10.0, 1.0],
            "y1": [0.0, 10.0, 0.0],
            "y2": [10.0, 20.0, 1.0],
        }
    )
    table = describe_frames(images, boxes)
    assert table["unit"].tolist() == ["", "cam1/c1"]
    assert table["mean_box_share"][0] == pytest.approx((100 + 300) / 2 / 5000)
    assert table["box_centre_y"][0] == pytest.approx(0.2)
    assert table["box_aspect"][0] == pytest.approx(2.0)
    assert "share of tram" not in table
    assert np.isnan(table.loc[1, ["mean_box_share", "share of car", "share of bus"]].astype(float)).all()
    assert len(describe_frames(images[:0], boxes[:0])) == 0


def test_production_is_read_as_serving_records_it(tmp_path: Path) -> None:
    light = {"brightness": 90.0, "contrast": 20.0, "sharpness": 300.0}
    recorder = Recorder(tmp_path)
    for second, boxes in enumerate(([], [[0, 0, 10, 10], [0, 0, 30, 10]], [[0, 0, 10, 10]])):
        found = Detections(
            boxes_xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
            scores=np.full(len(boxes), 0.5, dtype=np.float32),
            class_ids=np.arange(len(boxes), dtype=np.int64),
            size_wh=(100, 50),
            timing_ms={},
        )
        time_s = 1_700_000_040.0 + 50 * second
        recorder.record(
            describe(found, light, camera="cam01", model_version="1", classes=("car", "bus"), time_s=time_s)
        )
    recorder.close()
    with next(tmp_path.glob("*.jsonl")).open("a", encoding="utf-8") as file:
        file.write('{"time": "2023')  # the process was killed while it wrote
    sample = record_sample(tmp_path, block_s=60.0)
    assert sample.thumbnails is None
    assert sample.frames["brightness"].tolist() == [90.0] * 3
    assert sample.frames["num_boxes"].tolist() == [0.0, 2.0, 1.0]
    assert np.isnan(sample.frames["mean_box_share"][0])
    assert sample.frames["mean_box_share"][1] == pytest.approx(200 / 5000)
    assert sample.frames["share of car"].tolist() == pytest.approx([np.nan, 0.5, 1.0], nan_ok=True)
    assert sample.frames["unit"].nunique() == 2  # at 0, 50 and 100 s
    assert sample.frames["unit"][0] == sample.frames["unit"][1]
    assert "no images" in sample.notes[0]


def test_frames_that_warm_a_service_up_are_no_production(tmp_path: Path) -> None:
    record = {"time": "2026-01-01T00:00:00Z", "model_version": "1", "width": 640, "height": 384, "brightness": 90.0}
    record |= {"contrast": 1.0, "sharpness": 1.0, "num_detections": 0, "mean_score": None, "mean_box_share": None}
    lines = [json.dumps({**record, "camera": camera, "class_counts": {}}) for camera in ("warm-up", "cam01")]
    (tmp_path / "features-0-1.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert len(record_sample(tmp_path, 60.0).frames) == 1


def test_no_recorded_frames_is_an_empty_table_and_no_folder_an_error(tmp_path: Path) -> None:
    assert len(record_sample(tmp_path, 60.0).frames) == 0
    with pytest.raises(DataError, match="DETECTOR_RECORD_DIR"):
        record_sample(tmp_path / "absent", 60.0)


@pytest.mark.parametrize("line", ["no json", "{}", '{"brightness": 1}', "[]", ""])
def test_a_line_that_is_no_record_is_an_error(tmp_path: Path, line: str) -> None:
    (tmp_path / "features-0-1.jsonl").write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match="no record"):
        record_sample(tmp_path, 60.0)


@pytest.mark.parametrize(
    ("name", "camera"),
    [
        ("cam1/0001.jpg", "cam1"),
        ("batch/cam10_c2_0001.jpg", "cam10"),
        ("north gate/x.jpg", "north gate"),
        ("camera1.jpg", None),
        ("cam100.jpg", None),
        ("a(b.jpg", "a(b"),
    ],
)
def test_a_known_camera_is_recognised_in_a_path(name: str, camera: str | None) -> None:
    assert known_camera(name, ["cam1", "cam10", "north gate", "a(b", ""]) == camera


def test_a_folder_with_labels_is_inspected_in_place(tmp_path: Path, draw_image: Draw) -> None:
    folder = tmp_path / "new batch"
    for number in range(3):
        for camera in ("cam1", "other"):
            draw_image(folder / "images" / f"{camera}_c7_{number}.jpg", seed=number)
            (folder / "labels").mkdir(exist_ok=True)
            (folder / "labels" / f"{camera}_c7_{number}.txt").write_text(LABELS)
    (folder / "labels" / "other_c7_2.txt").write_text("car 1 2\n" + LABELS)
    before = sorted(folder.rglob("*"))
    sample = batch_sample(folder, CLASSES, {"cam1", "cam2"})
    assert sorted(folder.rglob("*")) == before
    assert sample.name == "new batch"
    assert sorted(sample.frames["camera"]) == ["cam1"] * 3 + ["unknown"] * 3
    assert set(sample.frames["slice"]) == {""}
    assert sample.frames["num_boxes"].tolist() == [2.0] * 6
    assert sample.notes == ("1 label lines of new batch cannot be read and are left out",)
    assert sample.paths is not None
    assert {path.parent for path in sample.paths} == {folder / "images"}


def test_a_folder_without_labels_has_no_box_figures(tmp_path: Path, draw_image: Draw) -> None:
    for number in range(3):
        draw_image(tmp_path / "b" / "north" / f"{number}.jpg", seed=number)
    (tmp_path / "b" / "north" / "broken.png").write_bytes(b"")
    sample = batch_sample(tmp_path / "b", CLASSES, mapping=mapping_from_regex("(?P<camera>north)"))
    assert set(sample.frames["camera"]) == {"north"}
    assert len(sample.frames) == 3
    assert sample.frames["num_boxes"].isna().all()
    assert sample.notes == (
        "b has no labels: boxes were not compared",
        "1 images of b cannot be read and are left out",
    )


def test_a_folder_may_name_its_own_classes(tmp_path: Path, draw_image: Draw) -> None:
    draw_image(tmp_path / "b" / "x.jpg", seed=1)
    (tmp_path / "b" / "x.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    write_data_yaml(tmp_path / "b", ("tram",))
    assert "share of tram" in batch_sample(tmp_path / "b", CLASSES).columns


def test_folders_without_images_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        batch_sample(tmp_path / "absent", CLASSES)
    with pytest.raises(DataError, match="no image"):
        batch_sample(tmp_path, CLASSES)
    (tmp_path / "x.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError, match="none of the 1 images"):
        batch_sample(tmp_path, CLASSES)

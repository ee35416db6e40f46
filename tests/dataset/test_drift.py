from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from bentos.detector.detector import Detections
from bentos.detector.features import image_features
from bentos.detector.recorder import Recorder, describe
from flows.dataset.drift import FEATURES, measure_drift, noise_distance, production_features, reference_features
from flows.dataset.drift_page import drift_page, histograms
from flows.errors import DataError
from flows.params_data import MonitorParams

PARAMS = MonitorParams(drift_share=0.3, min_frames=50, threshold=0.1)


def frame(generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A grey scene with its own light, a few bright vehicles, and camera noise."""
    scene = np.full((48, 64, 3), generator.uniform(80, 140))
    for _ in range(generator.integers(1, 6)):
        top, left = generator.integers(0, 38), generator.integers(0, 50)
        scene[top : top + 8, left : left + 12] = generator.uniform(150, 220)
    return np.clip(scene + generator.normal(0, 4, scene.shape), 0, 255).astype(np.uint8)


def features_of(frames: list[npt.NDArray[np.uint8]], generator: np.random.Generator) -> pd.DataFrame:
    rows = [
        {**image_features(one), "num_boxes": generator.poisson(4), "mean_box_share": generator.uniform(0.01, 0.05)}
        for one in frames
    ]
    return pd.DataFrame(rows, columns=list(FEATURES)).astype("float64")


@pytest.fixture(scope="module")
def frames() -> list[npt.NDArray[np.uint8]]:
    generator = np.random.default_rng(7)
    return [frame(generator) for _ in range(240)]


@pytest.mark.parametrize(("num_reference", "num_current"), [(0, 0), (240, 0), (240, 49), (49, 240)])
def test_too_few_frames_give_no_verdict(
    frames: list[npt.NDArray[np.uint8]], num_reference: int, num_current: int, tmp_path: Path
) -> None:
    table = features_of(frames, np.random.default_rng(0))
    page = tmp_path / "evidently.html"
    report = measure_drift(table[:num_reference], table[:num_current], PARAMS, page)
    assert (report.verdict, report.passed, report.drifted_share) == ("insufficient", False, None)
    assert f"{min(num_reference, num_current)}, at least 50" in report.sentence
    assert all(one.drifted is None for one in report.features)
    assert not page.exists()
    assert "FOR INFORMATION" in drift_page(report, table[:num_reference], table[:num_current])


@pytest.mark.parametrize("seed", range(4))
def test_halves_of_the_same_frames_are_steady(frames: list[npt.NDArray[np.uint8]], seed: int) -> None:
    table = features_of(frames, np.random.default_rng(1)).sample(frac=1, random_state=seed, ignore_index=True)
    report = measure_drift(table[:120], table[120:180], PARAMS)
    assert report.verdict == "steady", report.sentence
    assert report.passed
    assert all(one.threshold is not None and one.threshold >= PARAMS.threshold for one in report.features)


def test_frames_darker_by_30_percent_are_found(frames: list[npt.NDArray[np.uint8]], tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    reference = features_of(frames[:120], generator)
    current = features_of([(one * 0.7).astype(np.uint8) for one in frames[120:]], generator)
    page = tmp_path / "reports" / "evidently.html"
    report = measure_drift(reference, current, PARAMS, page)
    moved = {one.name for one in report.features if one.drifted}
    assert report.verdict == "drifted"
    assert not report.passed
    assert "brightness" in moved
    assert not moved & {"num_boxes", "mean_box_share"}
    assert report.drifted_share == len(moved) / 5
    assert "<html" in page.read_text(encoding="utf-8")
    json.dumps(report.model_dump(mode="json"))
    html = drift_page(report, reference, current, page.name)
    assert "REFUSED" in html
    assert html.count("<svg") == len(FEATURES)
    assert 'href="evidently.html"' in html


def test_a_feature_that_few_frames_have_is_not_judged(frames: list[npt.NDArray[np.uint8]]) -> None:
    table = features_of(frames, np.random.default_rng(3))
    current = table[120:].copy()
    current.loc[current.index[10:], "mean_box_share"] = np.nan
    report = measure_drift(table[:120], current, PARAMS)
    last = report.features[-1]
    assert (last.name, last.num_current, last.drifted, last.distance) == ("mean_box_share", 10, None, None)
    assert report.verdict == "steady"
    assert "too few frames have it (10)" in drift_page(report, table[:120], current)


def test_noise_shrinks_with_more_frames() -> None:
    values = np.random.default_rng(4).normal(size=2000)
    few = noise_distance(values[:50], values[50:100], 0.99, np.random.default_rng(0))
    many = noise_distance(values[:1000], values[1000:], 0.99, np.random.default_rng(0))
    assert 0 < many < few


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], [0.0, 1.0, 5.0]])
def test_histograms_draw_any_values(values: list[float]) -> None:
    svg = histograms(np.array(values), np.array(values))
    assert svg.startswith("<svg")
    assert "nan" not in svg


def test_reference_takes_readable_frames_of_one_split() -> None:
    images = pd.DataFrame(
        {
            "image": ["a", "b", "c", "d"],
            "split": ["train", "train", "train", "val"],
            "readable": [True, True, False, True],
            "width": [100, 100, 0, 100],
            "height": [50, 50, 0, 50],
            "brightness": [1.0, 2.0, np.nan, 4.0],
            "contrast": [1.0, 2.0, np.nan, 4.0],
            "sharpness": [1.0, 2.0, np.nan, 4.0],
            "num_boxes": [2, 0, 0, 1],
        }
    )
    boxes = pd.DataFrame({"image": ["a", "a", "d"], "width_px": [10.0, 30.0, 1.0], "height_px": [10.0, 10.0, 1.0]})
    table = reference_features(images, boxes)
    assert list(table.columns) == list(FEATURES)
    assert table["brightness"].tolist() == [1.0, 2.0]
    assert table["num_boxes"].tolist() == [2.0, 0.0]
    assert table["mean_box_share"][0] == pytest.approx((100 + 300) / 2 / 5000)
    assert np.isnan(table["mean_box_share"][1])
    assert reference_features(images[:0], boxes[:0]).shape == (0, len(FEATURES))


def test_production_is_read_as_serving_records_it(tmp_path: Path) -> None:
    light = {"brightness": 90.0, "contrast": 20.0, "sharpness": 300.0}
    recorder = Recorder(tmp_path)
    for boxes in ([], [[0, 0, 10, 10], [0, 0, 30, 10]]):
        found = Detections(
            boxes_xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
            scores=np.full(len(boxes), 0.5, dtype=np.float32),
            class_ids=np.zeros(len(boxes), dtype=np.int64),
            size_wh=(100, 50),
            timing_ms={},
        )
        recorder.record(
            describe(found, light, camera="cam01", model_version="1", classes=("car",), time_s=1_700_000_000.0)
        )
    recorder.close()
    with next(tmp_path.glob("*.jsonl")).open("a", encoding="utf-8") as file:
        file.write('{"time": "2023')  # the process was killed while it wrote
    table = production_features(tmp_path)
    assert list(table.columns) == list(FEATURES)
    assert table["brightness"].tolist() == [90.0, 90.0]
    assert table["num_boxes"].tolist() == [0.0, 2.0]
    assert np.isnan(table["mean_box_share"][0])
    assert table["mean_box_share"][1] == pytest.approx(200 / 5000)


def test_frames_that_warm_a_service_up_are_no_production(tmp_path: Path) -> None:
    record = {"time": "2026-01-01T00:00:00Z", "model_version": "1", "width": 640, "height": 384, "brightness": 90.0}
    record |= {"contrast": 1.0, "sharpness": 1.0, "num_detections": 0, "mean_score": None, "mean_box_share": None}
    lines = [json.dumps({**record, "camera": camera, "class_counts": {}}) for camera in ("warm-up", "cam01")]
    (tmp_path / "features-0-1.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert len(production_features(tmp_path)) == 1


def test_no_recorded_frames_is_an_empty_table_and_no_folder_an_error(tmp_path: Path) -> None:
    assert production_features(tmp_path).shape == (0, len(FEATURES))
    with pytest.raises(DataError, match="DETECTOR_RECORD_DIR"):
        production_features(tmp_path / "absent")


@pytest.mark.parametrize("line", ["no json", "{}", '{"brightness": 1}', "[]", ""])
def test_a_line_that_is_no_record_is_an_error(tmp_path: Path, line: str) -> None:
    (tmp_path / "features-0-1.jsonl").write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match="no record"):
        production_features(tmp_path)

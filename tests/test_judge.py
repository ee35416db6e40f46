"""What is lost on the frozen frames: paired, by camera, and silent about it where the cameras are too few."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bentos.detector.detector import Detections
from flows.dataset.layout import Dataset, read_dataset
from flows.errors import DataError
from flows.judge import FrozenJudge
from flows.params import EvaluateParams
from flows.progress import silent

NUM_CAMERAS, NUM_FRAMES = 6, 3
BOX_XYXY = np.array([[10, 10, 40, 30]], dtype=np.float32)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Frames of 64 x 48 px from six cameras; each holds one car at (10, 10, 40, 30)."""
    (tmp_path / "images" / "test").mkdir(parents=True)
    (tmp_path / "labels" / "test").mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("names: [car, bus]\n")
    rows = ["image,split,camera,clip,time,slice"]
    for camera in range(NUM_CAMERAS):
        for frame in range(NUM_FRAMES):
            name = f"cam{camera}_{frame}"
            Image.new("RGB", (64, 48), (camera, frame, 0)).save(tmp_path / "images" / "test" / f"{name}.png")
            (tmp_path / "labels" / "test" / f"{name}.txt").write_text(f"0 {25 / 64} {20 / 48} {30 / 64} {20 / 48}\n")
            rows.append(f"images/test/{name}.png,test,cam{camera},clip1,,day")
    (tmp_path / "frames.csv").write_text("\n".join(rows) + "\n")
    return read_dataset(tmp_path)


def params(**changes: Any) -> EvaluateParams:
    values = {
        "split": "test",
        "unit": "camera",
        "block_s": 60.0,
        "min_units": 6,
        "alpha": 0.05,
        "replicates": 100,
        "min_map50_95": 0.1,
        "margin": 0.005,
        "goal": "non-inferior",
        "slice_margin": 0.05,
        "slice_rule": "not-worse",
        "min_objects_per_slice": 5,
        "insufficient": "report",
        "precision_margin": 0.05,
        "recall_margin": 0.05,
        "calibration_margin": 0.05,
        "max_latency_ms": 100.0,
        "max_slowdown": 1.5,
    }
    return EvaluateParams.model_validate({**values, **changes})


class StandInDetector:
    """Finds the car in every frame, `shift` px too far right in every third call."""

    def __init__(self, shift: float = 0.0, classes: tuple[str, ...] = ("car", "bus")) -> None:
        self.spec = SimpleNamespace(top_k=300, classes=classes)
        self._shift, self._calls = shift, 0

    def detect(self, images: list[bytes], *, conf: float, max_det: int) -> list[Detections]:
        assert conf < 0.01  # the whole tail counts
        found = []
        for _ in images:
            moved = BOX_XYXY + np.float32([self._shift * (self._calls % 3 == 0), 0] * 2)
            self._calls += 1
            found.append(Detections(moved, np.float32([0.9]), np.int64([0]), (64, 48), {}))
        return found


def started(dataset: Dataset, **changes: Any) -> FrozenJudge:
    judge = FrozenJudge(dataset, params(**changes))
    baseline = judge.start(StandInDetector(), silent)  # type: ignore[arg-type]
    assert (baseline.num_images, baseline.num_objects, baseline.num_units) == (18, 18, NUM_CAMERAS)
    assert baseline.map50_95 == pytest.approx(1.0)
    return judge


def test_an_engine_that_finds_the_same_loses_nothing_for_certain(dataset: Dataset) -> None:
    found = started(dataset).measure(StandInDetector(), silent)  # type: ignore[arg-type]
    assert found.map50_95 == pytest.approx(1.0)
    assert (found.loss.value, found.loss.lower, found.loss.upper) == (0.0, 0.0, 0.0)
    assert found.loss.num_units == NUM_CAMERAS


def test_an_engine_that_misplaces_boxes_loses(dataset: Dataset) -> None:
    judge = started(dataset)
    slightly, badly = (judge.measure(StandInDetector(shift), silent).loss for shift in (3.0, 12.0))  # type: ignore[arg-type]
    assert slightly.value is not None and slightly.lower is not None and slightly.upper is not None
    assert badly.value is not None
    assert 0 < slightly.value < badly.value
    assert slightly.lower <= slightly.value <= slightly.upper


def test_a_better_engine_has_a_negative_loss(dataset: Dataset) -> None:
    judge = FrozenJudge(dataset, params())
    judge.start(StandInDetector(6.0), silent)  # type: ignore[arg-type]
    loss = judge.measure(StandInDetector(), silent).loss  # type: ignore[arg-type]
    assert loss.value is not None and loss.value < 0


def test_too_few_cameras_bound_nothing(dataset: Dataset) -> None:
    loss = started(dataset, min_units=7).measure(StandInDetector(3.0), silent).loss  # type: ignore[arg-type]
    assert loss.value is not None and loss.value > 0
    assert loss.lower is loss.upper is None


def test_other_classes_than_the_data_are_refused(dataset: Dataset) -> None:
    with pytest.raises(DataError, match="the model knows car, the data car, bus"):
        FrozenJudge(dataset, params()).start(StandInDetector(classes=("car",)), silent)  # type: ignore[arg-type]

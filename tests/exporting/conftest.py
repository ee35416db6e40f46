"""A small detector with drawn-up weights, saved as Ultralytics saves one, and frames to try it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bentos.detector.detector import Detector
from flows.exporting import contest
from flows.exporting.accuracy import Accuracy, Baseline, Loss
from flows.exporting.calibration import Calibration, TrainingFrame
from flows.exporting.contest import Evidence
from flows.exporting.export import export_model
from flows.params import ExportParams
from flows.progress import Progress


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """yolo11n with two classes whose scores and boxes differ from place to place, noted as trained at 96 x 64 px."""
    import torch

    from flows.weights import load_ultralytics

    load_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(1)
    model = DetectionModel("yolo11n.yaml", nc=2, verbose=False)
    model.names = {0: "car", 1: "bus"}
    for branch in model.model[-1].cv3:
        torch.nn.init.normal_(branch[-1].weight, std=0.1)
        torch.nn.init.constant_(branch[-1].bias, -1.0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # statistics of what it sees: without them an untrained net is the same everywhere
    with torch.no_grad():
        model.train()(torch.rand(8, 3, 64, 96))
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    notes = {"input_size_wh": [96, 64], "classes": ["car", "bus"], "epoch": 1}
    torch.save({"model": model.half(), "train_args": {"imgsz": 96}, "detector": notes}, path)
    return path


@pytest.fixture(scope="session")
def frames() -> list[bytes]:
    """JPEGs of noise and blocks, of several shapes."""
    dice = np.random.default_rng(7)
    encoded = []
    for width, height in ((96, 64), (192, 128), (160, 160), (90, 200)):
        coarse = dice.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        sink = BytesIO()
        Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST).save(sink, "JPEG", quality=95)
        encoded.append(sink.getvalue())
    return encoded


@pytest.fixture(scope="session")
def make_params() -> Callable[..., ExportParams]:
    """Sound export parameters, with some replaced: the smallest contest, OpenVINO in fp32 alone."""

    def make(**changes: Any) -> ExportParams:
        values: dict[str, Any] = {
            "engine": "openvino",
            "precision": "fp32",
            "top_k": 300,
            "conf": 0.25,
            "iou": 0.6,
            "max_det": 100,
            "max_loss": 0.005,
            "min_speedup": 1.05,
            "parity_frames": 4,
            "parity_min_iou": 0.99,
            "parity_max_score_diff": 0.02,
            "reduced_min_iou": 0.5,
            "reduced_max_score_diff": 0.5,
            "reduced_min_matched": 0.1,
            "calibration_frames": 4,
            "int8_repairs": 0,
            "int8_repair_s": 600.0,
            "scaled_decode": "never",
        }
        return ExportParams.model_validate({**values, **changes})

    return make


@dataclass
class StandInJudge:
    """Says what it is told: the loss of each precision, one after another where there are several."""

    losses: dict[str, list[Loss]] = field(default_factory=dict)
    num_units: int = 8
    measured: list[str] = field(default_factory=list)

    def start(self, reference: Detector, progress: Progress) -> Baseline:
        return Baseline(
            split="test",
            unit="camera",
            alpha=0.05,
            num_images=40,
            num_objects=200,
            num_units=self.num_units,
            min_units=6,
            map50_95=0.5,
        )

    def measure(self, detector: Detector, progress: Progress) -> Accuracy:
        name = "scaled" if detector.spec.input.scaled_decode else detector.spec.engine.precision
        self.measured.append(name)
        told = self.losses.get(name, [make_loss(0.0)])
        loss = told.pop(0) if len(told) > 1 else told[0]
        return Accuracy(map50_95=None if loss.value is None else 0.5 - loss.value, loss=loss)


def make_loss(value: float, reach: float | None = 0.001) -> Loss:
    """A loss with an interval of +- `reach`; without one, of too few units."""
    if reach is None:
        return Loss(value=value, lower=None, upper=None, num_units=2)
    return Loss(value=value, lower=value - reach, upper=value + reach, num_units=8)


@pytest.fixture
def loss() -> Callable[..., Loss]:
    return make_loss


@pytest.fixture
def judge() -> StandInJudge:
    return StandInJudge()


@pytest.fixture(scope="session")
def calibration(frames: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    """The frames as files of a training split with two slices."""
    folder = tmp_path_factory.mktemp("train")
    chosen = []
    for index, data in enumerate(frames):
        path = folder / f"{index}.jpg"
        path.write_bytes(data)
        chosen.append(TrainingFrame(path, path.name, (("day", "night")[index % 2], "cam01")))
    return Calibration(tuple(chosen), folder / "kept")


@pytest.fixture
def evidence(frames: list[bytes], judge: StandInJudge, calibration: Calibration) -> Evidence:
    return Evidence(images=frames, judge=judge, calibration=calibration, latency_budget_ms=1e9)


@pytest.fixture
def told_speeds(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Images a second by the name of a candidate's folder, like openvino-int8; nothing is timed. Default: 100."""
    speeds: dict[str, float] = {}

    def answer(folder: Path, images: object) -> dict[str, Any]:
        speed = speeds.get(folder.name, 100.0)
        batches = {"1": {"times_ms": [1000 / speed] * 4, "images_per_s": speed}}
        return {"load_s": 0.1, "resident_mb": 100.0, "num_parallel": 1, "lone_ms": [5.0], "batches": batches}

    monkeypatch.setattr(contest, "run_probe", answer)
    return speeds


@pytest.fixture(scope="session")
def exported_fp32(
    checkpoint: Path,
    frames: list[bytes],
    calibration: Calibration,
    make_params: Callable[..., ExportParams],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A model directory that was exported for OpenVINO in fp32."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    given = Evidence(images=frames, judge=StandInJudge(), calibration=calibration, latency_budget_ms=1e9)
    report = export_model(checkpoint, folder, make_params(), "demo", 640, given)
    assert report.passed
    return folder

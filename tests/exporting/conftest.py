"""A small detector with drawn-up weights, saved as Ultralytics saves one, and frames to try it on."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.params import ExportParams


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
    """Sound export parameters, with some replaced."""

    def make(**changes: Any) -> ExportParams:
        values: dict[str, Any] = {
            "engine": "auto",
            "precision": "fp32",
            "top_k": 300,
            "conf": 0.25,
            "iou": 0.6,
            "max_det": 100,
            "parity_frames": 4,
            "parity_min_iou": 0.99,
            "parity_max_score_diff": 0.02,
        }
        return ExportParams.model_validate({**values, **changes})

    return make

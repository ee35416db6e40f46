"""The model directories that are measured: given, or exported from one checkpoint for each size, and kept."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import ROOT
from bentos.detector.contract import (
    InputSpec,
    ModelSpec,
    Precision,
    Thresholds,
    file_sha256,
    read_spec,
    write_spec,
)
from bentos.detector.engines.quiet import import_openvino
from flows.exporting import graph as graph_module
from flows.exporting import openvino_build
from flows.machine import read_version
from flows.params_file import read_params
from flows.weights import load_ultralytics, threads

CACHE = ROOT / ".tca" / "benchmarks" / "models"
DEFAULT_WEIGHTS = Path("artifacts/model/weights.pt")
_SEED = 0


@dataclass(frozen=True)
class Model:
    """A model directory to measure. `weights` is the checkpoint that it came from; without it there are no peers."""

    label: str
    folder: Path
    weights: Path | None
    spec: ModelSpec

    @property
    def side(self) -> int:
        """The longer side of the input, px."""
        return max(self.spec.input.size_wh)


def given_models(folders: Sequence[Path]) -> list[Model]:
    """Model directories as they are. Raises ModelRefused for one that is none."""
    models = []
    for folder in folders:
        spec, weights = read_spec(folder), folder / "weights.pt"
        models.append(Model(_label(spec), folder.resolve(), weights.resolve() if weights.is_file() else None, spec))
    labels = [model.label for model in models]
    return [
        dataclasses.replace(model, label=f"{model.label} {model.folder.name}")
        if labels.count(model.label) > 1
        else model
        for model in models
    ]


def exported_models(
    weights: Path | None, sides: Sequence[int], precisions: Sequence[Precision], *, scaled_decode: bool
) -> list[Model]:
    """One OpenVINO model for each side of a square input and each precision.

    Args:
        weights: The checkpoint; None: the demo's if there is one, else YOLO11n as it is before training, which takes as
            long as a trained one but for the boxes that it does not find.
        sides: Sides of the input, px.
        precisions: Their arithmetic.
        scaled_decode: Whether JPEGs may be decoded at some eighths.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        EngineUnavailable: This CPU lacks the precision.
    """
    checkpoint = weights or (DEFAULT_WEIGHTS if DEFAULT_WEIGHTS.is_file() else _untrained())
    models = []
    for side in sides:
        for precision in precisions:
            folder = _export(checkpoint, side, precision, scaled_decode)
            spec = read_spec(folder)
            models.append(Model(_label(spec), folder, folder / "weights.pt", spec))
    return models


def best_precision() -> Precision:
    """The fastest arithmetic of this CPU that needs no calibration: bf16 where it has units for it, else fp32."""
    able = import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if "BF16" in able else "fp32"


def _label(spec: ModelSpec) -> str:
    width, height = spec.input.size_wh
    return f"{width} {spec.engine.precision}" if width == height else f"{width} x {height} {spec.engine.precision}"


def _export(checkpoint: Path, side: int, precision: Precision, scaled_decode: bool) -> Path:
    folder = CACHE / f"{_key(checkpoint)}-{side}-{precision}{'-scaled' if scaled_decode else ''}"
    if folder.is_dir():
        return folder
    params = read_params(ROOT / "params.yaml", []).export
    draft = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    draft.mkdir(parents=True)
    try:
        with threads(1):
            # A checkpoint that says what it was trained at is exported for other sizes all the same: this is speed.
            graph = dataclasses.replace(graph_module.read_graph(checkpoint, side, params.top_k), size_wh=(side, side))
            graph_module.write_onnx(graph, draft / "model.onnx")
            engine = openvino_build.build_openvino(draft / "model.onnx", draft, precision)
        served = sorted(draft.iterdir())
        shutil.copyfile(checkpoint, draft / "weights.pt")
        spec = ModelSpec(
            name=f"yolo11-{side}",
            classes=graph.classes,
            input=InputSpec(size_wh=(side, side), scaled_decode=scaled_decode),
            thresholds=Thresholds(conf=params.conf, iou=params.iou, max_det=min(params.max_det, graph.top_k)),
            top_k=graph.top_k,
            engine=engine,
            files={path.name: file_sha256(path) for path in served},
        )
        write_spec(draft, spec)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _key(checkpoint: Path) -> str:
    """Changes with the checkpoint, the code that exports and the libraries that it uses."""
    digest = hashlib.sha256(file_sha256(checkpoint).encode())
    for module in (graph_module, openvino_build):
        digest.update(Path(str(module.__file__)).read_bytes())
    digest.update(f"{read_version('openvino')} {read_version('torch')}".encode())
    return digest.hexdigest()[:12]


def _untrained() -> Path:
    path = CACHE / "untrained.pt"
    if not path.is_file():
        load_ultralytics()
        import torch
        from ultralytics import YOLO  # type: ignore[attr-defined]

        path.parent.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(_SEED)
        YOLO("yolo11n.yaml").save(str(path))
    return path

"""Each kind of engine gets what it needs to be built, and its folder is a model directory."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bentos.detector.contract import EngineSpec, read_spec
from flows.exporting import build, onnxruntime_build
from flows.exporting.build import Source, build_candidate
from flows.exporting.calibration import Calibration
from flows.exporting.candidates import Candidate
from flows.exporting.graph import DetectorGraph
from flows.params import ExportParams

GPU = "NVIDIA H200 (compute capability 9.0)"


@pytest.fixture
def source(calibration: Calibration, make_params: Callable[..., ExportParams], tmp_path: Path) -> Source:
    onnx_file = tmp_path / "model.onnx"
    onnx_file.write_bytes(b"a graph")
    graph = DetectorGraph(None, ("car", "bus"), (96, 64), 50)  # type: ignore[arg-type]
    return Source(graph, onnx_file, make_params(max_det=80), "demo", calibration, tmp_path / "timing.cache")


@pytest.mark.parametrize(("precision", "calibrated"), [("fp16", False), ("int8", True)])
def test_tensorrt_gets_the_graph_the_cache_and_frames_for_int8(
    source: Source, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, precision: Any, calibrated: bool
) -> None:
    given: list[Any] = []

    def stand_in(onnx_file: Path, folder: Path, *rest: Any) -> EngineSpec:
        given.extend([onnx_file.read_bytes(), *rest])
        (folder / "model.engine").write_bytes(b"kernels")
        return EngineSpec(kind="tensorrt", file="model.engine", precision=precision, device=GPU)

    monkeypatch.setattr(build, "build_tensorrt", stand_in)
    told: list[tuple[int, int, str]] = []
    built = build_candidate(
        Candidate("tensorrt", precision), source, tmp_path / "trt", progress=lambda *one: told.append(one)
    )
    onnx, asked, size_wh, cache, frames, progress = given
    assert (onnx, asked, size_wh, cache) == (b"a graph", precision, (96, 64), tmp_path / "timing.cache")
    assert (frames is not None) is calibrated
    if calibrated:
        assert frames.shape == (4, 64, 96, 3)
        assert frames.dtype == np.uint8
    progress(1, 2, "tactics")
    assert told == [(1, 2, "tactics")]
    assert built.engine_bytes == len(b"kernels")
    spec = read_spec(tmp_path / "trt")
    assert sorted(spec.files) == ["model.engine", "model.onnx"]
    assert (spec.engine.device, spec.top_k, spec.thresholds.max_det) == (GPU, 50, 50)


def test_onnx_runtime_loads_the_graph_itself(source: Source, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnxruntime_build, "find_device", lambda: "CPU")
    built = build_candidate(Candidate("onnxruntime", "fp32"), source, tmp_path / "ort")
    assert built.spec.engine.file == "model.onnx"
    assert built.engine_bytes == len(b"a graph")


class StandInCuda(types.ModuleType):
    """`cuda.bindings.runtime` with one GPU, or with none."""

    def __init__(self, error: int) -> None:
        super().__init__("cuda.bindings.runtime")
        self._error = error

    def cudaGetDeviceProperties(self, index: int) -> tuple[int, Any]:
        return self._error, types.SimpleNamespace(name=b"NVIDIA H200", major=9, minor=0)


@pytest.mark.parametrize(
    ("providers", "error", "device"),
    [
        (["CPUExecutionProvider"], 0, "CPU"),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], 0, GPU),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], 100, "CPU"),
    ],
)
def test_onnx_runtime_takes_the_gpu_where_it_can(
    monkeypatch: pytest.MonkeyPatch, providers: list[str], error: int, device: str
) -> None:
    library = types.SimpleNamespace(get_available_providers=lambda: providers)
    monkeypatch.setattr(onnxruntime_build, "import_onnxruntime", lambda: library)
    runtime = StandInCuda(error)
    bindings = types.ModuleType("cuda.bindings")
    bindings.runtime = runtime  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime)
    assert onnxruntime_build.find_device() == device

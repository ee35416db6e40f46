"""From a checkpoint to a model directory whose engine is proven equal to PyTorch."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from bentos.detector.contract import EngineSpec, InputSpec, ModelSpec, Thresholds, file_sha256, write_spec
from bentos.detector.detector import Detector
from bentos.detector.errors import LoadError
from flows.errors import DataError, EngineUnavailable
from flows.exporting.benchmark import BatchLatency, measure_latency
from flows.exporting.graph import DetectorGraph, read_graph, write_onnx
from flows.exporting.onnxruntime_build import build_onnxruntime, require_onnxruntime
from flows.exporting.openvino_build import build_openvino, require_openvino
from flows.exporting.parity import ParityReport, compare_engine
from flows.exporting.tensorrt_build import build_tensorrt, require_tensorrt
from flows.params import ExportParams
from flows.progress import Progress, silent
from flows.weights import threads

BuildableKind = Literal["tensorrt", "openvino", "onnxruntime"]
KINDS: tuple[BuildableKind, ...] = ("tensorrt", "openvino", "onnxruntime")
_STEPS = (
    "reading the checkpoint",
    "writing ONNX",
    "building the engine",
    "comparing with PyTorch",
    "measuring latency",
)


class EngineState(BaseModel):
    """One kind of engine: whether this machine can build it, and whether it was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(description="tensorrt, openvino or onnxruntime")
    available: bool = Field(description="whether this machine can build and run it in the precision asked for")
    built: bool = Field(description="whether it is the engine of the model directory")
    reason: str = Field(description="why it was built, or was not")


class ExportReport(BaseModel):
    """One exported model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: bool = Field(description="whether the engine agrees with PyTorch")
    sentence: str = Field(description="verdict in one sentence")
    model_digest: str = Field(description="sha256 that model.json carries")
    engine: str = Field(description="kind of the engine that was built")
    precision: str = Field(description="its arithmetic")
    device: str = Field(description="CPU, or GPU and compute capability")
    input_size_wh: tuple[int, int] = Field(description="width and height of the network's input, px")
    classes: tuple[str, ...] = Field(description="class names, by class id")
    top_k: int = Field(description="candidates that leave the graph for each frame")
    file_bytes: dict[str, int] = Field(description="size of each file of the model directory, bytes")
    parity: ParityReport = Field(description="the engine against PyTorch")
    latency: tuple[BatchLatency, ...] = Field(description="time from image bytes to boxes, by batch size")
    engines: tuple[EngineState, ...] = Field(description="every kind of engine, built or not, and why")


def export_model(
    checkpoint: Path,
    model_dir: Path,
    params: ExportParams,
    name: str,
    image_size: int,
    frames: Sequence[bytes],
    progress: Progress = silent,
) -> ExportReport:
    """Write weights.pt, model.onnx, the engine and model.json to `model_dir`, and compare the engine with PyTorch.

    `model_dir` is replaced when all is done. An engine that differs is written all the same, to be looked at, and the
    report says that it did not pass.

    Args:
        name: Name of the model in model.json.
        image_size: Side of the input, px, for a checkpoint that does not say what it was trained at.
        frames: Bytes of image files on which engine and PyTorch are compared and timed.

    Raises:
        CheckpointError: The file is no detection checkpoint.
        EngineUnavailable: The engine or precision asked for cannot be built here.
        DataError: There are no frames to compare on.
    """
    if not frames:
        raise DataError("there are no frames to compare engine and PyTorch on", "The split val must not be empty")
    engines = list_engines(params)
    kind = next(state.kind for state in engines if state.built)
    draft = model_dir.with_name(f"{model_dir.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    with threads(1):
        progress(0, len(_STEPS), _STEPS[0])
        graph = read_graph(checkpoint, image_size, params.top_k)
        shutil.copyfile(checkpoint, draft / "weights.pt")
        progress(1, len(_STEPS), _STEPS[1])
        write_onnx(graph, draft / "model.onnx")
        progress(2, len(_STEPS), _STEPS[2])
        engine = _build(kind, draft, params, graph, model_dir.with_name("tensorrt-timing.cache"))
        spec = write_spec(draft, _describe(draft, graph, engine, params, name))
        parity, latency = _prove(draft, graph, params, frames, progress)
    sizes = {path.name: path.stat().st_size for path in sorted(draft.iterdir())}
    _publish(draft, model_dir)
    progress(len(_STEPS), len(_STEPS), "done")
    return ExportReport(
        passed=parity.passed,
        sentence=f"{kind} {engine.precision} at {graph.size_wh[0]} x {graph.size_wh[1]} px {parity.sentence}",
        model_digest=spec.digest,
        engine=kind,
        precision=engine.precision,
        device=engine.device,
        input_size_wh=graph.size_wh,
        classes=graph.classes,
        top_k=graph.top_k,
        file_bytes=sizes,
        parity=parity,
        latency=latency,
        engines=engines,
    )


def list_engines(params: ExportParams) -> tuple[EngineState, ...]:
    """Every kind of engine: can it be built here, and is it the one to build? `auto` takes TensorRT, else OpenVINO.

    Raises:
        EngineUnavailable: The kind asked for cannot be built here; `auto` finds neither.
    """
    obstacles = {kind: _obstacle(kind, params) for kind in KINDS}
    wanted = params.engine
    if wanted == "auto":
        wanted = "openvino" if obstacles["tensorrt"] else "tensorrt"
    if obstacle := obstacles[wanted]:
        raise obstacle
    return tuple(_state(kind, obstacles[kind], kind == wanted, params.engine) for kind in KINDS)


def _obstacle(kind: BuildableKind, params: ExportParams) -> EngineUnavailable | None:
    try:
        match kind:
            case "tensorrt":
                require_tensorrt()
            case "openvino":
                require_openvino(params.precision)
            case "onnxruntime":
                require_onnxruntime(params.precision)
    except EngineUnavailable as error:
        return error
    return None


def _state(kind: str, obstacle: EngineUnavailable | None, built: bool, wanted: str) -> EngineState:
    if obstacle is not None:
        return EngineState(kind=kind, available=False, built=False, reason=f"not built: {obstacle}")
    if not built:
        return EngineState(kind=kind, available=True, built=False, reason=f"not built: export.engine is {wanted}")
    chosen = "the best engine that this machine can run" if wanted == "auto" else "asked for by export.engine"
    return EngineState(kind=kind, available=True, built=True, reason=f"built: {chosen}")


def _build(kind: str, folder: Path, params: ExportParams, graph: DetectorGraph, timing_cache: Path) -> EngineSpec:
    onnx_file = folder / "model.onnx"
    if kind == "tensorrt":
        return build_tensorrt(onnx_file, folder, params.precision, graph.size_wh, timing_cache)
    if kind == "openvino":
        return build_openvino(onnx_file, folder, params.precision)
    return build_onnxruntime(onnx_file, params.precision)


def _describe(folder: Path, graph: DetectorGraph, engine: EngineSpec, params: ExportParams, name: str) -> ModelSpec:
    # weights.pt stays out: serving needs neither the file nor PyTorch.
    served = sorted(path for path in folder.iterdir() if path.suffix != ".pt")
    return ModelSpec(
        name=name,
        classes=graph.classes,
        input=InputSpec(size_wh=graph.size_wh),
        thresholds=Thresholds(conf=params.conf, iou=params.iou, max_det=min(params.max_det, graph.top_k)),
        top_k=graph.top_k,
        engine=engine,
        files={path.name: file_sha256(path) for path in served},
    )


def _prove(
    folder: Path, graph: DetectorGraph, params: ExportParams, frames: Sequence[bytes], progress: Progress
) -> tuple[ParityReport, tuple[BatchLatency, ...]]:
    try:
        detector = Detector.load(folder)
    except LoadError as error:
        raise EngineUnavailable(f"the engine was built, but does not load: {error.message}") from error
    progress(3, len(_STEPS), _STEPS[3])
    parity = compare_engine(detector, graph, frames, params.parity_min_iou, params.parity_max_score_diff)
    progress(4, len(_STEPS), _STEPS[4])
    latency = measure_latency(detector, frames)
    detector.close()
    return parity, latency


def _publish(draft: Path, model_dir: Path) -> None:
    old = model_dir.with_name(f"{model_dir.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if model_dir.exists():
        model_dir.rename(old)
    draft.rename(model_dir)
    shutil.rmtree(old, ignore_errors=True)

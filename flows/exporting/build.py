"""One candidate as a model directory of its own: the engine's files, model.onnx and model.json."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bentos.detector.contract import EngineSpec, InputSpec, ModelSpec, Thresholds, file_sha256, write_spec
from bentos.detector.detector import Detector
from bentos.detector.errors import LoadError
from flows.errors import EngineUnavailable
from flows.exporting.calibration import Calibration
from flows.exporting.candidates import Candidate
from flows.exporting.graph import DetectorGraph
from flows.exporting.onnxruntime_build import build_onnxruntime
from flows.exporting.openvino_build import build_openvino
from flows.exporting.tensorrt_build import build_tensorrt
from flows.params import ExportParams
from flows.progress import Progress, silent


@dataclass(frozen=True)
class Source:
    """What every candidate is built from."""

    graph: DetectorGraph
    onnx_file: Path
    params: ExportParams
    name: str
    calibration: Calibration
    timing_cache: Path

    def describe(self, engine: EngineSpec, files: dict[str, str]) -> ModelSpec:
        """model.json of this graph run by `engine`."""
        graph, params = self.graph, self.params
        return ModelSpec(
            name=self.name,
            classes=graph.classes,
            input=InputSpec(size_wh=graph.size_wh),
            thresholds=Thresholds(conf=params.conf, iou=params.iou, max_det=min(params.max_det, graph.top_k)),
            top_k=graph.top_k,
            engine=engine,
            files=files,
        )


@dataclass(frozen=True)
class Built:
    """A candidate's model directory. `float_blocks`: what an INT8 engine kept in float."""

    candidate: Candidate
    folder: Path
    spec: ModelSpec
    float_blocks: tuple[str, ...] = ()

    def load(self) -> Detector:
        """The detector as serving loads it. Raises EngineUnavailable."""
        try:
            return Detector.load(self.folder)
        except LoadError as error:
            raise EngineUnavailable(f"{self.candidate.name} was built, but does not load: {error}") from error

    @property
    def engine_bytes(self) -> int:
        """Size of what the engine loads."""
        files = [name for name in self.spec.files if name != "model.onnx" or self.spec.engine.file == name]
        return sum((self.folder / name).stat().st_size for name in files)


def build_candidate(
    candidate: Candidate,
    source: Source,
    folder: Path,
    float_blocks: Sequence[str] = (),
    progress: Progress = silent,
) -> Built:
    """Build into `folder`, from nothing.

    Raises:
        EngineUnavailable: The engine cannot be built after all.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _link(source.onnx_file, folder / "model.onnx")
    engine = _build(candidate, source, folder, float_blocks, progress)
    files = {path.name: file_sha256(path) for path in sorted(folder.iterdir())}
    return Built(candidate, folder, write_spec(folder, source.describe(engine, files)), tuple(float_blocks))


def _build(
    candidate: Candidate, source: Source, folder: Path, float_blocks: Sequence[str], progress: Progress
) -> EngineSpec:
    onnx_file, precision, size_wh = folder / "model.onnx", candidate.precision, source.graph.size_wh
    frames = source.calibration.read(size_wh)[0] if precision == "int8" else None
    if candidate.engine == "tensorrt":
        return build_tensorrt(onnx_file, folder, precision, size_wh, source.timing_cache, frames, progress)
    if candidate.engine == "openvino":
        return build_openvino(onnx_file, folder, precision, frames, float_blocks)
    return build_onnxruntime(onnx_file, precision)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)

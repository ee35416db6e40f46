"""TensorRT: an engine bound to this GPU and this version of the library.

Written against the TensorRT 10.13 Python API, using nothing that 10.13 deprecates or 11 has removed. The calls are
covered by tests against a stand-in, the rewritten graphs by tests on a CPU; no engine has been built on a GPU yet.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bentos.detector.contract import EngineSpec, Precision
from bentos.detector.engines.cuda import device_name, load_cuda
from bentos.detector.engines.lanes import BATCH_BUCKETS
from bentos.detector.errors import LoadError
from flows.errors import EngineUnavailable
from flows.exporting.graph import INPUT
from flows.exporting.tensorrt_graph import rewrite_graph
from flows.progress import Progress, silent

WORKSPACE_BYTES = 2 << 30
_INSTALL = "Install it on a machine with an NVIDIA GPU: pip install 'its-camera-ai[tensorrt]'"
_LEAST_CAPABILITY: dict[Precision, float] = {"bf16": 8.0}


def require_tensorrt(precision: Precision = "fp32") -> tuple[Any, str]:
    """The tensorrt module, and the GPU as model.json names it.

    Raises:
        EngineUnavailable: There is no library or no GPU, or it does not compute in `precision`.
    """
    try:
        import tensorrt
    except ImportError as error:
        raise EngineUnavailable(f"TensorRT is not installed (there is no {error.name})", _INSTALL) from None
    try:
        gpu = device_name(load_cuda("TensorRT"))
    except LoadError as error:
        raise EngineUnavailable(
            f"TensorRT needs an NVIDIA GPU ({error.message})", "Choose export.engine=openvino"
        ) from None
    least = _LEAST_CAPABILITY.get(precision, 0.0)
    found = re.search(r"capability (\d+\.\d+)", gpu)
    if found and float(found.group(1)) < least:
        raise EngineUnavailable(f"{gpu} does not compute in {precision}: that takes {least}", "Choose fp16")
    return tensorrt, gpu


def build_tensorrt(
    onnx_file: Path,
    folder: Path,
    precision: Precision,
    size_wh: tuple[int, int],
    timing_cache: Path,
    calibration: npt.NDArray[np.uint8] | None = None,
    progress: Progress = silent,
) -> EngineSpec:
    """Write model.engine into `folder`, with a profile of its own for each batch bucket.

    Args:
        timing_cache: Kernel timings of earlier builds are kept beside this path, in a file for each GPU and version.
        calibration: (N, H, W, 3) letterboxed frames, for int8.
        progress: Told the steps of TensorRT's outermost phase, with the innermost one as note.

    Raises:
        EngineUnavailable: No library, no GPU, no such precision, no frames for INT8, or the graph is refused.
    """
    trt, gpu = require_tensorrt(precision)
    logger = _new_logger(trt)
    builder = trt.Builder(logger)
    network = _parse(trt, builder, logger, rewrite_graph(onnx_file, precision, calibration))
    config = _configure(trt, builder, size_wh)
    monitor = config.progress_monitor = _new_monitor(trt, progress)  # must outlive the build
    kept = timing_cache.with_name(f"{timing_cache.stem}-{_slug(gpu)}-{trt.__version__}{timing_cache.suffix}")
    _use_timings(config, kept)
    plan = builder.build_serialized_network(network, config)
    if monitor.interruption is not None:
        raise monitor.interruption
    if plan is None:
        raise EngineUnavailable(f"TensorRT could not build the engine: {logger.last}", "Try export.precision=fp32")
    path = folder / "model.engine"
    path.write_bytes(memoryview(plan))
    _keep_timings(config, kept)
    versions = {"tensorrt": str(trt.__version__)}
    return EngineSpec(kind="tensorrt", file=path.name, precision=precision, versions=versions, device=gpu)


def _parse(trt: Any, builder: Any, logger: Any, model: bytes) -> Any:
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        reasons = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise EngineUnavailable(f"TensorRT cannot read the ONNX graph: {reasons}")
    return network


def _configure(trt: Any, builder: Any, size_wh: tuple[int, int]) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.clear_flag(trt.BuilderFlag.TF32)  # ten bits of mantissa are not fp32
    # An engine that runs on other GPUs, too, does without the kernels of this one.
    config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.NONE
    width, height = size_wh
    for bucket in BATCH_BUCKETS:
        profile = builder.create_optimization_profile()
        profile.set_shape(INPUT, *[(bucket, height, width, 3)] * 3)
        if config.add_optimization_profile(profile) < 0:
            raise EngineUnavailable(f"TensorRT refuses batches of {bucket} frames of {width} x {height} px")
    return config


def _use_timings(config: Any, path: Path) -> None:
    """Timings of another GPU, of another version, or of a damaged file are no use: begin anew."""
    kept = path.read_bytes() if path.is_file() else b""
    for content in (kept, b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return


def _keep_timings(config: Any, path: Path) -> None:
    cache = config.get_timing_cache()
    if cache is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.draft")
    draft.write_bytes(memoryview(cache.serialize()))
    draft.replace(path)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _new_logger(trt: Any) -> Any:
    """Keeps TensorRT's last error, which says why a build failed; nothing is printed."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = "it gives no reason"

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.last = " ".join(msg.split())

    return Logger()


def _new_monitor(trt: Any, progress: Progress) -> Any:
    """Tells `progress` how far a build is. What that raises, Ctrl-C too, ends the build and is in `interruption`."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interruption: BaseException | None = None
            self._phases: dict[str, tuple[int, int]] = {}  # steps done and to do; the outermost first

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._phases[phase_name] = (0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._phases[phase_name] = (step + 1, self._phases.get(phase_name, (0, step + 1))[1])
            return self._tell()

        def phase_finish(self, phase_name: str) -> None:
            self._phases.pop(phase_name, None)

        def _tell(self) -> bool:
            phases = list(self._phases.items())
            (_, (done, total)), (note, (step, steps)) = phases[0], phases[-1]
            try:
                progress(done, total, f"{note}: {step}/{steps}")
            except BaseException as error:  # TensorRT would print it and go on
                self.interruption = error
            return self.interruption is None

    return Monitor()

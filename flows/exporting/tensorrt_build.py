"""TensorRT: an engine bound to this GPU and this version of the library.

Written against the TensorRT 10.13 Python API. The calls are covered by tests against a stand-in; it has not been run
on a GPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bentos.detector.contract import EngineSpec, Precision
from bentos.detector.engines.tensorrt import device_name
from bentos.detector.errors import LoadError
from flows.errors import EngineUnavailable
from flows.exporting.graph import INPUT

WORKSPACE_BYTES = 2 << 30
MAX_BATCH, USUAL_BATCH = 8, 4
_INSTALL = "Install it on a machine with an NVIDIA GPU: pip install 'its-camera-ai[tensorrt]'"


def require_tensorrt() -> tuple[Any, str]:
    """The tensorrt module, and the GPU as model.json names it. Raises EngineUnavailable without library or GPU."""
    try:
        import tensorrt
        from cuda.bindings import runtime
    except ImportError as error:
        raise EngineUnavailable(f"TensorRT is not installed (there is no {error.name})", _INSTALL) from None
    try:
        return tensorrt, device_name(runtime)
    except LoadError as error:
        raise EngineUnavailable(
            f"TensorRT needs an NVIDIA GPU ({error.message})", "Choose export.engine=openvino"
        ) from None


def build_tensorrt(
    onnx_file: Path, folder: Path, precision: Precision, size_wh: tuple[int, int], timing_cache: Path
) -> EngineSpec:
    """Write model.engine into `folder`, for batches of 1 to 8 frames.

    Args:
        timing_cache: Kernel timings of earlier builds on the same GPU; read if there, written after.

    Raises:
        EngineUnavailable: No library, no GPU, no such precision, or the graph is refused.
    """
    trt, gpu = require_tensorrt()
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = _parse(trt, builder, logger, onnx_file)
    config = _configure(trt, builder, precision, size_wh)
    cache = config.create_timing_cache(timing_cache.read_bytes() if timing_cache.is_file() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineUnavailable("TensorRT could not build the engine", "See its messages; try export.precision=fp32")
    path = folder / "model.engine"
    path.write_bytes(bytes(plan))
    timing_cache.write_bytes(bytes(config.get_timing_cache().serialize()))
    versions = {"tensorrt": str(trt.__version__)}
    return EngineSpec(kind="tensorrt", file=path.name, precision=precision, versions=versions, device=gpu)


def _parse(trt: Any, builder: Any, logger: Any, onnx_file: Path) -> Any:
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_file)):
        reasons = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise EngineUnavailable(f"TensorRT cannot read the ONNX graph: {reasons}")
    return network


def _configure(trt: Any, builder: Any, precision: Precision, size_wh: tuple[int, int]) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    if precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # ten bits of mantissa are not fp32
    else:
        flag = getattr(trt.BuilderFlag, precision.upper(), None)
        if flag is None:
            raise EngineUnavailable(
                f"TensorRT {trt.__version__} has no {precision} flag for this graph", "Choose export.precision=fp32"
            )
        config.set_flag(flag)
    width, height = size_wh
    profile = builder.create_optimization_profile()
    shapes = [(batch, height, width, 3) for batch in (1, USUAL_BATCH, MAX_BATCH)]
    profile.set_shape(INPUT, *shapes)
    config.add_optimization_profile(profile)
    return config

"""ONNX Runtime: the ONNX graph itself is the engine, on the GPU where its CUDA provider and a GPU are there.

The way to a GPU is covered by tests against stand-ins; it has not been run on one.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from bentos.detector.contract import EngineSpec, Precision
from bentos.detector.engines.cuda import device_name
from bentos.detector.engines.quiet import import_onnxruntime
from bentos.detector.errors import LoadError
from flows.errors import EngineUnavailable

_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")


def require_onnxruntime(precision: Precision) -> None:
    """Check that ONNX Runtime is here and that `precision` is the graph's own. Raises EngineUnavailable."""
    if precision != "fp32":
        raise EngineUnavailable(
            f"ONNX Runtime runs the graph as it was written, in fp32, not in {precision}",
            "Choose export.precision=fp32, or export.engine=openvino",
        )
    if not _installed():
        raise EngineUnavailable("ONNX Runtime is not installed", "Install it: pip install onnxruntime")


def build_onnxruntime(onnx_file: Path, precision: Precision) -> EngineSpec:
    """Name the ONNX file as the engine. Raises EngineUnavailable."""
    require_onnxruntime(precision)
    return EngineSpec(
        kind="onnxruntime", file=onnx_file.name, precision=precision, versions=_installed(), device=find_device()
    )


def find_device() -> str:
    """The GPU as model.json names it where ONNX Runtime can use it, else CPU."""
    if "CUDAExecutionProvider" not in import_onnxruntime().get_available_providers():
        return "CPU"
    try:
        from cuda.bindings import runtime

        return device_name(runtime)
    except (ImportError, LoadError):
        return "CPU"


def _installed() -> dict[str, str]:
    for name in _DISTRIBUTIONS:
        try:
            return {name: metadata.version(name)}
        except metadata.PackageNotFoundError:
            continue
    return {}

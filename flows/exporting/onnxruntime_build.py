"""ONNX Runtime: the ONNX graph itself is the engine."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from bentos.detector.contract import EngineSpec, Precision
from flows.errors import EngineUnavailable


def require_onnxruntime(precision: Precision) -> None:
    """Check that ONNX Runtime is here and that `precision` is the graph's own. Raises EngineUnavailable."""
    if precision != "fp32":
        raise EngineUnavailable(
            f"ONNX Runtime runs the graph as it was written, in fp32, not in {precision}",
            "Choose export.precision=fp32, or export.engine=openvino",
        )
    try:
        metadata.version("onnxruntime")
    except metadata.PackageNotFoundError:
        raise EngineUnavailable("ONNX Runtime is not installed", "Install it: pip install onnxruntime") from None


def build_onnxruntime(onnx_file: Path, precision: Precision) -> EngineSpec:
    """Name the ONNX file as the engine. Raises EngineUnavailable."""
    require_onnxruntime(precision)
    versions = {"onnxruntime": metadata.version("onnxruntime")}
    return EngineSpec(kind="onnxruntime", file=onnx_file.name, precision=precision, versions=versions, device="CPU")

"""OpenVINO: an IR from the ONNX graph, for the CPU."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bentos.detector.contract import EngineSpec, Precision
from bentos.detector.engines.quiet import import_openvino
from flows.errors import EngineUnavailable

_CAPABILITY: dict[Precision, str] = {"fp32": "FP32", "fp16": "FP16", "bf16": "BF16", "int8": "INT8"}


def require_openvino(precision: Precision) -> None:
    """Check that OpenVINO is here and that this CPU computes in `precision`. Raises EngineUnavailable."""
    try:
        able = read_capabilities()
    except ImportError as error:
        raise EngineUnavailable(f"OpenVINO cannot be imported: {error}", "Install it: pip install openvino") from None
    if _CAPABILITY[precision] not in able:
        known = ", ".join(name for name, capability in _CAPABILITY.items() if capability in able)
        raise EngineUnavailable(
            f"OpenVINO on this CPU does not compute in {precision}", f"Choose export.precision among {known}"
        )
    if precision == "int8" and _version("nncf") is None:
        raise EngineUnavailable("INT8 for OpenVINO needs NNCF, which is not installed", "Install it: pip install nncf")


def read_capabilities() -> frozenset[str]:
    """What OpenVINO says that this CPU computes in: FP32, FP16, BF16, INT8. Raises ImportError without OpenVINO."""
    return frozenset(import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def build_openvino(
    onnx_file: Path,
    folder: Path,
    precision: Precision,
    calibration: npt.NDArray[np.uint8] | None = None,
    float_blocks: Sequence[str] = (),
) -> EngineSpec:
    """Write model.xml and model.bin into `folder`.

    Weights are kept as they are, except halved for fp16 and in eight bits for int8.

    Args:
        calibration: (N, H, W, 3) letterboxed frames, for int8.
        float_blocks: Blocks of the network that stay float in int8, as `flows.exporting.int8` names them.

    Raises:
        EngineUnavailable: OpenVINO is missing, refuses the graph, or this CPU lacks the precision.
    """
    require_openvino(precision)
    openvino = import_openvino()
    path = folder / "model.xml"
    try:
        model = read_onnx(onnx_file)
        if precision == "int8":
            from flows.exporting.int8 import quantise

            assert calibration is not None, "INT8 needs frames"
            model = quantise(model, calibration, float_blocks, "FP16" in read_capabilities())
            number_names(model)
        openvino.save_model(model, path, compress_to_fp16=precision == "fp16")
    except RuntimeError as error:
        raise EngineUnavailable(f"OpenVINO refuses the graph: {str(error).splitlines()[-1]}") from error
    versions = {"openvino": openvino.__version__.split("-")[0]}
    if precision == "int8":
        versions["nncf"] = str(_version("nncf"))
    return EngineSpec(kind="openvino", file=path.name, precision=precision, versions=versions, device="CPU")


def read_onnx(onnx_file: Path) -> Any:
    """The graph as an `openvino.Model`, its constants folded, its nodes named alike in every process."""
    model = import_openvino().convert_model(onnx_file)
    number_names(model)
    return model


def number_names(model: Any) -> None:
    """OpenVINO names nodes after a counter of the process: count in the graph, so that the file repeats itself."""
    for number, node in enumerate(model.get_ordered_ops()):
        if counted := re.fullmatch(r"([A-Z][A-Za-z]+)_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{counted.group(1)}_{number}")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None

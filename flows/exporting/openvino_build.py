"""OpenVINO: an IR from the ONNX graph, for the CPU."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bentos.detector.contract import EngineSpec, Precision
from bentos.detector.engines.quiet import import_openvino
from flows.errors import EngineUnavailable

_CAPABILITY: dict[str, str] = {"fp32": "FP32", "fp16": "FP16", "bf16": "BF16"}


def require_openvino(precision: Precision) -> None:
    """Check that OpenVINO is here and that this CPU computes in `precision`. Raises EngineUnavailable."""
    try:
        openvino = import_openvino()
    except ImportError as error:
        raise EngineUnavailable(f"OpenVINO cannot be imported: {error}", "Install it: pip install openvino") from None
    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if _CAPABILITY.get(precision) not in able:
        known = ", ".join(name for name, capability in _CAPABILITY.items() if capability in able)
        raise EngineUnavailable(
            f"OpenVINO on this CPU does not compute in {precision}", f"Choose export.precision among {known}"
        )


def build_openvino(onnx_file: Path, folder: Path, precision: Precision) -> EngineSpec:
    """Write model.xml and model.bin into `folder`. Weights are kept as they are, except halved for fp16.

    Raises:
        EngineUnavailable: OpenVINO is missing, refuses the graph, or this CPU lacks the precision.
    """
    require_openvino(precision)
    openvino = import_openvino()
    path = folder / "model.xml"
    try:
        model = openvino.Core().read_model(onnx_file)
        _number_names(model)
        openvino.save_model(model, path, compress_to_fp16=precision == "fp16")
    except RuntimeError as error:
        raise EngineUnavailable(f"OpenVINO refuses the graph: {str(error).splitlines()[-1]}") from error
    version = openvino.__version__.split("-")[0]
    return EngineSpec(
        kind="openvino", file=path.name, precision=precision, versions={"openvino": version}, device="CPU"
    )


def _number_names(model: Any) -> None:
    """OpenVINO names nodes after a counter of the process: count in the graph, so that the file repeats itself."""
    for number, node in enumerate(model.get_ordered_ops()):
        kind = node.get_type_name()
        if re.fullmatch(rf"{re.escape(kind)}_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{kind}_{number}")

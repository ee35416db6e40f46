"""Engines are imported through here: left to themselves, they report home that they were."""

from __future__ import annotations

import os
import sys
from typing import Any


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry package, which it takes for absent then. Raises ImportError."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def import_onnxruntime() -> Any:
    """Import ONNX Runtime with its telemetry off. Raises ImportError."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime

"""What runs the graph: one small protocol, and the engines that fulfil it."""

from __future__ import annotations

import math
import os
import re
from importlib import metadata
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from bentos.detector.contract import EngineKind, ModelSpec
from bentos.detector.errors import EngineUnavailable

Hint = Literal["latency", "throughput", "adaptive"]
"""What a CPU engine favours: a lone batch, many side by side, or whichever there is."""

_DISTRIBUTIONS: dict[EngineKind, tuple[str, ...]] = {
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "fake": (),
}


class Engine(Protocol):
    """A loaded graph.

    Attributes:
        max_batch: Batch beyond which a frame gains nothing.
        num_parallel: How many `infer` calls may usefully run at once, from as many threads.
        num_decoders: Threads that should decode ahead of it; 0 where it computes on the cores that decode.
        solo: The same graph for a batch that has the machine to itself, where that is another engine.
    """

    max_batch: int
    num_parallel: int
    num_decoders: int
    solo: Engine | None

    def infer(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(B, H, W, 3) RGB to (B, top_k, 6): x1, y1, x2, y2 in input pixels, score, class id."""
        ...

    def close(self) -> None:
        """Give back what the engine holds; it cannot be used afterwards."""
        ...


def load_engine(model_dir: Path, spec: ModelSpec, *, num_threads: int | None = None, hint: Hint = "latency") -> Engine:
    """Load the engine that `spec` names.

    Raises:
        EngineUnavailable: Its library, version or device is not here.
        ModelRefused: The library refuses the file.
    """
    require_library(spec)
    match spec.engine.kind:
        case "openvino":
            from bentos.detector.engines.openvino import OpenVinoEngine

            return OpenVinoEngine.load(model_dir, spec, num_threads=num_threads, hint=hint)
        case "onnxruntime":
            from bentos.detector.engines.onnxruntime import OnnxRuntimeEngine

            return OnnxRuntimeEngine(model_dir, spec, num_threads=num_threads, hint=hint)
        case "tensorrt":
            from bentos.detector.engines.tensorrt import TensorRtEngine

            return TensorRtEngine(model_dir, spec)
        case "fake":
            from bentos.detector.engines.fake import FakeEngine

            return FakeEngine(model_dir, spec)


def usable_cores(quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """The cores that this process may use: those it may run on, or what its container's quota leaves of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text(encoding="ascii").split()
        return min(cores, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or "max"
        return cores


def require_library(spec: ModelSpec) -> None:
    """Check, without importing it, that the engine's library is here in the version it was exported with.

    Raises:
        EngineUnavailable: It is absent or another version.
    """
    names = _DISTRIBUTIONS[spec.engine.kind]
    if not names:
        return
    expected = next((spec.engine.versions[name] for name in names if name in spec.engine.versions), None)
    installed = _installed_version(names)
    if installed is None:
        wanted = f"{names[0]}=={_release(expected)}" if expected else names[0]
        raise EngineUnavailable(f"this model needs {names[0]}, which is not installed. Remedy: pip install {wanted}")
    if expected is not None and _release(expected) != _release(installed):
        raise EngineUnavailable(
            f"engine built with {names[0]} {_release(expected)}; this machine has {_release(installed)}. "
            f"Re-export here: tca export --engine {spec.engine.kind} --precision {spec.engine.precision}"
        )


def _installed_version(names: tuple[str, ...]) -> str | None:
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _release(version: str) -> str:
    """The first three numbers: `2026.4.1-21000-abc` and `2026.4.1` are the same release."""
    found = re.match(r"\d+(?:\.\d+){0,2}", version)
    return found.group() if found else version

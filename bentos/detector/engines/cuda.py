"""What the GPU engines ask of CUDA, through NVIDIA's own bindings (`cuda-python`), so that serving needs no PyTorch.

Every call's error code is checked. The module `cuda.bindings.runtime` is passed around as `cuda`: a test hands in a
stand-in of the same shape.
"""

from __future__ import annotations

import logging
from typing import Any

from bentos.detector.contract import ModelSpec
from bentos.detector.errors import EngineFailed, EngineUnavailable

logger = logging.getLogger("bentos.detector")


def load_cuda(needed_by: str) -> Any:
    """The module `cuda.bindings.runtime`. Raises EngineUnavailable when `cuda-python` is not installed."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise EngineUnavailable(
            f"{needed_by} needs cuda-python, but {error.name} is not installed. Remedy: pip install cuda-python"
        ) from None
    return runtime


def device_name(cuda: Any) -> str:
    """GPU model and compute capability, as they stand in model.json. Raises EngineUnavailable without a GPU.

    Args:
        cuda: The module `cuda.bindings.runtime`.
    """
    try:
        properties = call(cuda, "cudaGetDeviceProperties", 0)
    except EngineFailed as error:
        raise EngineUnavailable(f"this model needs an NVIDIA GPU: {error}. Re-export here: tca export") from None
    name = properties.name.decode() if isinstance(properties.name, bytes) else properties.name
    return f"{name} (compute capability {properties.major}.{properties.minor})"


def require_device(spec: ModelSpec, present: str) -> None:
    """Raises EngineUnavailable when the engine was built for another device than the one that is `present`."""
    if spec.engine.device != present:
        raise EngineUnavailable(
            f"engine built for {spec.engine.device}; this machine has {present}. "
            f"Re-export here: tca export --engine {spec.engine.kind} --precision {spec.engine.precision}"
        )


def call(cuda: Any, name: str, *arguments: Any) -> Any:
    """The value of a call that answers (error, value), or None where it has no value. Raises EngineFailed."""
    answer = getattr(cuda, name)(*arguments)
    if int(answer[0]) != 0:
        raise EngineFailed(f"{name} failed with {answer[0]!s}")
    return answer[1] if len(answer) > 1 else None


def release(cuda: Any, name: str, *arguments: Any) -> None:
    """Make a call that gives something back: a failure is logged, for there is nothing else left to do."""
    try:
        call(cuda, name, *arguments)
    except EngineFailed as error:
        logger.warning("while giving GPU resources back: %s", error)

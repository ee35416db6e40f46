"""TensorRT on an NVIDIA GPU, driven through NVIDIA's own bindings (`cuda-python`), so that serving needs no PyTorch.

Not yet run on a GPU: TensorRT's libraries come from NVIDIA's index, which the machines of this project do not reach.
Its calls are covered by a test against stand-ins for the two libraries.
"""

from __future__ import annotations

import ctypes
import math
import queue
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bentos.detector.contract import ModelSpec
from bentos.detector.errors import EngineFailed, EngineUnavailable, ModelRefused

INPUT = "frames"
OUTPUT = "detections"
_NUM_LANES = 2  # one batch is copied while the other computes


@dataclass(frozen=True)
class _Lane:
    """A stream of its own with pinned memory on both sides, so that its copies overlap with another's kernels."""

    context: Any
    stream: Any
    host_in: npt.NDArray[np.uint8]  # (max_batch, H, W, 3)
    host_out: npt.NDArray[np.float32]  # (max_batch, top_k, 6)
    device_in: int
    device_out: int


class TensorRtEngine:
    """A serialised engine, bound to the GPU model and the TensorRT version that it was built with."""

    num_parallel = _NUM_LANES

    def __init__(self, model_dir: Path, spec: ModelSpec) -> None:
        try:
            import tensorrt
            from cuda.bindings import runtime as cuda
        except ImportError as error:
            raise EngineUnavailable(
                f"this model needs TensorRT and cuda-python, but {error.name} is not installed. "
                "Remedy: pip install tensorrt cuda-python, or re-export: tca export --engine onnxruntime"
            ) from None
        self._cuda = cuda
        require_device(spec, device_name(cuda))
        runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING))
        self._engine = runtime.deserialize_cuda_engine((model_dir / spec.engine.file).read_bytes())
        if self._engine is None:
            raise ModelRefused(
                f"TensorRT {tensorrt.__version__} refuses {spec.engine.file}. "
                f"Re-export here: tca export --engine tensorrt --precision {spec.engine.precision}"
            )
        self.max_batch = int(self._engine.get_tensor_profile_shape(INPUT, 0)[2][0])
        self._lanes: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
        for _ in range(_NUM_LANES):
            self._lanes.put(self._open_lane(spec))

    def infer(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `Engine.infer`. Waits while all lanes are taken."""
        lane = self._lanes.get()
        try:
            return self._run(lane, frames)
        finally:
            self._lanes.put(lane)

    def close(self) -> None:
        """See `Engine.close`."""
        while not self._lanes.empty():
            lane = self._lanes.get()
            self._call("cudaFree", lane.device_in)
            self._call("cudaFree", lane.device_out)
            self._call("cudaFreeHost", lane.host_in.ctypes.data)
            self._call("cudaFreeHost", lane.host_out.ctypes.data)
            self._call("cudaStreamDestroy", lane.stream)

    def _run(self, lane: _Lane, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        size, kind = len(frames), self._cuda.cudaMemcpyKind
        lane.host_in[:size] = frames
        sent, received = lane.host_in[:size], lane.host_out[:size]
        to_device = (lane.device_in, sent.ctypes.data, sent.nbytes, kind.cudaMemcpyHostToDevice, lane.stream)
        to_host = (received.ctypes.data, lane.device_out, received.nbytes, kind.cudaMemcpyDeviceToHost, lane.stream)
        lane.context.set_input_shape(INPUT, sent.shape)
        self._call("cudaMemcpyAsync", *to_device)
        if not lane.context.execute_async_v3(int(lane.stream)):
            raise EngineFailed("TensorRT refused the batch; its log has the reason")
        self._call("cudaMemcpyAsync", *to_host)
        self._call("cudaStreamSynchronize", lane.stream)
        return received.copy()

    def _open_lane(self, spec: ModelSpec) -> _Lane:
        width, height = spec.input.size_wh
        in_shape = (self.max_batch, height, width, 3)
        out_shape = (self.max_batch, spec.top_k, 6)
        context = self._engine.create_execution_context()
        lane = _Lane(
            context=context,
            stream=self._call("cudaStreamCreate"),
            host_in=self._pinned(in_shape, np.dtype(np.uint8)),
            host_out=self._pinned(out_shape, np.dtype(np.float32)),
            device_in=int(self._call("cudaMalloc", math.prod(in_shape))),
            device_out=int(self._call("cudaMalloc", math.prod(out_shape) * 4)),
        )
        context.set_tensor_address(INPUT, lane.device_in)
        context.set_tensor_address(OUTPUT, lane.device_out)
        return lane

    def _pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        num_bytes = math.prod(shape) * dtype.itemsize
        address = int(self._call("cudaHostAlloc", num_bytes, self._cuda.cudaHostAllocDefault))
        memory: Any = (ctypes.c_byte * num_bytes).from_address(address)
        return np.ndarray(shape, dtype=dtype, buffer=memory)

    def _call(self, name: str, *arguments: Any) -> Any:
        return _checked(name, getattr(self._cuda, name)(*arguments))


def device_name(cuda: Any) -> str:
    """GPU model and compute capability, as they stand in model.json. Raises EngineUnavailable without a GPU.

    Args:
        cuda: The module `cuda.bindings.runtime`.
    """
    try:
        properties = _checked("cudaGetDeviceProperties", cuda.cudaGetDeviceProperties(0))
    except EngineFailed as error:
        raise EngineUnavailable(f"this model needs an NVIDIA GPU: {error}. Re-export here: tca export") from None
    name = properties.name.decode() if isinstance(properties.name, bytes) else properties.name
    return f"{name} (compute capability {properties.major}.{properties.minor})"


def require_device(spec: ModelSpec, present: str) -> None:
    """Raises EngineUnavailable when the engine was built for another device than the one that is `present`."""
    if spec.engine.device != present:
        raise EngineUnavailable(
            f"engine built for {spec.engine.device}; this machine has {present}. "
            f"Re-export here: tca export --engine tensorrt --precision {spec.engine.precision}"
        )


def _checked(name: str, answer: tuple[Any, ...]) -> Any:
    """The value of a CUDA call's (error, value) answer, None where it has no value. Raises EngineFailed."""
    if int(answer[0]) != 0:
        raise EngineFailed(f"{name} failed with {answer[0]!s}")
    return answer[1] if len(answer) > 1 else None

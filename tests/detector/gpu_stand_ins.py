# ruff: noqa: N801, N803, N815 -- the stand-ins bear the names that CUDA, TensorRT and ONNX Runtime gave
"""CUDA, TensorRT and ONNX Runtime with CUDA on ordinary memory: exactly the calls that the engines make.

Work given to a stream is done when somebody waits for the stream, not before; what is captured is done when its graph
is launched; memory that is not there, not pinned, too small or freed is refused. So a missing copy or wait shows.
"""

from __future__ import annotations

import ctypes
import enum
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np

GPU = "NVIDIA H200 (compute capability 9.0)"
TOP_K = 8
Work = Callable[[], None]


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


OK, BAD = cudaError_t.cudaSuccess, cudaError_t.cudaErrorInvalidValue


class Stream:
    """Its handle is an integer, as TensorRT wants it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pending: list[Work] = []
        self.captured: list[Work] | None = None
        self.spoilt = False

    def __int__(self) -> int:
        return self.number

    def take(self, work: Work) -> None:
        (self.pending if self.captured is None else self.captured).append(work)


class StandInCuda(types.ModuleType):
    """`cuda.bindings.runtime`.

    Args:
        fail_at: Number of the call that fails.
        refuse: Name of a call that always fails.
        error: The code it fails with.

    Attributes:
        calls: Names of all calls so far.
        live: What was taken and not given back yet.
    """

    cudaHostAllocDefault = 0
    cudaStreamNonBlocking = 1

    class cudaMemcpyKind(enum.IntEnum):
        cudaMemcpyHostToDevice = 1
        cudaMemcpyDeviceToHost = 2

    class cudaStreamCaptureMode(enum.IntEnum):
        cudaStreamCaptureModeGlobal = 0
        cudaStreamCaptureModeThreadLocal = 1

    def __init__(self, fail_at: int | None = None, refuse: str | None = None, error: int = 2) -> None:
        super().__init__("runtime")
        self.fail_at, self.refuse, self.error = fail_at, refuse, cudaError_t(error)
        self.calls: list[str] = []
        self.live: dict[Any, Any] = {}
        self.on_wait: Work = lambda: None
        self._numbers = iter(range(1000, 2000))

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if not name.startswith("cuda") or not isinstance(value, types.MethodType):
            return value

        def counted(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append(name)
            if self.refuse == name or self.fail_at == len(self.calls) - 1:
                if name == "cudaStreamEndCapture":
                    arguments[0].captured = None  # whatever it answers, the capture is over
                return (self.error, None)
            return value(*arguments)

        return counted

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        return OK, types.SimpleNamespace(name=b"NVIDIA H200", major=9, minor=0)

    def cudaGetLastError(self) -> tuple[Any, ...]:
        return (OK,)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        return self._take(size, "device")

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:
        return self._take(size, "pinned") if flags == self.cudaHostAllocDefault else (BAD, None)

    def cudaFree(self, devPtr: int) -> tuple[Any, ...]:
        return self._give_back(("device", devPtr))

    def cudaFreeHost(self, ptr: int) -> tuple[Any, ...]:
        return self._give_back(("pinned", ptr))

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        assert flags == self.cudaStreamNonBlocking
        stream = Stream(next(self._numbers))
        self.live["stream", stream.number] = stream
        return OK, stream

    def cudaStreamDestroy(self, stream: Stream) -> tuple[Any, ...]:
        return self._give_back(("stream", stream.number))

    def cudaStreamSynchronize(self, stream: Stream) -> tuple[Any, ...]:
        if stream.captured is not None:
            stream.spoilt = True
            return (cudaError_t.cudaErrorStreamCaptureUnsupported,)
        self.on_wait()
        while stream.pending:
            stream.pending.pop(0)()
        return (OK,)

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: Any, stream: Stream) -> tuple[Any, ...]:
        to_device = kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice
        sides = ("device", "pinned") if to_device else ("pinned", "device")
        if not (self.holds(sides[0], dst, count) and self.holds(sides[1], src, count)):
            return (BAD,)
        stream.take(lambda: ctypes.memmove(dst, src, count) and None)
        return (OK,)

    def cudaStreamBeginCapture(self, stream: Stream, mode: Any) -> tuple[Any, ...]:
        assert mode == self.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        assert stream.captured is None and not stream.pending
        stream.captured, stream.spoilt = [], False
        return (OK,)

    def cudaStreamEndCapture(self, stream: Stream) -> tuple[Any, ...]:
        work, stream.captured = stream.captured, None
        if work is None or stream.spoilt:
            return cudaError_t.cudaErrorStreamCaptureInvalidated, None
        return OK, self._hold("graph", work)

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Any, ...]:
        assert flags == 0
        return OK, self._hold("exec", self.live["graph", graph])

    def cudaGraphDestroy(self, graph: int) -> tuple[Any, ...]:
        return self._give_back(("graph", graph))

    def cudaGraphExecDestroy(self, graphExec: int) -> tuple[Any, ...]:
        return self._give_back(("exec", graphExec))

    def cudaGraphLaunch(self, graphExec: int, stream: Stream) -> tuple[Any, ...]:
        if ("exec", graphExec) not in self.live:
            return (BAD,)
        stream.pending.extend(self.live["exec", graphExec])
        return (OK,)

    def holds(self, side: str, address: int, count: int) -> bool:
        spans = [(start, len(memory)) for (what, start), memory in self.live.items() if what == side]
        return any(start <= address and address + count <= start + size for start, size in spans)

    def stream(self, number: int) -> Stream:
        return self.live["stream", number]

    def _take(self, size: int, side: str) -> tuple[Any, ...]:
        memory = ctypes.create_string_buffer(b"\xa5" * size, size)  # poisoned: nobody may count on zeros
        address = ctypes.addressof(memory)
        self.live[side, address] = memory
        return OK, address

    def _hold(self, what: str, content: Any) -> int:
        number = next(self._numbers)
        self.live[what, number] = content
        return number

    def _give_back(self, key: Any) -> tuple[Any, ...]:
        return (OK,) if self.live.pop(key, None) is not None else (BAD,)


def view(address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_byte * count).from_address(address), dtype).reshape(shape)


class StandInContext:
    """Writes the mean of each frame as the score of its first candidate, and the place of the frame as its class."""

    def __init__(self, engine: StandInEngine) -> None:
        self.engine, self.addresses = engine, {}
        self.profile: tuple[int, int] | None = None
        self.shape: tuple[int, ...] = ()

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        assert isinstance(stream, int)
        self.profile = self.engine.profiles[index]
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "frames" and self.profile is not None
        self.shape = shape
        return self.profile[0] <= shape[0] <= self.profile[1] and shape[1:] == (32, 64, 3)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in ("frames", "detections")

    def execute_async_v3(self, stream: int) -> bool:
        source, target, shape = self.addresses["frames"], self.addresses["detections"], self.shape
        if not self.engine.runs:
            return False

        def work() -> None:
            self.engine.batches.append(shape[0])
            frames, found = view(source, shape, np.uint8), view(target, (shape[0], TOP_K, 6), np.float32)
            found[:] = 0
            found[:, 0, 4] = frames.mean(axis=(1, 2, 3))
            found[:, 0, 5] = np.arange(shape[0])

        self.engine.cuda.stream(stream).take(work)
        return True


class StandInEngine:
    """What `deserialize_cuda_engine` gives. `batches` are the batch sizes that the GPU computed."""

    def __init__(self, cuda: StandInCuda, profiles: tuple[tuple[int, int], ...]) -> None:
        self.cuda, self.profiles = cuda, profiles
        self.contexts: list[StandInContext] = []
        self.batches: list[int] = []
        self.runs = True

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        assert name == "frames"
        least, most = self.profiles[index]
        return [(batch, 32, 64, 3) for batch in (least, most, most)]

    def create_execution_context(self, strategy: str) -> StandInContext:
        assert strategy == "ON_PROFILE_CHANGE"
        self.contexts.append(StandInContext(self))
        return self.contexts[-1]


def stand_in_tensorrt(engine: StandInEngine | None) -> types.ModuleType:
    module = types.ModuleType("tensorrt")
    vars(module).update(
        __version__="10.13.2",
        Logger=type("Logger", (), {"WARNING": 1, "__init__": lambda self, level: None}),
        Runtime=lambda logger: types.SimpleNamespace(deserialize_cuda_engine=lambda data: engine),
        ExecutionContextAllocationStrategy=types.SimpleNamespace(ON_PROFILE_CHANGE="ON_PROFILE_CHANGE"),
    )
    return module


class StandInBinding:
    def __init__(self) -> None:
        self.sides: dict[str, tuple[Any, tuple[int, ...], int]] = {}

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any, shape: tuple[int, ...], buffer_ptr: int
    ) -> None:
        assert (device_type, device_id) == ("cuda", 0)
        self.sides[name] = (element_type, shape, buffer_ptr)

    bind_output = bind_input


class StandInSession:
    """The real session on the CPU, reading and writing what `StandInCuda` takes for device memory."""

    def __init__(self, real: Any, cuda: StandInCuda, providers: list[Any]) -> None:
        self.real, self.cuda, self.providers = real, cuda, providers
        self.batches: list[int] = []
        self.get_inputs, self.get_outputs = real.get_inputs, real.get_outputs
        self.fails = False

    def get_providers(self) -> list[str]:
        return [name for name, _ in self.providers] + ["CPUExecutionProvider"]

    def io_binding(self) -> StandInBinding:
        return StandInBinding()

    def run_with_iobinding(self, binding: StandInBinding) -> None:
        if self.fails:
            raise RuntimeError("out of\nmemory")
        (_, in_shape, source), (_, out_shape, target) = binding.sides["frames"], binding.sides["detections"]
        assert self.cuda.holds("device", source, int(np.prod(in_shape)))
        assert self.cuda.holds("device", target, int(np.prod(out_shape)) * 4)
        self.batches.append(in_shape[0])
        view(target, out_shape, np.float32)[:] = self.real.run(None, {"frames": view(source, in_shape, np.uint8)})[0]


def install_cuda(monkeypatch: Any, cuda: StandInCuda | None) -> None:
    """Make `from cuda.bindings import runtime` give `cuda`; None takes the package away."""
    bindings = types.ModuleType("cuda.bindings")
    bindings.runtime = cuda  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda.bindings", None if cuda is None else bindings)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)

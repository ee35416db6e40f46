"""Lanes of a GPU engine: a stream with pinned memory each, so that one batch is copied while another computes."""

from __future__ import annotations

import contextlib
import ctypes
import math
import queue
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bentos.detector.engines.cuda import call, release
from bentos.detector.errors import EngineFailed, EngineUnavailable

BATCH_BUCKETS = (1, 2, 4, 8)
"""Batch sizes that kernels are built, and graphs captured, for; a batch between two is padded up to the larger."""
NUM_LANES = 2

Shape = tuple[int, ...]


def choose_buckets(max_batch: int) -> tuple[int, ...]:
    """The powers of two below `max_batch`, and itself, ascending."""
    return (*(1 << power for power in range((max_batch - 1).bit_length())), max_batch)


class Lane:
    """A stream of its own with pinned memory on both sides, so that its copies overlap with another lane's kernels.

    Memory is there for `in_shape` and `out_shape`, of which a step uses the first rows. Nothing here is thread-safe:
    who has the lane has it alone.

    Attributes:
        host_in: (B, H, W, 3) uint8, pinned.
        host_out: (B, top_k, 6) float32, pinned.
        device_in: Address of the same on the GPU.
        device_out: Address of the same on the GPU.
        stream: The lane's stream; it does not wait for the default stream.
    """

    def __init__(self, cuda: Any, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> None:
        """Raises EngineFailed when there is no memory left; what was taken until then is given back."""
        self._cuda = cuda
        with contextlib.ExitStack() as stack:
            self.stream = self._own(stack, "cudaStreamDestroy", "cudaStreamCreateWithFlags", cuda.cudaStreamNonBlocking)
            self.host_in: npt.NDArray[np.uint8] = self._pinned(stack, in_shape, np.dtype(np.uint8))
            self.host_out: npt.NDArray[np.float32] = self._pinned(stack, out_shape, np.dtype(np.float32))
            self.device_in = int(self._own(stack, "cudaFree", "cudaMalloc", self.host_in.nbytes))
            self.device_out = int(self._own(stack, "cudaFree", "cudaMalloc", self.host_out.nbytes))
            self._resources = stack.pop_all()

    def send(self, num: int) -> None:
        """Copy the first `num` frames to the GPU, on the lane's stream."""
        part = self.host_in[:num]
        self._copy(self.device_in, part.ctypes.data, part.nbytes, self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice)

    def receive(self, num: int) -> None:
        """Copy the candidates of the first `num` frames back, on the lane's stream."""
        part = self.host_out[:num]
        self._copy(part.ctypes.data, self.device_out, part.nbytes, self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost)

    def synchronize(self) -> None:
        """Wait for all that the stream was given. Raises EngineFailed when some of it failed."""
        call(self._cuda, "cudaStreamSynchronize", self.stream)

    def settle(self) -> None:
        """After a failure: wait until nothing touches the memory any more, forget errors that can be forgotten."""
        release(self._cuda, "cudaStreamSynchronize", self.stream)
        self._cuda.cudaGetLastError()

    def capture(self, work: Callable[[], None]) -> Any:
        """Record what `work` gives to the stream, and return it as a graph that `launch` replays.

        Raises:
            EngineFailed: CUDA or `work` refuses; the stream is as it was before.
        """
        cuda = self._cuda
        # Thread-local: other threads may allocate meanwhile.
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call(cuda, "cudaStreamBeginCapture", self.stream, mode)
        try:
            work()
        except BaseException:
            error, graph = cuda.cudaStreamEndCapture(self.stream)  # a spoilt capture must be ended all the same
            if int(error) == 0:
                release(cuda, "cudaGraphDestroy", graph)
            raise
        graph = call(cuda, "cudaStreamEndCapture", self.stream)
        try:
            return call(cuda, "cudaGraphInstantiate", graph, 0)
        finally:
            release(cuda, "cudaGraphDestroy", graph)

    def launch(self, graph: Any) -> None:
        """Replay a captured graph on the lane's stream."""
        call(self._cuda, "cudaGraphLaunch", graph, self.stream)

    def close(self) -> None:
        """Give memory and stream back."""
        self.host_in = self.host_out = np.empty(0)  # type: ignore[assignment]  # their memory goes now
        self._resources.close()

    def _copy(self, target: int, source: int, num_bytes: int, kind: Any) -> None:
        call(self._cuda, "cudaMemcpyAsync", target, source, num_bytes, kind, self.stream)

    def _pinned(self, stack: contextlib.ExitStack, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        num_bytes = math.prod(shape) * dtype.itemsize
        address = int(self._own(stack, "cudaFreeHost", "cudaHostAlloc", num_bytes, self._cuda.cudaHostAllocDefault))
        memory: Any = (ctypes.c_byte * num_bytes).from_address(address)
        array = np.ndarray(shape, dtype=dtype, buffer=memory)
        array[...] = 0  # rows that only pad a batch are computed too
        return array

    def _own(self, stack: contextlib.ExitStack, undo: str, name: str, *arguments: Any) -> Any:
        value = call(self._cuda, name, *arguments)
        stack.callback(release, self._cuda, undo, value)
        return value


class Runner(Protocol):
    """Runs one batch at a time in a lane of its own."""

    def run(self, frames: npt.NDArray[np.uint8], found: npt.NDArray[np.float32]) -> None:
        """Compute `frames` (B, H, W, 3) into `found` (B, top_k, 6); B is at most the largest bucket."""
        ...

    def close(self) -> None:
        """Give all back."""
        ...


class Lanes:
    """`NUM_LANES` runners, each lent to one caller at a time.

    Args:
        open_runner: Makes a runner; called `NUM_LANES` times.
        out_shape: (top_k, 6)

    Raises:
        EngineUnavailable: A runner does not start, with EngineFailed's reason; those before it are closed.
    """

    def __init__(self, open_runner: Callable[[], Runner], out_shape: Shape, max_batch: int) -> None:
        self._out_shape, self._max_batch = out_shape, max_batch
        self._free: queue.SimpleQueue[Runner | None] = queue.SimpleQueue()
        with contextlib.ExitStack() as stack:
            for _ in range(NUM_LANES):
                try:
                    runner = open_runner()
                except EngineFailed as error:
                    raise EngineUnavailable(f"the engine does not start on this GPU: {error}") from None
                stack.callback(runner.close)
                self._free.put(runner)
            stack.pop_all()

    def infer(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:  # (B, H, W, 3) -> (B, top_k, 6)
        """Run a batch in the next free lane; more than `max_batch` frames run one part after another.

        Raises:
            EngineFailed: The batch failed, or the lanes are closed.
        """
        found = np.empty((len(frames), *self._out_shape), dtype=np.float32)
        for start in range(0, len(frames), self._max_batch):
            part = slice(start, start + self._max_batch)
            with self._borrowed() as runner:
                runner.run(frames[part], found[part])
        return found

    def close(self) -> None:
        """Close all runners, when the batches that run are done. Closing twice does nothing more."""
        for _ in range(NUM_LANES):
            if (runner := self._free.get()) is None:
                break
            runner.close()
        self._free.put(None)

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[Runner]:
        runner = self._free.get()
        try:
            if runner is None:
                raise EngineFailed("the engine is closed")
            yield runner
        finally:
            self._free.put(runner)

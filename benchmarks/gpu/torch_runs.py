"""PyTorch: the traced network kernel by kernel, and as a CUDA graph for each batch size.

Frames come as they do in serving: uint8, channels last, from memory of the host, and candidates go back there. The
weights are channels last as the frames are: cuDNN need not turn either around.
"""

from __future__ import annotations

import contextlib
import queue
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch

from benchmarks.gpu.bundle import Bundle, Floats, Pixels

Mode = Literal["kernels", "graph"]


def load_program(bundle: Bundle, precision: str, device: str) -> torch.jit.ScriptModule:
    """The network on `device`, its weights channels last.

    FP32 is FP32: matrix units that round to ten bits are off. The fuser of TorchScript is off, too: it compiles anew
    for every batch size, and what is compared shall be PyTorch's own kernels.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    torch._C._jit_set_texpr_fuser_enabled(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; it is what PyTorch of another version reads
        program = torch.jit.load(str(bundle.program(precision)), map_location=device).eval()
    program.to(memory_format=torch.channels_last)
    return program


class TorchLane:
    """One batch size with memory of its own: copy in, compute, copy out, on a stream of its own.

    Args:
        mode: Launch each kernel, or replay a graph that was captured at the start, copies included.
    """

    def __init__(self, program: torch.jit.ScriptModule, shape: tuple[int, ...], mode: Mode, device: str) -> None:
        self._program, self._on_gpu = program, device != "cpu"
        self._sent = torch.zeros(shape, dtype=torch.uint8, pin_memory=self._on_gpu)
        self._frames = torch.zeros(shape, dtype=torch.uint8, device=device)
        self.host_in: Pixels = self._sent.numpy()
        self._stream = torch.cuda.Stream() if self._on_gpu else None
        self._graph: Any = None
        with torch.inference_mode(), self._streaming():
            candidates = program(self._frames)
            self._received = torch.zeros(candidates.shape, dtype=torch.float32, pin_memory=self._on_gpu)
            for _ in range(3 if self._on_gpu else 1):  # cuDNN chooses its kernels
                self._compute()
        self.wait()
        if mode == "graph" and self._on_gpu:
            graph = torch.cuda.CUDAGraph()
            with torch.inference_mode(), torch.cuda.graph(graph, stream=self._stream):
                self._compute()
            self._graph = graph

    def launch(self) -> None:
        """Begin to compute what lies in `host_in`."""
        with torch.inference_mode(), self._streaming():
            if self._graph is not None:
                self._graph.replay()
            else:
                self._compute()

    def wait(self) -> Floats:
        """Wait for what was launched; the answer is overwritten by the next launch."""
        if self._stream is not None:
            self._stream.synchronize()
        found: Floats = self._received.numpy()
        return found

    def gpu_ms(self, runs: int) -> float | None:
        """Time of a launch on the GPU's own clock, of `runs` in a row; None on a CPU."""
        if self._stream is None:
            return None
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record(self._stream)
        for _ in range(runs):
            self.launch()
        end.record(self._stream)
        end.synchronize()
        return float(begin.elapsed_time(end)) / runs

    def _compute(self) -> None:
        self._frames.copy_(self._sent, non_blocking=True)
        self._received.copy_(self._program(self._frames), non_blocking=True)

    @contextlib.contextmanager
    def _streaming(self) -> Iterator[None]:
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield


class TorchEngine:
    """The detector's `Engine` on PyTorch: two lanes, a batch padded up to the next of `sizes`."""

    num_parallel = 2
    solo = None

    def __init__(
        self,
        program: torch.jit.ScriptModule,
        size_wh: tuple[int, int],
        sizes: Sequence[int],
        mode: Mode,
        device: str,
        num_decoders: int = 1,
    ) -> None:
        self.max_batch, self.num_decoders, self._sizes = sizes[-1], num_decoders, sizes
        self._free: queue.SimpleQueue[dict[int, TorchLane]] = queue.SimpleQueue()
        for _ in range(self.num_parallel):
            lanes = {size: TorchLane(program, (size, size_wh[1], size_wh[0], 3), mode, device) for size in sizes}
            self._free.put(lanes)

    def infer(self, frames: Pixels) -> Floats:
        """See `Engine.infer`; at most `max_batch` frames."""
        lanes = self._free.get()
        try:
            lane = lanes[next(size for size in self._sizes if size >= len(frames))]
            lane.host_in[: len(frames)] = frames
            lane.launch()
            return lane.wait()[: len(frames)].copy()
        finally:
            self._free.put(lanes)

    def gpu_ms(self, batch: int, runs: int = 50) -> float | None:
        """See `TorchLane.gpu_ms`."""
        lanes = self._free.get()
        try:
            return lanes[batch].gpu_ms(runs)
        finally:
            self._free.put(lanes)

    def close(self) -> None:
        """See `Engine.close`."""
        while not self._free.empty():
            self._free.get()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def measure_ceilings(device: str) -> dict[str, float]:
    """What the GPU itself does on random data: copies between host and GPU and within it, and matrix products.

    GB/s of bytes that arrive (within the GPU: read and written), TFLOP/s of 8192 x 8192 x 8192 products.
    """
    if device == "cpu":
        return {}
    host = torch.empty(1 << 28, dtype=torch.uint8, pin_memory=True).random_()
    first = torch.empty(1 << 30, dtype=torch.uint8, device=device).random_()
    second, near = torch.empty_like(first), first[: len(host)]
    found = {
        "host_to_gpu_gb_s": len(host) / _seconds(lambda: near.copy_(host, non_blocking=True)) / 1e9,
        "gpu_to_host_gb_s": len(host) / _seconds(lambda: host.copy_(near, non_blocking=True)) / 1e9,
        "within_gpu_gb_s": 2 * len(first) / _seconds(lambda: second.copy_(first)) / 1e9,
    }
    for kind in (torch.float16, torch.bfloat16, torch.float32):
        left, right = (torch.randn(8192, 8192, device=device, dtype=kind) for _ in range(2))
        product = torch.empty_like(left)
        seconds = _seconds(lambda: torch.mm(left, right, out=product))  # noqa: B023 -- called at once
        found[f"{str(kind).removeprefix('torch.')}_tflop_s"] = 2 * 8192**3 / seconds / 1e12
    return found


def _seconds(work: Any, runs: int = 10) -> float:
    for _ in range(3):
        work()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(runs):
        work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000 / runs

"""OpenVINO on a CPU."""

from __future__ import annotations

import queue
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bentos.detector.contract import ModelSpec, Precision
from bentos.detector.engines import Engine, Hint, usable_cores
from bentos.detector.engines.quiet import import_openvino
from bentos.detector.errors import ModelRefused

# Always said, never left to the device: a CPU with AMX would silently take bf16.
_PRECISION: dict[Precision, str] = {"fp32": "f32", "int8": "f32", "bf16": "bf16", "fp16": "f16"}
_BATCHES = (4, 2, 1)  # beyond four a frame costs the same on a CPU, and only waits longer for its neighbours
_LONG_BATCH_S = 0.03  # frames that take longer together go one by one: the gain is small, the wait is not
_SLOW_S = 0.045  # a frame that takes longer on one core gets more of them: it must not use up the budget by itself

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class OpenVinoEngine:
    """An IR or ONNX file compiled for the CPU, once for each batch size: a graph of fixed shape is a tenth faster.

    With the latency hint all cores work on one batch. With the throughput hint as many batches run side by side as
    there are cores, which answers up to half as many frames more: no core waits for another. The adaptive hint is that,
    and `solo` has all cores for the batch that is alone.
    """

    num_decoders = 0

    def __init__(self, compiled: dict[int, _Compiled], solo: Engine | None = None) -> None:
        self._compiled = dict(sorted(compiled.items(), reverse=True))
        self.num_parallel = compiled[1].num
        self.max_batch = max(compiled)
        self.solo = solo

    @classmethod
    def load(
        cls,
        model_dir: Path,
        spec: ModelSpec,
        *,
        num_threads: int | None = None,
        hint: Hint = "latency",
    ) -> OpenVinoEngine:
        """Compile the file that `spec` names. Raises ModelRefused."""
        try:
            graph = _Graph(model_dir, spec, num_threads or usable_cores())
            if hint == "latency":
                return cls({size: graph.compile(1, size) for size in _BATCHES})
            first, frame_s = _choose_streams(graph)
            sizes = [size for size in _BATCHES if size > 1 and size * frame_s <= _LONG_BATCH_S]
            several = {size: graph.compile(first.num, size) for size in sizes}
            solo = cls({1: graph.compile(1, 1)}) if hint == "adaptive" and first.num > 1 else None
            return cls({1: first, **several}, solo)
        except RuntimeError as error:
            raise ModelRefused(
                f"OpenVINO refuses {spec.engine.file}: {_last_line(error)}. Re-export: tca export"
            ) from None

    def infer(self, frames: Pixels) -> Floats:
        """See `Engine.infer`. Waits while all streams are taken."""
        if (compiled := self._compiled.get(len(frames))) is not None:
            return compiled.infer(frames)
        size = next(size for size in self._compiled if size < len(frames))
        return np.concatenate([self.infer(frames[:size]), self.infer(frames[size:])])

    def close(self) -> None:
        """See `Engine.close`."""
        if self.solo is not None:
            self.solo.close()
        self._compiled.clear()


class _Graph:
    """A file that was read once, to be compiled for batches and streams."""

    def __init__(self, model_dir: Path, spec: ModelSpec, num_threads: int) -> None:
        self._core = import_openvino().Core()
        self._model = self._core.read_model(model_dir / spec.engine.file)
        self._precision = _PRECISION[spec.engine.precision]
        self.frame_shape = (spec.input.size_wh[1], spec.input.size_wh[0], 3)
        self.num_threads = num_threads

    def compile(self, num_streams: int, batch: int) -> _Compiled:
        """For batches of just this size; all threads, divided among the streams."""
        model = self._model.clone()
        model.reshape([batch, *self.frame_shape])
        config = {
            "NUM_STREAMS": num_streams,
            "INFERENCE_NUM_THREADS": self.num_threads,
            "INFERENCE_PRECISION_HINT": self._precision,
            # Decoding shares the cores: a thread that is bound to one waits there while another is free.
            "ENABLE_CPU_PINNING": False,
        }
        return _Compiled(self._core.compile_model(model, "CPU", config), num_streams)


class _Compiled:
    """A compiled graph with an infer request for each of its streams."""

    def __init__(self, compiled: Any, num: int) -> None:
        self.num = num
        self.precision = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
        self._output = compiled.output(0)
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(num):
            self._requests.put(compiled.create_infer_request())

    def infer(self, frames: Pixels) -> Floats:
        request = self._requests.get()
        try:
            found = request.infer({0: frames}, share_inputs=True)[self._output]
            return np.array(found, dtype=np.float32)  # the request's own memory is overwritten by its next run
        finally:
            self._requests.put(request)


def _choose_streams(graph: _Graph) -> tuple[_Compiled, float]:
    """A stream a thread, fewer where each needs more of them to be quick; and what a frame takes one of them, s."""
    num = graph.num_threads
    frame = np.zeros((1, *graph.frame_shape), dtype=np.uint8)
    while True:
        compiled = graph.compile(num, 1)
        frame_s = min(_cpu_seconds(compiled, frame) for _ in range(3)) * num / graph.num_threads
        if num == 1 or frame_s < _SLOW_S:
            return compiled, frame_s
        num = (num + 1) // 2


def _cpu_seconds(compiled: _Compiled, frame: Pixels) -> float:
    """Time on the processor: unlike time on the clock, it is the same on a busy machine."""
    started_s = time.process_time()
    compiled.infer(frame)
    return time.process_time() - started_s


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

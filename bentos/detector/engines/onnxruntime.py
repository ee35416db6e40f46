"""ONNX Runtime: on a CPU, or with CUDA where the model was exported for a GPU.

The CUDA part has not yet been run on a GPU; its calls are covered by tests against stand-ins of the libraries.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bentos.detector.contract import ModelSpec
from bentos.detector.engines import Engine, Hint, usable_cores
from bentos.detector.engines.cuda import device_name, load_cuda, require_device
from bentos.detector.engines.lanes import BATCH_BUCKETS, NUM_LANES, Lane, Lanes
from bentos.detector.engines.quiet import import_onnxruntime
from bentos.detector.errors import EngineFailed, EngineUnavailable, ModelRefused

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_MAX_BATCH_CPU = 4
_SLOW_S = 0.04  # a frame that takes longer on its share of the cores gets a larger one
_CUDA_OPTIONS = {
    "device_id": "0",
    "use_tf32": "0",  # ten bits of mantissa are not fp32
    "cudnn_conv_algo_search": "EXHAUSTIVE",  # once for each bucket, while warming up
    "arena_extend_strategy": "kSameAsRequested",
}


class OnnxRuntimeEngine:
    """model.onnx in an inference session.

    On a CPU the hints mean what they mean for OpenVINO: all cores for one batch, a batch for each core, or both. With
    CUDA two lanes take turns, each with memory of its own that the session reads and writes in place.
    """

    def __init__(
        self, model_dir: Path, spec: ModelSpec, *, num_threads: int | None = None, hint: Hint = "latency"
    ) -> None:
        onnxruntime = import_onnxruntime()
        on_gpu = spec.engine.device.upper() != "CPU"
        provider = _CUDA if on_gpu else _CPU
        if provider not in onnxruntime.get_available_providers():
            raise EngineUnavailable(
                f"this model was exported for {spec.engine.device}, but ONNX Runtime has no {provider} here. "
                "Install onnxruntime-gpu, or re-export for this machine: tca export"
            )
        opener = _Opener(onnxruntime, model_dir, spec)
        self.solo: Engine | None = None
        self._backend: Lanes | _Streams
        if on_gpu:
            self._backend = _open_lanes(opener, spec)
            self.max_batch, self.num_parallel, self.num_decoders = BATCH_BUCKETS[-1], NUM_LANES, usable_cores()
        else:
            num_threads = num_threads or usable_cores()
            self._backend = _open_streams(opener, spec, num_threads, hint)
            self.max_batch, self.num_parallel, self.num_decoders = _MAX_BATCH_CPU, self._backend.num, 0
            if hint == "adaptive" and self.num_parallel > 1:
                self.solo = OnnxRuntimeEngine(model_dir, spec, num_threads=num_threads, hint="latency")

    def infer(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `Engine.infer`. Waits while all streams or lanes are taken. Raises EngineFailed."""
        return self._backend.infer(frames)

    def close(self) -> None:
        """See `Engine.close`."""
        if self.solo is not None:
            self.solo.close()
        self._backend.close()


class _Opener:
    """Opens sessions on the model's file."""

    def __init__(self, onnxruntime: Any, model_dir: Path, spec: ModelSpec) -> None:
        self.library, self._file = onnxruntime, model_dir / spec.engine.file

    def open(self, provider: str, settings: dict[str, str], num_threads: int) -> Any:
        """A session. Raises ModelRefused and EngineUnavailable."""
        options = self.library.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = num_threads
        # A thread that spins while it waits takes the core from a decoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = self.library.InferenceSession(self._file, options, providers=[(provider, settings)])
        except Exception as error:  # its exceptions share no base class
            reason = " ".join(str(error).split())
            raise ModelRefused(f"ONNX Runtime refuses {self._file.name}: {reason}. Re-export: tca export") from None
        if provider not in session.get_providers():
            raise EngineUnavailable(f"ONNX Runtime could not start {provider}: check the CUDA libraries and driver")
        return session


class _Streams:
    """Sessions that compute side by side, each on its share of the threads."""

    def __init__(self, sessions: Sequence[Any]) -> None:
        self.num = len(sessions)
        self._input = sessions[0].get_inputs()[0].name
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for session in sessions:
            self._free.put(session)

    def infer(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        session = self._free.get()
        try:
            return np.asarray(session.run(None, {self._input: frames})[0], dtype=np.float32)
        finally:
            self._free.put(session)

    def close(self) -> None:
        while not self._free.empty():
            self._free.get()


def _open_streams(opener: _Opener, spec: ModelSpec, num_threads: int, hint: Hint) -> _Streams:
    """One for the latency hint; else one for each core, or as many as leave each the cores to be quick enough."""
    num = 1 if hint == "latency" else num_threads
    frame = np.zeros((1, spec.input.size_wh[1], spec.input.size_wh[0], 3), dtype=np.uint8)
    while True:
        first = opener.open(_CPU, {}, num_threads // num)
        if num == 1 or min(_seconds(_Streams([first]), frame) for _ in range(3)) < _SLOW_S:
            return _Streams([first, *(opener.open(_CPU, {}, num_threads // num) for _ in range(num - 1))])
        num = (num + 1) // 2


def _seconds(streams: _Streams, frame: npt.NDArray[np.uint8]) -> float:
    started_s = time.perf_counter()
    streams.infer(frame)
    return time.perf_counter() - started_s


def _open_lanes(opener: _Opener, spec: ModelSpec) -> Lanes:
    cuda = load_cuda("ONNX Runtime with CUDA")
    require_device(spec, device_name(cuda))
    opener.library.preload_dlls()  # CUDA's libraries may lie among the Python packages
    session = opener.open(_CUDA, _CUDA_OPTIONS, 1)
    width, height = spec.input.size_wh
    most, in_shape, out_shape = BATCH_BUCKETS[-1], (height, width, 3), (spec.top_k, 6)

    def open_runner() -> _Runner:
        lane = Lane(cuda, (most, *in_shape), (most, *out_shape))
        try:
            return _Runner(session, lane)
        except BaseException:
            lane.close()
            raise

    return Lanes(open_runner, out_shape, most)


class _Runner:
    """A lane, and for each bucket a binding of its device memory to the graph's input and output."""

    def __init__(self, session: Any, lane: Lane) -> None:
        self._session, self._lane = session, lane
        self._bindings = {}
        source, target = session.get_inputs()[0].name, session.get_outputs()[0].name
        for bucket in BATCH_BUCKETS:
            binding = session.io_binding()
            in_shape, out_shape = (bucket, *lane.host_in.shape[1:]), (bucket, *lane.host_out.shape[1:])
            binding.bind_input(source, "cuda", 0, np.uint8, in_shape, lane.device_in)
            binding.bind_output(target, "cuda", 0, np.float32, out_shape, lane.device_out)
            self._bindings[bucket] = binding

    def run(self, frames: npt.NDArray[np.uint8], found: npt.NDArray[np.float32]) -> None:
        """See `Runner.run`."""
        lane, num = self._lane, len(frames)
        bucket = next(size for size in BATCH_BUCKETS if size >= num)
        lane.host_in[:num] = frames  # the rows after are padding, whatever they hold
        try:
            lane.send(bucket)
            lane.synchronize()  # the session computes on a stream of its own
            self._compute(bucket)
            lane.receive(num)
            lane.synchronize()
        except BaseException:
            lane.settle()
            raise
        found[:] = lane.host_out[:num]

    def close(self) -> None:
        """See `Runner.close`."""
        self._lane.settle()
        self._bindings.clear()
        self._lane.close()

    def _compute(self, bucket: int) -> None:
        try:
            self._session.run_with_iobinding(self._bindings[bucket])  # returns when the GPU is done
        except Exception as error:  # its exceptions share no base class
            raise EngineFailed(f"ONNX Runtime refused the batch: {' '.join(str(error).split())}") from None

"""OpenVINO on a CPU."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bentos.detector.contract import ModelSpec, Precision
from bentos.detector.engines import Hint
from bentos.detector.engines.quiet import import_openvino
from bentos.detector.errors import ModelRefused

# Always said, never left to the device: a CPU with AMX would silently take bf16.
_PRECISION: dict[Precision, str] = {"fp32": "f32", "int8": "f32", "bf16": "bf16", "fp16": "f16"}
_MAX_BATCH = 4  # beyond this a frame costs the same on a CPU, and only waits longer for its neighbours


class OpenVinoEngine:
    """An IR or ONNX file compiled for the CPU.

    With the latency hint all cores work on one batch; with the throughput hint as many batches run side by side as
    OpenVINO finds best, each on its share of the cores.
    """

    def __init__(
        self, model_dir: Path, spec: ModelSpec, *, num_threads: int | None = None, hint: Hint = "latency"
    ) -> None:
        openvino = import_openvino()

        config: dict[str, Any] = {
            "PERFORMANCE_HINT": hint.upper(),
            "INFERENCE_PRECISION_HINT": _PRECISION[spec.engine.precision],
            # Decoders share the cores: a thread that is bound to one waits there while another is free.
            "ENABLE_CPU_PINNING": False,
        }
        if num_threads is not None:
            config["INFERENCE_NUM_THREADS"] = num_threads
        try:
            self._compiled = openvino.Core().compile_model(model_dir / spec.engine.file, "CPU", config)
        except RuntimeError as error:
            reason = _last_line(error)
            raise ModelRefused(f"OpenVINO refuses {spec.engine.file}: {reason}. Re-export: tca export") from None
        self._output = self._compiled.output(0)
        self.max_batch = _MAX_BATCH
        streams = 1 if hint == "latency" else int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self.num_parallel = max(1, streams)
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(self.num_parallel):
            self._requests.put(self._compiled.create_infer_request())

    def infer(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `Engine.infer`. Waits while all requests are taken."""
        request = self._requests.get()
        try:
            found = request.infer({0: frames}, share_inputs=True)[self._output]
            return np.array(found, dtype=np.float32)  # the request's own memory is overwritten by its next run
        finally:
            self._requests.put(request)

    def close(self) -> None:
        """See `Engine.close`."""
        while not self._requests.empty():
            self._requests.get()
        del self._compiled


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

"""ONNX Runtime: on a CPU, or with CUDA where the model was exported for a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from bentos.detector.contract import ModelSpec
from bentos.detector.engines.quiet import import_onnxruntime
from bentos.detector.errors import EngineUnavailable, ModelRefused

_MAX_BATCH_CPU = 4
_MAX_BATCH_GPU = 8


class OnnxRuntimeEngine:
    """model.onnx in an inference session."""

    num_parallel = 1

    def __init__(self, model_dir: Path, spec: ModelSpec, *, num_threads: int | None = None) -> None:
        onnxruntime = import_onnxruntime()

        on_gpu = spec.engine.device.upper() != "CPU"
        provider = "CUDAExecutionProvider" if on_gpu else "CPUExecutionProvider"
        if provider not in onnxruntime.get_available_providers():
            raise EngineUnavailable(
                f"this model was exported for {spec.engine.device}, but ONNX Runtime has no {provider} here. "
                "Install onnxruntime-gpu, or re-export for this machine: tca export"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if num_threads is not None:
            options.intra_op_num_threads = num_threads
        try:
            self._session = onnxruntime.InferenceSession(model_dir / spec.engine.file, options, providers=[provider])
        except Exception as error:  # its exceptions share no base class
            reason = " ".join(str(error).split())
            raise ModelRefused(f"ONNX Runtime refuses {spec.engine.file}: {reason}. Re-export: tca export") from None
        if provider not in self._session.get_providers():
            raise EngineUnavailable(f"ONNX Runtime could not start {provider}: check the CUDA libraries and driver")
        self._input = self._session.get_inputs()[0].name
        self.max_batch = _MAX_BATCH_GPU if on_gpu else _MAX_BATCH_CPU

    def infer(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `Engine.infer`."""
        return np.asarray(self._session.run(None, {self._input: frames})[0], dtype=np.float32)

    def close(self) -> None:
        """See `Engine.close`."""
        del self._session

"""What a training takes of the machine: memory, and how busy the GPU is."""

from __future__ import annotations

import contextlib
import time
from typing import Any

_INTERVAL_S = 0.5


class Gauges:
    """Memory and GPU use over an epoch, sampled twice a second at most. Without a GPU its figures are None."""

    def __init__(self, on_gpu: bool) -> None:
        self._handle = _find_gpu() if on_gpu else None
        self._on_gpu = on_gpu
        self._sampled = 0.0
        self._samples: list[float] = []

    def begin(self) -> None:
        """Forget the epoch before."""
        self._samples.clear()
        if self._on_gpu:
            import torch

            torch.cuda.reset_peak_memory_stats()

    def sample(self) -> None:
        """Look at the GPU, unless that was done a moment ago."""
        now = time.monotonic()
        if self._handle is None or now - self._sampled < _INTERVAL_S:
            return
        import pynvml

        self._sampled = now
        with contextlib.suppress(pynvml.NVMLError):
            self._samples.append(pynvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100)

    def read(self) -> dict[str, float | None]:
        """memory_gb (resident, of this process), gpu_memory_gb (highest), gpu_use (mean share of time)."""
        import psutil

        figures: dict[str, float | None] = {"memory_gb": round(psutil.Process().memory_info().rss / 1e9, 3)}
        figures["gpu_memory_gb"] = figures["gpu_use"] = None
        if self._on_gpu:
            import torch

            figures["gpu_memory_gb"] = round(torch.cuda.max_memory_reserved() / 1e9, 3)
        if self._samples:
            figures["gpu_use"] = round(sum(self._samples) / len(self._samples), 3)
        return figures


def _find_gpu() -> Any:
    """NVML's handle of PyTorch's current GPU; None where the driver has no figures for it."""
    import pynvml
    import torch

    try:
        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except (pynvml.NVMLError, AttributeError):
        return None

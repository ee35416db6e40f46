"""What the figures depend on, as far as a bare machine tells."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.report import read_machine
from flows.machine import count_cores, read_gpus

PACKAGES = (
    "torch", "torchvision", "numpy", "onnx", "onnxruntime-gpu", "onnxruntime", "tensorrt", "cuda-bindings",
    "simplejpeg", "opencv-python-headless", "pillow", "nvidia-cudnn-cu13",
)  # fmt: skip


def read_facts() -> dict[str, Any]:
    """`benchmarks.report.read_machine`, and the same without psutil."""
    try:
        return read_machine()
    except ImportError:
        return {
            "cpu": _read("/proc/cpuinfo", "model name"),
            "cores": count_cores(),
            "memory_gb": round(float(_read("/proc/meminfo", "MemTotal").split()[0] or 0) / 1e6, 1),
            "instruction_sets": [],
            "gpus": [asdict(gpu) for gpu in read_gpus()],
            "system": "Linux",
            "busy_before_percent": _busy_percent(1.0),
        }


def _read(path: str, key: str) -> str:
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if line.startswith(key):
            return line.split(":", 1)[1].strip()
    return "0"


def _busy_percent(seconds: float) -> float:
    def ticks() -> tuple[int, int]:
        fields = [int(field) for field in Path("/proc/stat").read_text(encoding="utf-8").split("\n")[0].split()[1:]]
        return sum(fields), fields[3] + fields[4]  # all, idle and waiting for a disk

    before = ticks()
    time.sleep(seconds)
    after = ticks()
    total, idle = after[0] - before[0], after[1] - before[1]
    return 100 * (1 - idle / total) if total else 0.0

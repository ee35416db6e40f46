"""What a training takes of the machine; of a GPU through stand-ins of NVML and PyTorch's counters."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from flows.training.loop import gauges
from flows.training.loop.gauges import Gauges


class NvmlError(Exception):
    pass


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """NVML with one GPU that is busy as `uses` says, look by look."""
    fake = SimpleNamespace(NVMLError=NvmlError, uses=[40, 60], asked=[], nvmlInit=lambda: None)

    def find(uuid: str) -> str:
        fake.asked.append(uuid)
        return "handle"

    def read(handle: str) -> Any:
        if not fake.uses:
            raise NvmlError
        return SimpleNamespace(gpu=fake.uses.pop(0))

    fake.nvmlDeviceGetHandleByUUID, fake.nvmlDeviceGetUtilizationRates = find, read
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="a-b"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 2_500_000_000)
    monkeypatch.setattr(gauges, "_INTERVAL_S", 0.0)
    return fake


def test_without_a_gpu_there_is_resident_memory_alone() -> None:
    found = Gauges(on_gpu=False)
    found.begin()
    found.sample()
    figures = found.read()
    assert figures["memory_gb"]
    assert (figures["gpu_memory_gb"], figures["gpu_use"]) == (None, None)


def test_gpu_use_is_the_mean_of_an_epoch(nvml: SimpleNamespace) -> None:
    found = Gauges(on_gpu=True)
    assert nvml.asked == ["GPU-a-b"]
    found.begin()
    for _ in range(3):  # the third look fails
        found.sample()
    assert (found.read()["gpu_memory_gb"], found.read()["gpu_use"]) == (2.5, 0.5)
    found.begin()
    assert found.read()["gpu_use"] is None


def test_a_gpu_that_its_driver_has_no_figures_for_is_no_failure(
    nvml: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise NvmlError

    nvml.nvmlInit = fail
    found = Gauges(on_gpu=True)
    found.begin()
    found.sample()
    assert (found.read()["gpu_memory_gb"], found.read()["gpu_use"]) == (2.5, None)

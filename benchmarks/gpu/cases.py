"""One contender at one batch size: latency, rate, memory, and whether it finds what the reference found."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from benchmarks.gpu.bundle import Bundle, Floats, Pixels
from benchmarks.gpu.parity import Parity, compare
from benchmarks.gpu.timing import Latency, measure_latency
from benchmarks.report import measure_rate


class Contender(Protocol):
    """What is measured: an engine as the detector has them."""

    max_batch: int
    num_parallel: int

    def infer(self, frames: Pixels) -> Floats: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Case:
    """Figures of one contender at one batch size, from frames in the host's memory to candidates there."""

    contender: str
    batch: int
    latency: Latency  # of a lone batch
    frames_per_s: float  # with as many batches under way as it has lanes
    gpu_ms: float | None  # of a batch, on the GPU's own clock
    memory_mb: float | None
    parity: Parity

    def row(self) -> list[str]:
        """Cells, in the order of `HEADERS`."""
        return [
            self.contender,
            str(self.batch),
            f"{self.latency.p50_ms:.2f}",
            f"{self.latency.p99_ms:.2f}",
            "" if self.gpu_ms is None else f"{self.gpu_ms:.2f}",
            f"{self.frames_per_s:.0f}",
            "" if self.memory_mb is None else f"{self.memory_mb:.0f}",
            self.parity.cell,
        ]

    def figures(self) -> dict[str, Any]:
        content = asdict(self)
        return {**content, "parity": {**content["parity"], "passed": self.parity.passed}}


HEADERS = ("contender", "batch", "p50 ms", "p99 ms", "GPU ms", "frames/s", "MB", "same boxes, IoU")


def measure(
    name: str,
    contender: Contender,
    bundle: Bundle,
    batch: int,
    seconds: float,
    *,
    gpu_ms: float | None = None,
    memory_mb: float | None = None,
) -> Case:
    """Measure `contender`; it is compared first, so that nothing wrong is timed in ignorance."""
    parity = compare(infer_all(contender, bundle.inputs, batch), bundle.reference)
    batches = _Supply(bundle.inputs, batch)
    latency = measure_latency(lambda: contender.infer(batches.take()), seconds)
    rate = measure_rate(lambda: len(contender.infer(batches.take())), seconds, contender.num_parallel)
    return Case(name, batch, latency, rate, gpu_ms, memory_mb, parity)


def infer_all(contender: Contender, inputs: Pixels, batch: int) -> Floats:
    """All inputs in batches of `batch`; the last one is filled up with the first frames."""
    found = []
    for start in range(0, len(inputs), batch):
        part = inputs[np.arange(start, start + batch) % len(inputs)]
        found.append(contender.infer(part))
    return np.concatenate(found)[: len(inputs)]


class _Supply:
    """Batches that are not the same memory over and over, for any thread."""

    def __init__(self, inputs: Pixels, batch: int) -> None:
        starts = range(0, len(inputs), max(1, len(inputs) // 4))
        parts = [inputs[np.arange(start, start + batch) % len(inputs)] for start in starts]
        self._batches: Iterator[Pixels] = itertools.cycle(parts)
        self._lock = threading.Lock()

    def take(self) -> Pixels:
        with self._lock:
            return next(self._batches)

"""How long the detector takes for batches of each size, from image bytes to boxes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bentos.detector.detector import Detector

RUNS = 15


class BatchLatency(BaseModel):
    """Time of one batch, decoding and suppression included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: int = Field(description="images a call")
    p50_ms: float = Field(description="median time of a call, ms")
    p99_ms: float = Field(description="99th percentile over the runs, ms; of few runs, so the slowest or nearly")
    images_per_s: float = Field(description="images a second at the median")
    runs: int = Field(description="calls timed, after one for warming up")


def measure_latency(detector: Detector, images: Sequence[bytes], runs: int = RUNS) -> tuple[BatchLatency, ...]:
    """Time `detect` for batches of 1, 2, 4, ... up to what the engine takes at once. At least one image is needed."""
    sizes = [1 << power for power in range(detector.engine.max_batch.bit_length())]
    return tuple(_measure(detector, images, batch, runs) for batch in sizes)


def _measure(detector: Detector, images: Sequence[bytes], batch: int, runs: int) -> BatchLatency:
    supply = itertools.cycle(images)
    times_ms = []
    for _ in range(runs + 1):
        group = list(itertools.islice(supply, batch))
        started = time.perf_counter()
        detector.detect(group)
        times_ms.append((time.perf_counter() - started) * 1000)
    p50, p99 = (float(value) for value in np.percentile(times_ms[1:], [50, 99]))
    return BatchLatency(
        batch=batch, p50_ms=round(p50, 3), p99_ms=round(p99, 3), images_per_s=round(batch * 1000 / p50, 2), runs=runs
    )

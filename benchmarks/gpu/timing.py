"""How a call is timed: warmed up, again and again for a while, on a host clock; the call itself waits for the GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.report import percentile

_MOST_RUNS = 2000


@dataclass(frozen=True)
class Latency:
    """Percentiles of one call, ms."""

    p50_ms: float
    p99_ms: float
    runs: int


def measure_latency(call: Callable[[], object], seconds: float, warm_ups: int = 10) -> Latency:
    """Time `call` for about `seconds`, at least three times."""
    for _ in range(warm_ups):
        call()
    times_ms: list[float] = []
    end = time.perf_counter() + seconds
    while len(times_ms) < 3 or (time.perf_counter() < end and len(times_ms) < _MOST_RUNS):
        started = time.perf_counter()
        call()
        times_ms.append((time.perf_counter() - started) * 1000)
    return Latency(percentile(times_ms, 0.5), percentile(times_ms, 0.99), len(times_ms))

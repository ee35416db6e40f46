"""Figures for Prometheus: counts by outcome, time by stage, size of batches. Never a label per camera or key.

They are plain numbers here, and become Prometheus's text when they are asked for: the counters of prometheus_client
in a process with workers live in mapped files, and would cost an answer some five times as much.
"""

from __future__ import annotations

import os
import tempfile
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bentos.detector.supervisor import METRICS_PREFIX, RESTARTS_VARIABLE

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

STAGES = ("decode", "queue", "inference", "postprocess", "total")

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.12, 0.15, 0.2, 0.5, 1.0)
"""Upper bounds, s, dense up to and around 100 ms: there a p99 must be told from its neighbours."""
_BATCH_BUCKETS = (1, 2, 3, 4, 6, 8, 16, 32)


def isolate_metrics() -> Path:
    """Give this process a folder of its own for BentoML's metrics, to be removed by whoever called this.

    BentoML keeps one below BENTOML_HOME and wipes it whenever a service starts, so that of two services on one machine
    the older would report the figures of the younger. To be called before the first metric is made.
    """
    folder = tempfile.mkdtemp(prefix=f"{METRICS_PREFIX}{os.getpid()}-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    return Path(folder)


@dataclass(frozen=True)
class Gauges:
    """What holds at the moment of asking; what there is not is None."""

    queue_frames: int
    breaker_state: int
    breaker_opened: int
    cache_lookups: Mapping[str, int] | None = None
    cache_bytes: int | None = None


class _Histogram:
    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative counts by upper bound, and the sum."""
        from prometheus_client.utils import INF, floatToGoString

        counted = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*self._bounds, INF), self._counts, strict=True):
            counted += count
            buckets.append((str(floatToGoString(bound)), float(counted)))  # type: ignore[no-untyped-call]
        return buckets, self._sum


class Telemetry:
    """The detector's figures for one model version. `batched` may be called from any thread, the rest from one."""

    def __init__(self, model_version: str) -> None:
        self._version = model_version
        self._answers: Counter[tuple[str, str]] = Counter()
        self._num_detections = 0
        self._stages = {stage: _Histogram(BUCKETS_S) for stage in STAGES}
        self._batches = _Histogram(_BATCH_BUCKETS)
        self._batches_lock = threading.Lock()
        self._restarts = int(os.environ.get(RESTARTS_VARIABLE, "0") or 0)

    def answered(self, timing_ms: Mapping[str, float], num_detections: int, *, cached: bool = False) -> None:
        """Count an answer and where its time went; one from the cache went through no stage."""
        self._answers["ok", "200"] += 1
        self._num_detections += num_detections
        if cached:
            self._stages["total"].observe(timing_ms["total"] / 1000)
            return
        for stage, histogram in self._stages.items():
            histogram.observe(timing_ms[stage] / 1000)

    def failed(self, code: str, status: int) -> None:
        """Count an answer that is an error."""
        self._answers[code, str(status)] += 1

    def batched(self, size: int) -> None:
        """Count a batch that ran."""
        with self._batches_lock:
            self._batches.observe(size)

    def render(self, gauges: Gauges) -> str:
        """All figures as Prometheus's text."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(_Collected([*self._counted(), *self._gauged(gauges)]))
        return generate_latest(registry).decode()

    def _counted(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily

        requests = CounterMetricFamily(
            "detector_requests",
            "Answers: ok, or the code of the error; and the HTTP status",
            labels=["code", "status", "model_version"],
        )
        for (code, status), count in self._answers.items():
            requests.add_metric([code, status, self._version], count)
        yield requests
        detections = CounterMetricFamily("detector_detections", "Objects found", labels=["model_version"])
        detections.add_metric([self._version], self._num_detections)
        yield detections
        stages = HistogramMetricFamily(
            "detector_stage_seconds", "Time of an answer by stage", labels=["stage", "model_version"]
        )
        for stage, histogram in self._stages.items():
            stages.add_metric([stage, self._version], *histogram.samples())
        yield stages
        batches = HistogramMetricFamily("detector_batch_frames", "Frames a batch", labels=["model_version"])
        batches.add_metric([self._version], *self._batches.samples())
        yield batches

    def _gauged(self, gauges: Gauges) -> Iterator[Metric]:
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        yield GaugeMetricFamily("detector_queue_frames", "Frames under way", gauges.queue_frames)
        yield GaugeMetricFamily(
            "detector_breaker_state", "Breaker of the engine: 0 closed, 1 half-open, 2 open", gauges.breaker_state
        )
        yield CounterMetricFamily("detector_breaker_opened", "Times the breaker opened", gauges.breaker_opened)
        yield CounterMetricFamily("detector_worker_restarts", "Workers that died before this one", self._restarts)
        if gauges.cache_lookups is not None and gauges.cache_bytes is not None:
            lookups = CounterMetricFamily(
                "detector_cache_lookups", "Frames looked up: hit, joined (under way already), miss", labels=["result"]
            )
            for result, count in gauges.cache_lookups.items():
                lookups.add_metric([result], count)
            yield lookups
            yield GaugeMetricFamily("detector_cache_bytes", "Memory of the cached answers", gauges.cache_bytes)


class _Collected:
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)

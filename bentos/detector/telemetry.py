"""Figures for Prometheus: counts by outcome, time by stage, size of batches. Never a label per camera."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.12, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5)
"""Upper bounds, s, dense up to and around 100 ms: there a p99 must be told from its neighbours."""


def isolate_metrics() -> Path:
    """Give this process a metrics folder of its own, to be removed by whoever called this.

    BentoML keeps one below BENTOML_HOME and wipes it whenever a service starts, so that of two services on one machine
    the older would report the figures of the younger. To be called before the first metric is made.
    """
    folder = tempfile.mkdtemp(prefix="detector-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    return Path(folder)


class Telemetry:
    """The detector's metrics for one model version. prometheus_client is imported late: it binds to its folder then."""

    def __init__(self, model_version: str) -> None:
        self._version = model_version
        self._stages = {
            stage: _stage_seconds().labels(stage, model_version)
            for stage in ("decode", "queue", "inference", "postprocess", "total")
        }

    def answered(self, timing_ms: Mapping[str, float], num_detections: int) -> None:
        """Count an answer and where its time went."""
        _requests().labels("ok", self._version).inc()
        _detections().labels(self._version).inc(num_detections)
        for stage, histogram in self._stages.items():
            histogram.observe(timing_ms[stage] / 1000)

    def failed(self, code: str) -> None:
        """Count an answer that is an error, by its code."""
        _requests().labels(code, self._version).inc()

    def batched(self, size: int) -> None:
        """Count a batch that ran."""
        _batch_frames().labels(self._version).observe(size)


@functools.cache
def _requests():  # type: ignore[no-untyped-def]
    from prometheus_client import Counter

    return Counter("detector_requests_total", "Answers by outcome: ok, or the code of the error", ["code", "model_version"])


@functools.cache
def _detections():  # type: ignore[no-untyped-def]
    from prometheus_client import Counter

    return Counter("detector_detections_total", "Objects found", ["model_version"])


@functools.cache
def _stage_seconds():  # type: ignore[no-untyped-def]
    from prometheus_client import Histogram

    return Histogram("detector_stage_seconds", "Time of an answer by stage", ["stage", "model_version"], buckets=BUCKETS_S)


@functools.cache
def _batch_frames():  # type: ignore[no-untyped-def]
    from prometheus_client import Histogram

    return Histogram("detector_batch_frames", "Frames a batch", ["model_version"], buckets=(1, 2, 3, 4, 6, 8, 12, 16, 32))

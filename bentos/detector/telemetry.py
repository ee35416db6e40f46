"""Figures for Prometheus: counts by outcome, time by stage, size of batches. Never a label per camera."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram

STAGES = ("decode", "queue", "inference", "postprocess", "total")

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.12, 0.15, 0.2, 0.5, 1.0)
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
    """The detector's metrics for one model version."""

    def __init__(self, model_version: str) -> None:
        self._version = model_version
        self._figures = _figures()
        self._stages = {stage: self._figures.stage_seconds.labels(stage, model_version) for stage in STAGES}

    def answered(self, timing_ms: Mapping[str, float], num_detections: int) -> None:
        """Count an answer and where its time went."""
        self._figures.requests.labels("ok", self._version).inc()
        self._figures.detections.labels(self._version).inc(num_detections)
        for stage, histogram in self._stages.items():
            histogram.observe(timing_ms[stage] / 1000)

    def failed(self, code: str) -> None:
        """Count an answer that is an error, by its code."""
        self._figures.requests.labels(code, self._version).inc()

    def batched(self, size: int) -> None:
        """Count a batch that ran."""
        self._figures.batch_frames.labels(self._version).observe(size)


@dataclass(frozen=True)
class _Figures:
    requests: Counter
    detections: Counter
    stage_seconds: Histogram
    batch_frames: Histogram


@functools.cache
def _figures() -> _Figures:
    """Made once a process; prometheus_client is imported here because it binds to its folder when it is imported."""
    from prometheus_client import Counter, Histogram

    version = ["model_version"]
    return _Figures(
        requests=Counter("detector_requests_total", "Answers: ok, or the code of the error", ["code", *version]),
        detections=Counter("detector_detections_total", "Objects found", version),
        stage_seconds=Histogram(
            "detector_stage_seconds", "Time of an answer by stage", ["stage", *version], buckets=BUCKETS_S
        ),
        batch_frames=Histogram("detector_batch_frames", "Frames a batch", version, buckets=(1, 2, 3, 4, 6, 8, 16, 32)),
    )

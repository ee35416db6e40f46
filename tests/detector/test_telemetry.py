"""Figures become Prometheus's text, which its own parser reads."""

from __future__ import annotations

import bisect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from bentos.detector.telemetry import BUCKETS_S, STAGES, Gauges, Telemetry

NOTHING = Gauges(queue_frames=0, breaker_state=0, breaker_opened=0)


def read(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple(sorted(labels.items()))


def test_answers_by_code_status_and_version() -> None:
    figures = Telemetry("7")
    figures.answered(dict.fromkeys(STAGES, 1.0), 3)
    figures.failed("overloaded", 503)
    figures.failed("overloaded", 503)
    found = read(figures.render(NOTHING))
    name = "detector_requests_total"
    assert found[key(name, code="ok", status="200", model_version="7")] == 1
    assert found[key(name, code="overloaded", status="503", model_version="7")] == 2
    assert found[key("detector_detections_total", model_version="7")] == 3


@given(st.lists(st.floats(0, 3000), max_size=50))
def test_a_histogram_counts_each_time_once(times_ms: list[float]) -> None:
    figures = Telemetry("7")
    for time_ms in times_ms:
        figures.answered(dict.fromkeys(STAGES, time_ms), 0)
    found = read(figures.render(NOTHING))
    times_s = sorted(time_ms / 1000 for time_ms in times_ms)
    for stage in STAGES:
        labels: dict[str, Any] = {"stage": stage, "model_version": "7"}
        for bound in BUCKETS_S:
            expected = bisect.bisect_right(times_s, bound)
            assert found[key("detector_stage_seconds_bucket", le=repr(float(bound)), **labels)] == expected
        assert found[key("detector_stage_seconds_count", **labels)] == len(times_s)
        assert found[key("detector_stage_seconds_sum", **labels)] == pytest.approx(sum(times_s))


def test_what_holds_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTOR_RESTARTS", "2")
    figures = Telemetry("7")
    figures.batched(3)
    lookups = {"hit": 4, "joined": 1, "miss": 5}
    found = read(figures.render(Gauges(9, 2, 3, cache_lookups=lookups, cache_bytes=1000)))
    assert found[key("detector_queue_frames")] == 9
    assert found[key("detector_breaker_state")] == 2
    assert found[key("detector_breaker_opened_total")] == 3
    assert found[key("detector_worker_restarts_total")] == 2
    assert found[key("detector_cache_lookups_total", result="hit")] == 4
    assert found[key("detector_cache_bytes")] == 1000
    assert found[key("detector_batch_frames_bucket", le="3.0", model_version="7")] == 1
    assert found[key("detector_batch_frames_bucket", le="2.0", model_version="7")] == 0

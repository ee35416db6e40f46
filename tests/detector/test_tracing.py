"""Spans of a request and its stages, in an exporter that keeps them."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bentos.detector.cache import AnswerCache
from bentos.detector.errors import LoadError
from bentos.detector.tracing import Tracing, open_tracing

JPEG = {"content-type": "image/jpeg"}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider)


async def test_a_frame_has_a_span_and_one_a_stage(open_app: Any, exporter: Any, tracing: Any, picture: bytes) -> None:
    client, _ = open_app(tracing=tracing)
    headers = {**JPEG, "traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "r-1", "x-camera-id": "gate"}
    answer = await client.post("/v1/detect?conf=0.3", content=picture, headers=headers)
    *stages, request = exporter.get_finished_spans()
    assert [span.name for span in stages] == ["decode", "queue", "inference", "postprocess"]
    assert request.name == "POST /v1/detect"
    assert format(request.context.trace_id, "032x") == TRACE
    assert format(request.parent.span_id, "016x") == PARENT
    assert {span.parent.span_id for span in stages} == {request.context.span_id}
    assert request.attributes == {
        "http.request.method": "POST",
        "url.path": "/v1/detect",
        "http.response.status_code": 200,
        "http.request.body.size": len(picture),
        "detector.request_id": "r-1",
        "detector.model_version": "7",
    }
    assert request.status.is_unset
    timing_ms = answer.json()["timing_ms"]
    for span in stages:
        assert (span.end_time - span.start_time) / 1e6 == pytest.approx(timing_ms[span.name], abs=0.002)
    for one, following in pairwise(stages):
        assert one.end_time == following.start_time
    assert request.start_time <= stages[0].start_time
    assert stages[-1].end_time <= request.end_time


async def test_failures_say_so_and_without_a_parent_a_trace_begins(open_app: Any, exporter: Any, tracing: Any) -> None:
    client, _ = open_app('{"fail": true}', tracing=tracing)
    await client.post("/v1/detect", content=b"nothing", headers={**JPEG, "traceparent": "nonsense"})
    await client.get("/nowhere")
    spans = exporter.get_finished_spans()
    assert [span.attributes["error.type"] for span in spans] == ["bad_image", "not_found"]
    assert [span.parent for span in spans] == [None, None]
    assert all(span.status.is_unset for span in spans), "the client's faults are none of the service"


async def test_a_failing_engine_is_an_error(open_app: Any, exporter: Any, tracing: Any, picture: bytes) -> None:
    client, _ = open_app('{"fail": true}', tracing=tracing)
    await client.post("/v1/detect", content=picture, headers=JPEG)
    (span,) = exporter.get_finished_spans()
    assert (span.status.is_ok, span.status.description) == (False, "engine_failed")


async def test_a_hit_has_no_stages(open_app: Any, exporter: Any, tracing: Any, picture: bytes) -> None:
    client, _ = open_app(tracing=tracing, cache=AnswerCache(10_000, "model"))
    await client.post("/v1/detect", content=picture, headers=JPEG)
    exporter.clear()
    await client.post("/v1/detect", content=picture, headers=JPEG)
    assert [span.name for span in exporter.get_finished_spans()] == ["POST /v1/detect"]


async def test_unsampled_parents_are_honoured(open_app: Any, exporter: Any, tracing: Any, picture: bytes) -> None:
    client, _ = open_app(tracing=tracing)
    await client.post("/v1/detect", content=picture, headers={**JPEG, "traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize("setting", ["", "off", "OFF"])
def test_off(setting: str) -> None:
    assert open_tracing(setting) is None


def test_nonsense_is_refused() -> None:
    with pytest.raises(LoadError, match="DETECTOR_TRACING = 'yes': expected off, on, or an address"):
        open_tracing("yes")


@pytest.mark.parametrize("setting", ["on", "http://127.0.0.1:4318"])
def test_a_missing_exporter_is_named(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(LoadError, match="needs opentelemetry-exporter-otlp-proto-http: install it"):
        open_tracing(setting)

"""OpenTelemetry traces of frames, off unless asked for: one span a request, below it one a stage.

A request's spans are made when it has its answer, from the times that were taken anyway, so that without tracing a
request pays for one comparison. Waiting is known only as a sum, so the stages are laid end to end: decode, queue,
inference, postprocess.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bentos.detector.errors import LoadError
from bentos.detector.logs import Visit

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

_STAGES = ("decode", "queue", "inference", "postprocess")
_OFF = ("", "off")


class Tracing:
    """Makes spans with a provider of its own: BentoML's stays out of it."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("bentos.detector")
        self._propagator = TraceContextTextMapPropagator()

    def record(
        self,
        visit: Visit,
        headers: Mapping[str, str],
        status: int,
        code: str,
        *,
        model_version: str = "",
        timing_ms: Mapping[str, float] | None = None,
    ) -> None:
        """Record an answer that is about to go. A `traceparent` among `headers` makes it part of that trace."""
        from opentelemetry.trace import SpanKind, Status, StatusCode

        end_ns, now_s = time.time_ns(), time.perf_counter()
        span = self._tracer.start_span(
            f"{visit.method} {visit.path}",
            context=self._propagator.extract(dict(headers)),
            kind=SpanKind.SERVER,
            start_time=end_ns - _ns(now_s - visit.began_s),
            attributes=_attributes(visit, status, code, model_version),
        )
        if timing_ms is not None:
            self._record_stages(span, timing_ms, end_ns - _ns(now_s - visit.received_s))
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR, code))
        span.end(end_ns)

    def _record_stages(self, parent: Span, timing_ms: Mapping[str, float], start_ns: int) -> None:
        from opentelemetry.trace import set_span_in_context

        context = set_span_in_context(parent)
        for stage in _STAGES:
            span = self._tracer.start_span(stage, context=context, start_time=start_ns)
            start_ns += _ns(timing_ms[stage] / 1000)
            span.end(start_ns)

    def close(self) -> None:
        """Send what was recorded, and stop."""
        self._provider.shutdown()


def open_tracing(setting: str) -> Tracing | None:
    """Tracing as DETECTOR_TRACING says: `on` with the standard OTEL_ variables, or an OTLP/HTTP address; None when off.

    Raises:
        LoadError: It is neither, or the exporter is not installed.
    """
    if setting.lower() in _OFF:
        return None
    if setting.lower() != "on" and not setting.startswith(("http://", "https://")):
        raise LoadError(f"DETECTOR_TRACING = {setting!r}: expected off, on, or an address such as http://host:4318")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        package = "opentelemetry-exporter-otlp-proto-http"
        raise LoadError(f"DETECTOR_TRACING = {setting!r} needs {package}: install it ({error})") from None
    name = os.environ.get("OTEL_SERVICE_NAME", "detector")
    provider = TracerProvider(resource=Resource.create({"service.name": name}), shutdown_on_exit=False)
    endpoint = None if setting.lower() == "on" else setting.rstrip("/") + "/v1/traces"
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return Tracing(provider)


def _attributes(visit: Visit, status: int, code: str, model_version: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "http.request.method": visit.method,
        "url.path": visit.path,
        "http.response.status_code": status,
        "http.request.body.size": visit.num_bytes,
        "detector.request_id": visit.request_id,
    }
    if model_version:
        attributes["detector.model_version"] = model_version
    if status >= 400:
        attributes["error.type"] = code
    return attributes


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)

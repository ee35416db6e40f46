"""Counters and histograms for Prometheus, and the same figures for /stats."""

from __future__ import annotations

from collections import deque
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bentos.router.observations import Answer
from bentos.router.routing import Arm

_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
_RECENT = 4096
_ARMS: tuple[Arm, ...] = ("champion", "candidate")


class Metrics:
    """What the router counts. One instance a router, on a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "router_requests", "Answers to clients", ["served_by", "status"], registry=self.registry
        )
        self._answers_of: dict[tuple[str, int], Counter] = {}
        self._seconds = Histogram(
            "router_request_seconds", "From request read to answer written", buckets=_BUCKETS_S, registry=self.registry
        )
        seconds = Histogram(
            "router_backend_seconds",
            "Of each arm, copies included",
            ["arm"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        errors = Counter("router_backend_errors", "No answer or 5xx of an arm", ["arm"], registry=self.registry)
        self._backend_seconds = {arm: seconds.labels(arm) for arm in _ARMS}
        self._backend_errors = {arm: errors.labels(arm) for arm in _ARMS}
        self._fallbacks = Counter(
            "router_fallbacks", "Answered by the other arm than meant", ["to"], registry=self.registry
        )
        self._dropped = Counter("router_shadow_dropped", "Copies that were not sent", registry=self.registry)
        self._left = Counter("router_clients_left", "Clients that left before their answer", registry=self.registry)
        self._gauges: dict[str, Gauge] = {}
        self._recent_ms: deque[float] = deque(maxlen=_RECENT)
        self.num_requests = self.num_fallbacks = self.num_dropped = self.num_errors = 0

    def count_answer(self, served_by: str, status: int, latency_ms: float | None) -> None:
        """A client got its answer. 5xx count as errors. `latency_ms` is None when no back end was asked."""
        self.num_requests += 1
        self.num_errors += status >= 500
        answers = self._answers_of.get((served_by, status))
        if answers is None:  # to look one up by its labels costs more than to count
            answers = self._answers_of[served_by, status] = self._answers.labels(served_by, status)
        answers.inc()
        if latency_ms is not None:
            self._recent_ms.append(latency_ms)
            self._seconds.observe(latency_ms / 1000)

    def count_backend(self, answer: Answer) -> None:
        """An arm answered, or failed to."""
        self._backend_seconds[answer.arm].observe(answer.latency_ms / 1000)
        if answer.failed:
            self._backend_errors[answer.arm].inc()

    def count_fallback(self, to: str) -> None:
        """The other arm than the one that was meant to answers."""
        self.num_fallbacks += 1
        self._fallbacks.labels(to).inc()

    def count_dropped(self) -> None:
        """A copy was not sent."""
        self.num_dropped += 1
        self._dropped.inc()

    def count_left(self) -> None:
        """A client left before its answer."""
        self._left.inc()

    def gauge(self, name: str, text: str, value: float, **labels: str) -> None:
        """Set a gauge, made on first use."""
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, text, list(labels), registry=self.registry)
        known = self._gauges[name]
        (known.labels(**labels) if labels else known).set(value)

    def render(self) -> bytes:
        """Prometheus text."""
        return generate_latest(self.registry)

    def stats(self) -> dict[str, Any]:
        """The figures of /stats; percentiles over the last 4,096 answers, null before the first."""
        ordered = sorted(self._recent_ms)
        return {
            "requests_total": self.num_requests,
            "fallbacks_total": self.num_fallbacks,
            "shadow_dropped_total": self.num_dropped,
            "errors_total": self.num_errors,
            "latency_ms": {"p50": _quantile(ordered, 0.50), "p99": _quantile(ordered, 0.99)},
        }


def _quantile(ordered: list[float], share: float) -> float | None:
    """The smallest value that at least `share` of `ordered` do not exceed."""
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)

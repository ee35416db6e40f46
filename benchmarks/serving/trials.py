"""What is asked of the service beside its highest rate: a lone camera, and three times too much."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.loopback import Tally, open_loop
from benchmarks.report import percentile
from benchmarks.serving.ladder import Cameras, Effort
from bentos.detector.settings import Settings

LONE_RATE = 10.0
OVERLOAD = 3.0
_REFUSED = (429, 503)


def measure_lone(port: int, cameras: Cameras, effort: Effort) -> Tally:
    """One camera at 10 frames a second."""
    return open_loop(port, cameras.requests[:1], LONE_RATE, effort.lone_s, [0.0])


def measure_paced_ms(step: Callable[[], int], effort: Effort) -> float:
    """The bare loop at the lone camera's pace: ms of a frame, median. Caches and cores cool down in between."""
    period_s = 1 / LONE_RATE
    due_s = time.perf_counter()
    times_ms = []
    for _ in range(max(5, round(effort.lone_s * LONE_RATE / 2))):
        due_s += period_s
        time.sleep(max(0.0, due_s - time.perf_counter()))
        started_s = time.perf_counter()
        step()
        times_ms.append((time.perf_counter() - started_s) * 1000)
    return percentile(times_ms, 0.5)


@dataclass(frozen=True)
class Overload:
    """Three times the capacity. `goodput`: answers with 200 a second, as a share of the closed loop's."""

    rate: float
    tally: Tally
    peak: float

    @property
    def goodput(self) -> float:
        """Share of the peak that is still answered."""
        return self.tally.rate / self.peak

    @property
    def refused_p99_ms(self) -> float | None:
        """How long a refusal takes at most, from the sending; None when nothing was refused."""
        times = [time for status in _REFUSED for time in self.tally.answer_ms.get(status, [])]
        return percentile(times, 0.99) if times else None


def measure_overload(port: int, cameras: Cameras, settings: Settings, peak: float, effort: Effort) -> Overload:
    """Offer three times the peak, from more cameras than the service lets wait."""
    num = max(len(cameras.requests), 3 * settings.max_queue)
    many = [cameras.requests[number % len(cameras.requests)] for number in range(num)]
    phases = [(number * 0.618034) % 1 for number in range(num)]
    rate = OVERLOAD * peak
    return Overload(rate, open_loop(port, many, rate, effort.overload_s, phases), peak)

"""How fast the two exported engines answer a lone frame, timed in turns, so that a busy machine hits both alike.

The interval of a percentile lies between order statistics, whose ranks follow from the binomial distribution: it
assumes nothing of the shape of the times. Source: Hahn and Meeker, "Statistical Intervals", 1991, section 5.2.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy.stats import binom

from flows.comparison.predictions import Floats
from flows.comparison.resampling import Estimate

DetectOne = Callable[[bytes], object]
"""Answers one encoded frame; what it answers does not matter here."""

NUM_PAIRS = 120
"""Frames timed: 59 are the fewest that bound a 95th percentile from above, at 95 %."""
_WARM_UP = 5


class EngineTimes(BaseModel):
    """Raw times, kept so that the verdict can be recomputed; entry i of both is of the same frame, moments apart."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    challenger_ms: tuple[float, ...] = Field(description="from the bytes of a frame to its boxes, ms")
    champion_ms: tuple[float, ...] = Field(description="the same; empty: there is no champion")


class FrameTimes(BaseModel):
    """How long one engine takes for a frame that is alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    p50_ms: float = Field(description="median, ms")
    p95_ms: Estimate = Field(description="95th percentile, ms, with one-sided bounds over frames; null: too few frames")


class EngineLatency(BaseModel):
    """Both engines on this machine, one frame at a time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    challenger: FrameTimes = Field(description="the new model's engine")
    champion: FrameTimes | None = Field(description="the reigning model's engine; null: there is no champion")
    slowdown: Estimate | None = Field(description="median of challenger's time over champion's, frame by frame")
    num_frames: int = Field(description="frames timed, repetitions counted")


def time_side_by_side(
    new: DetectOne, old: DetectOne | None, frames: Sequence[bytes], *, num_pairs: int = NUM_PAIRS
) -> EngineTimes:
    """Time both on the same frames, one frame at a time, in turns; who goes first alternates.

    The frames are gone through again until `num_pairs` are timed. `old` is None where there is no champion.

    Raises:
        ValueError: There are no frames.
    """
    if not frames:
        raise ValueError("there are no frames to time the engines on")
    detectors = [new] if old is None else [new, old]
    for index in range(_WARM_UP):
        for detect in detectors:
            detect(frames[index % len(frames)])
    times_ms: list[list[float]] = [[] for _ in detectors]
    for index in range(num_pairs):
        order = range(len(detectors)) if index % 2 == 0 else reversed(range(len(detectors)))
        for which in order:
            times_ms[which].append(_time_ms(detectors[which], frames[index % len(frames)]))
    return EngineTimes(challenger_ms=tuple(times_ms[0]), champion_ms=tuple(times_ms[1]) if old is not None else ())


def engine_latency(times: EngineTimes, alpha: float) -> EngineLatency:
    """Summarise the raw times; each end of an interval is a one-sided 1 - `alpha` bound.

    Raises:
        ValueError: Nothing was timed, or the two were not timed on the same frames.
    """
    new, old = np.array(times.challenger_ms), np.array(times.champion_ms)
    if not len(new) or len(old) not in (0, len(new)):
        raise ValueError(f"{len(new)} times of the challenger and {len(old)} of the champion are no pairs")
    return EngineLatency(
        challenger=_frame_times(new, alpha),
        champion=_frame_times(old, alpha) if len(old) else None,
        slowdown=quantile_estimate(new / old, 0.5, alpha) if len(old) else None,
        num_frames=len(new),
    )


def quantile_estimate(values: Floats, share: float, alpha: float) -> Estimate:
    """Estimate a quantile with one-sided 1 - `alpha` bounds from order statistics; None where there are too few.

    A bound x_(k) from above needs P(at most k - 1 of n below the quantile) >= 1 - alpha.
    """
    ordered, num = np.sort(values), len(values)
    above = int(binom.ppf(1 - alpha, num, share)) + 1  # rank, counted from 1
    below = num - int(binom.ppf(1 - alpha, num, 1 - share))
    return Estimate(
        value=float(np.quantile(ordered, share)),
        lower=float(ordered[below - 1]) if below >= 1 else None,
        upper=float(ordered[above - 1]) if above <= num else None,
        standard_error=None,
        num_units=num,
    )


def _frame_times(values_ms: Floats, alpha: float) -> FrameTimes:
    return FrameTimes(p50_ms=float(np.median(values_ms)), p95_ms=quantile_estimate(values_ms, 0.95, alpha))


def _time_ms(detect: DetectOne, frame: bytes) -> float:
    began = time.perf_counter()
    detect(frame)
    return 1000 * (time.perf_counter() - began)

"""Whether JPEGs may be decoded at a fraction of their size: faster, but not what training saw, so it is measured."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bentos.detector.detector import Detector
from flows.exporting.accuracy import Judge, Loss
from flows.progress import Progress, silent

_RUNS = 3


class DecodeReport(BaseModel):
    """Scaled decoding with the chosen engine, against PyTorch with full decoding."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scaled: bool = Field(description="whether model.json lets JPEGs be decoded at some eighths of their size")
    sentence: str = Field(description="the decision and its reason")
    loss: Loss | None = Field(description="what engine and scaled decoding lose together; null: not measured")
    full_ms: float | None = Field(description="median time to decode and letterbox a frame whole, ms; null: not timed")
    scaled_ms: float | None = Field(description="the same with scaled decoding, ms")


def decide_decoding(
    detector: Detector, images: Sequence[bytes], judge: Judge, max_loss: float, progress: Progress = silent
) -> DecodeReport:
    """Try scaled decoding with a loaded detector: taken where it is faster and the loss stays bounded by `max_loss`."""
    spec = detector.spec
    scaled_spec = spec.model_copy(update={"input": spec.input.model_copy(update={"scaled_decode": True})})
    scaled = Detector(scaled_spec, detector.engine)
    if not any(_shrinks(scaled, data) for data in images):
        return keep_full("frames are no JPEGs, or not enough larger than the input to be decoded smaller")
    full_ms, scaled_ms = _time_both(detector, scaled, images)
    times = f"{scaled_ms:.2f} ms a frame instead of {full_ms:.2f}"
    if scaled_ms >= full_ms:
        return keep_full(f"not faster here: {times}", None, full_ms, scaled_ms)
    loss = judge.measure(scaled, progress).loss
    if loss.upper is None:
        return keep_full(f"too few units to bound what it loses; it would take {times}", loss, full_ms, scaled_ms)
    figures = f"engine and scaled decoding lose {loss.text()} mAP50-95 together, allowed {max_loss:g}"
    if loss.upper > max_loss:
        return keep_full(f"{figures} at the upper end; it would take {times}", loss, full_ms, scaled_ms)
    sentence = f"scaled decoding on: {times}; {figures}"
    return DecodeReport(scaled=True, sentence=sentence, loss=loss, full_ms=full_ms, scaled_ms=scaled_ms)


def keep_full(
    reason: str, loss: Loss | None = None, full_ms: float | None = None, scaled_ms: float | None = None
) -> DecodeReport:
    """The decision against scaled decoding."""
    sentence = f"scaled decoding off: {reason}"
    return DecodeReport(scaled=False, sentence=sentence, loss=loss, full_ms=full_ms, scaled_ms=scaled_ms)


def _shrinks(scaled: Detector, data: bytes) -> bool:
    picture = scaled.decode(data)
    return picture.rgb.shape[1::-1] != picture.size_wh


def _time_both(full: Detector, scaled: Detector, images: Sequence[bytes]) -> tuple[float, float]:
    slot = full.new_frames(1)[0]
    times_ms: tuple[list[float], list[float]] = ([], [])
    for data in list(images) * _RUNS:
        for detector, times in zip((full, scaled), times_ms, strict=True):
            started = time.perf_counter()
            detector.place(detector.decode(data), slot)
            times.append((time.perf_counter() - started) * 1000)
    return round(float(np.median(times_ms[0])), 3), round(float(np.median(times_ms[1])), 3)

"""The rungs of the serving ladder that need no HTTP: engine, bare loop, decoding, the pipeline in process."""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from benchmarks.report import measure_rate
from bentos.detector.batcher import Batcher
from bentos.detector.boxes import Letterbox
from bentos.detector.detector import Detector
from bentos.detector.imaging import Pixels
from bentos.detector.settings import Settings
from flows.machine import count_cores


@dataclass(frozen=True)
class Rung:
    """One figure: frames a second of `step` called over and over by `num_threads` threads."""

    name: str  # the number of the rung, and what is measured
    variant: str
    step: Callable[[], int]
    num_threads: int = 1

    def rate(self, seconds: float) -> float:
        return measure_rate(self.step, seconds, self.num_threads)


def build_rungs(detector: Detector, settings: Settings, images: Sequence[bytes]) -> list[Rung]:
    """All variants of the rungs 1 to 4; the best variant of a rung is its figure."""
    engine = detector.engine
    max_batch = settings.max_batch or engine.max_batch
    frames = detector.new_frames(max_batch)
    pictures = map(detector.decode, itertools.cycle(images))
    boxes = [detector.place(next(pictures), frame) for frame in frames]
    rungs = []
    for batch in sorted({1, max_batch}):
        part = frames[:batch]
        shape = f"batch {batch}"
        rungs += [
            Rung("1 engine alone", shape, functools.partial(_infer, detector, part), engine.num_parallel),
            Rung("2 frame in, boxes out", shape, functools.partial(_loop, detector, part, boxes), engine.num_parallel),
            Rung("4 Detector.detect", shape, _detecting(detector, images, batch)),
        ]
    for num_threads in sorted({1, count_cores()}):
        step = _decoding(detector, images)
        rungs.append(Rung("3 decode and letterbox", f"threads {num_threads}", step, num_threads))
    return sorted(rungs, key=lambda rung: rung.name)


def batcher_rate(detector: Detector, settings: Settings, images: Sequence[bytes], window: int, seconds: float) -> float:
    """Frames a second through the service's own batcher with `window` frames under way, no HTTP."""
    batcher = Batcher(
        detector, max_batch=settings.max_batch, num_decoders=settings.num_decoders,
        max_queue=max(window, settings.max_queue), max_wait_ms=float("inf"),
    )  # fmt: skip
    thresholds, supply = detector.thresholds(), itertools.cycle(images)
    under_way: deque[Future[Any]] = deque(batcher.submit(next(supply), thresholds) for _ in range(window))

    def step() -> int:
        under_way.popleft().result()
        under_way.append(batcher.submit(next(supply), thresholds))
        return 1

    try:
        return measure_rate(step, seconds)
    finally:
        batcher.close()


def _infer(detector: Detector, frames: Pixels) -> int:
    detector.engine.infer(frames)
    return len(frames)


def _loop(detector: Detector, frames: Pixels, boxes: Sequence[Letterbox]) -> int:
    thresholds = detector.thresholds()
    for candidates, box in zip(detector.infer(frames), boxes, strict=False):
        detector.finish(candidates, box, thresholds)
    return len(frames)


def _decoding(detector: Detector, images: Sequence[bytes]) -> Callable[[], int]:
    supply = itertools.cycle(images)

    def step() -> int:
        frame = detector.new_frames(1)[0]
        detector.place(detector.decode(next(supply)), frame)
        return 1

    return step


def _detecting(detector: Detector, images: Sequence[bytes], batch: int) -> Callable[[], int]:
    supply = itertools.cycle(images)
    return lambda: len(detector.detect(list(itertools.islice(supply, batch))))

"""The rungs of the serving ladder that need no HTTP: engine, bare loop, decoding, the pipeline in process."""

from __future__ import annotations

import functools
import itertools
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import measure_rate
from bentos.detector.batcher import Batcher
from bentos.detector.boxes import Letterbox
from bentos.detector.contract import ModelSpec
from bentos.detector.detector import Detector
from bentos.detector.imaging import Pixels
from bentos.detector.settings import Settings
from flows.machine import count_cores

ENGINE, LOOP, DECODE, DETECT = "1 engine alone", "2 frame in, boxes out", "3 decode and letterbox", "4 Detector.detect"
BATCHER, HTTP, SERVICE = "4 batcher, no HTTP", "5 HTTP alone", "6 service"
LONE = "batch 1, one at a time, all cores"
"""The variant of a rung that a lone camera sees."""


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
    max_batch = settings.max_batch or detector.engine.max_batch
    frames = detector.new_frames(max_batch)
    pictures = map(detector.decode, itertools.cycle(images))
    boxes = [detector.place(next(pictures), frame) for frame in frames]
    rungs = [
        Rung(ENGINE, LONE, functools.partial(_infer, detector, frames[:1], alone=True)),
        Rung(LOOP, LONE, functools.partial(_loop, detector, frames[:1], boxes, alone=True)),
    ]
    num_parallel = detector.engine.num_parallel
    for batch in sorted({1, max_batch}):
        variant = f"batch {batch}, {num_parallel} at a time"
        part = frames[:batch]
        rungs += [
            Rung(ENGINE, variant, functools.partial(_infer, detector, part), num_parallel),
            Rung(LOOP, variant, functools.partial(_loop, detector, part, boxes), num_parallel),
        ]
    for num_threads in sorted({1, count_cores()}):
        rungs.append(Rung(DECODE, f"threads {num_threads}", _decoding(detector, images), num_threads))
    for batch in sorted({1, max_batch}):
        rungs.append(Rung(DETECT, f"batch {batch}", _detecting(detector, images, batch)))
    return sorted(rungs, key=lambda rung: rung.name)


def benchmark_app_rate(folder: Path, spec: ModelSpec, seconds: int) -> float | None:
    """Frames a second that OpenVINO's own `benchmark_app` finds with the throughput hint; None where it does not run.

    It leaves threads and streams to OpenVINO, and sends one frame a request.
    """
    program = Path(sys.executable).with_name("benchmark_app")
    if spec.engine.kind != "openvino" or not program.is_file():
        return None
    width, height = spec.input.size_wh
    precision = {"bf16": "bf16", "fp16": "f16"}.get(spec.engine.precision, "f32")
    command = [
        str(program), "-m", str(folder / spec.engine.file), "-d", "CPU", "-hint", "throughput", "-t", str(seconds),
        "-shape", f"[1,{height},{width},3]", "-infer_precision", precision,
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=empty, check=False, env={**os.environ, "HOME": empty}
        )
    found = re.search(r"Throughput: *([\d.]+) FPS", done.stdout)
    return float(found[1]) if found else None


def batcher_rate(detector: Detector, settings: Settings, images: Sequence[bytes], window: int, seconds: float) -> float:
    """Frames a second through the service's own batcher with `window` frames under way, no HTTP."""
    batcher = Batcher(
        detector, max_batch=settings.max_batch, max_batch_ms=settings.max_batch_ms, num_decoders=settings.num_decoders,
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


def _infer(detector: Detector, frames: Pixels, *, alone: bool = False) -> int:
    engine = detector.engine.solo if alone and detector.engine.solo is not None else detector.engine
    engine.infer(frames)
    return len(frames)


def _loop(detector: Detector, frames: Pixels, boxes: Sequence[Letterbox], *, alone: bool = False) -> int:
    thresholds = detector.thresholds()
    for candidates, box in zip(detector.infer(frames, alone=alone), boxes, strict=False):
        detector.finish(candidates, box, thresholds)
    return len(frames)


def _decoding(detector: Detector, images: Sequence[bytes]) -> Callable[[], int]:
    supply = itertools.cycle(images)
    slots = threading.local()  # as in the service, slots are used again and again

    def step() -> int:
        if not hasattr(slots, "frame"):
            slots.frame = detector.new_frames(1)[0]
        detector.place(detector.decode(next(supply)), slots.frame)
        return 1

    return step


def _detecting(detector: Detector, images: Sequence[bytes], batch: int) -> Callable[[], int]:
    supply = itertools.cycle(images)
    return lambda: len(detector.detect(list(itertools.islice(supply, batch))))

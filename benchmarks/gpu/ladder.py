"""The serving ladder's rungs in process, with PyTorch's CUDA graphs as the engine."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

from benchmarks.gpu.bundle import Bundle
from benchmarks.gpu.contenders import Absent
from flows.machine import count_cores

WINDOW = 64
"""Frames under way in the batcher."""


def climb(bundle: Bundle, precision: str, seconds: float, device: str) -> dict[str, float]:
    """Frames a second of each rung from engine to batcher, on the bundle's JPEGs. Raises Absent."""
    try:
        with redirect_stdout(io.StringIO()):
            from benchmarks.gpu.torch_runs import TorchEngine, load_program
            from benchmarks.serving.rungs import BATCHER, batcher_rate, build_rungs
            from bentos.detector.contract import EngineSpec, InputSpec, ModelSpec, Thresholds
            from bentos.detector.detector import Detector
            from bentos.detector.settings import Settings
    except ImportError as error:
        raise Absent(f"there is no {error.name}") from None
    notes = bundle.notes
    program = load_program(bundle, precision, device)
    engine = TorchEngine(program, notes.size_wh, (1, 2, 4, 8), "graph", device, num_decoders=count_cores())
    spec = ModelSpec(
        name=notes.name,
        classes=notes.classes,
        input=InputSpec(size_wh=notes.size_wh),
        thresholds=Thresholds(conf=0.25, iou=0.6, max_det=min(100, notes.top_k)),
        top_k=notes.top_k,
        engine=EngineSpec(kind="fake", file="none", device="PyTorch"),
    )
    detector, settings = Detector(spec, engine), Settings()
    try:
        found = {
            f"{rung.name}, {rung.variant}": rung.rate(seconds)
            for rung in build_rungs(detector, settings, bundle.frames)
        }
        found[f"{BATCHER}, {WINDOW} under way"] = batcher_rate(detector, settings, bundle.frames, WINDOW, 2 * seconds)
    finally:
        detector.close()
    return found

"""Load a model directory in a process of its own and say what it costs: `python -m flows.exporting.probe MODEL FRAMES`.

A fresh process, because in the one that exports PyTorch holds memory and threads that serving never has. Prints one
JSON object: load_s, resident_mb, num_parallel, ms of a lone frame, and for each batch size ms of a call and images/s.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bentos.detector.detector import Detector
from bentos.detector.settings import Settings

RUNS = 12


def probe(model_dir: Path, images: Sequence[bytes], runs: int = RUNS) -> dict[str, Any]:
    """Time loading up to the first answer, a lone frame, and batches of 1, 2, 4, ... images.

    Batches run as in serving: as many calls side by side as the engine takes.
    """
    started = time.perf_counter()
    detector = Detector.load(model_dir, hint=Settings().hint)
    _call(detector, images[:1], alone=True)
    load_s = time.perf_counter() - started
    detector.warm_up()
    supply = itertools.cycle(images)
    lone_ms = [_call(detector, [next(supply)], alone=True) for _ in range(runs)]
    sizes = [1 << power for power in range(detector.engine.max_batch.bit_length())]
    batches = {size: _side_by_side(detector, supply, size, runs) for size in sizes}
    return {
        "load_s": load_s,
        "resident_mb": read_resident_mb(),
        "num_parallel": detector.engine.num_parallel,
        "lone_ms": lone_ms,
        "batches": batches,
    }


def read_resident_mb() -> float:
    """Most memory that this process ever held, MB; what it holds now where the kernel does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6
    except (OSError, StopIteration):
        import psutil

        return float(psutil.Process().memory_info().rss / 1e6)


def _side_by_side(detector: Detector, supply: Iterator[bytes], size: int, runs: int) -> dict[str, Any]:
    num = detector.engine.num_parallel
    groups = [list(itertools.islice(supply, size)) for _ in range(num * runs)]
    with ThreadPoolExecutor(num) as pool:
        list(pool.map(lambda group: _call(detector, group), groups[:num]))
        started = time.perf_counter()
        times_ms = list(pool.map(lambda group: _call(detector, group), groups))
        images_per_s = size * len(groups) / (time.perf_counter() - started)
    return {"times_ms": times_ms, "images_per_s": images_per_s}


def _call(detector: Detector, images: Sequence[bytes], *, alone: bool = False) -> float:
    """From the bytes of a batch to its boxes, ms."""
    started = time.perf_counter()
    frames = detector.new_frames(len(images))
    places = [detector.place(detector.decode(data), slot) for data, slot in zip(images, frames, strict=True)]
    for found, place in zip(detector.infer(frames, alone=alone), places, strict=True):
        detector.finish(found, place, detector.thresholds())
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    answer = probe(Path(sys.argv[1]), [path.read_bytes() for path in sorted(Path(sys.argv[2]).iterdir())])
    print(json.dumps(answer))

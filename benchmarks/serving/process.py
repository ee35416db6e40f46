"""Our service as a process: started and stopped, its memory, its cold start, and where its time goes."""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.processes import await_ready, cpu_seconds, family, free_port, started

_SAMPLE = re.compile(r"^(detector_(?:stage_seconds|batch_frames)_(?:sum|count))\{([^}]*)\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Service:
    """Our service, running."""

    port: int
    pid: int

    def cpu_s(self) -> float:
        """CPU time of all its processes, s."""
        return cpu_seconds(self.pid)

    def stages(self) -> dict[str, float]:
        """Running totals of its own telemetry: sum and count of every stage's time, s, and of the batches' sizes."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            return parse_stages(answer.read().decode())


@contextlib.contextmanager
def running(model_dir: Path) -> Iterator[Service]:
    """Run the service until the block is left; DETECTOR_* of the environment reach it. Raises RuntimeError."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with started("bentos.detector", "--model-dir", str(model_dir), "--port", str(port), log=log) as process:
            await_ready(process, log, f"http://127.0.0.1:{port}/readyz")
            yield Service(port, process.pid)


def cold_start_s(model_dir: Path) -> float:
    """Seconds from starting the process to the first 200 of /readyz. Files come from the page cache."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        log, began = Path(folder, "log"), time.perf_counter()
        with started("bentos.detector", "--model-dir", str(model_dir), "--port", str(port), log=log) as process:
            await_ready(process, log, f"http://127.0.0.1:{port}/readyz", poll_s=0.01)
            return time.perf_counter() - began


@dataclass(frozen=True)
class Memory:
    """Resident memory, MB.

    Attributes:
        worker_rss: The largest process.
        tree_rss: All processes; what they share counts for each.
        tree_pss: All processes; what they share is divided among those that share it. None where the system has no such
            figure.
        processes: How many they are.
    """

    worker_rss: float
    tree_rss: float
    tree_pss: float | None
    processes: int


def read_memory(pid: int) -> Memory:
    """Memory of a process and all below it."""
    rss, pss = [], []
    for process in family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            full = process.memory_full_info()
            rss.append(full.rss / 1e6)
            pss.append(getattr(full, "pss", 0) / 1e6)
    return Memory(max(rss), sum(rss), sum(pss) or None, len(rss))


def parse_stages(metrics: str) -> dict[str, float]:
    """Totals out of the text of /metrics, by stage (or `batch`) and `sum` or `count`."""
    totals: dict[str, float] = {}
    for name, labels, value in _SAMPLE.findall(metrics):
        stage = re.search(r'stage="(\w+)"', labels)
        key = f"{stage[1] if stage else 'batch'} {name.rsplit('_', 1)[1]}"
        totals[key] = totals.get(key, 0.0) + float(value)
    return totals


def stage_means(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Mean of each stage between two readings, ms, and `batch`: frames a batch."""
    means = {}
    for key in sorted(name.removesuffix(" sum") for name in after if name.endswith(" sum")):
        count = after[f"{key} count"] - before.get(f"{key} count", 0.0)
        if count:
            mean = (after[f"{key} sum"] - before.get(f"{key} sum", 0.0)) / count
            means[key] = mean if key == "batch" else 1000 * mean
    return means

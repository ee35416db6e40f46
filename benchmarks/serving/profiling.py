"""Where the service's time goes: its own stages, CPU by thread, and Python functions where py-spy is at hand."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import psutil

from benchmarks.loopback import closed_loop
from benchmarks.processes import family
from benchmarks.serving.ladder import Cameras
from benchmarks.serving.lineup import ENVIRONMENTS
from benchmarks.serving.process import Service, stage_means

_SECONDS = 8
_RATE_HZ = 199
_TOP = 15


def print_profile(service: Service, cameras: Cameras) -> None:
    """Load the service in a closed loop, and print where its time went."""
    worker = max(family(service.pid), key=lambda process: process.memory_info().rss)
    stages, threads = service.stages(), _thread_cpu_s(worker)
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder, "samples")
        spy = _start_py_spy(worker.pid, samples)
        tally = closed_loop(service.port, cameras.mixed, len(cameras.requests), _SECONDS)
        if spy is not None:
            spy.wait(timeout=30)
        functions = leaf_shares(samples.read_text(encoding="utf-8").splitlines()) if samples.is_file() else {}
    means = stage_means(stages, service.stages())
    print(f"\n{tally.rate:.1f} frames/s, {len(cameras.requests)} connections; mean of each stage")
    for stage, value in means.items():
        print(f"  {stage:12} {value:8.2f} {'frames' if stage == 'batch' else 'ms'}")
    used = Counter({thread: cpu_s - threads.get(thread, 0.0) for thread, cpu_s in _thread_cpu_s(worker).items()})
    print("CPU by thread of the worker, ms a frame")
    for thread, cpu_s in used.most_common(8):
        name = "event loop" if thread == worker.pid else f"thread {thread}"
        print(f"  {name:16} {1000 * cpu_s / tally.num_sent:8.3f}")
    if not functions:
        print("py-spy is not at hand: python -m benchmarks.serving --install-peers brings it")
    for name, share in functions.items():
        print(f"  {share:6.1%}  {name}")


def leaf_shares(lines: Iterable[str]) -> dict[str, float]:
    """Share of the samples by function that ran, most first, from py-spy's raw format: `a;b;c COUNT` a line."""
    counts: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        if count.isdecimal():
            counts[re.sub(r":\d+\)$", ")", stack.rsplit(";", 1)[-1])] += int(count)
    total = sum(counts.values())
    return {name: count / total for name, count in counts.most_common(_TOP)}


def _start_py_spy(pid: int, sink: Path) -> subprocess.Popen[bytes] | None:
    beside = (Path(sys.executable).parent, ENVIRONMENTS / "frameworks" / "bin")
    program = next(
        (str(folder / "py-spy") for folder in beside if (folder / "py-spy").is_file()), shutil.which("py-spy")
    )
    if program is None:
        return None
    command = [program, "record", "--pid", str(pid), "--duration", str(_SECONDS), "--rate", str(_RATE_HZ)]
    return subprocess.Popen(
        [*command, "--format", "raw", "--output", str(sink)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _thread_cpu_s(process: psutil.Process) -> dict[int, float]:
    return {thread.id: thread.user_time + thread.system_time for thread in process.threads()}

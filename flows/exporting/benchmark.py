"""What each engine costs, measured in a process of its own: time from image bytes to boxes, memory, loading."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

import flows
from flows.errors import EngineUnavailable

_TIMEOUT_S = 300
_MAX_FRAMES = 16


class BatchLatency(BaseModel):
    """Batches of one size, decoding and suppression included, as many side by side as the engine takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: int = Field(description="images a call")
    p50_ms: float = Field(description="median time of a call, ms")
    p99_ms: float = Field(description="99th percentile over the runs, ms; of few runs, so the slowest or nearly")
    images_per_s: float = Field(description="images a second, all calls together, in the better round")
    runs: int = Field(description="calls timed, after some for warming up")


class Speed(BaseModel):
    """What a loaded engine costs, in a process that does nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    load_s: float = Field(description="from nothing loaded to the first answer, imports aside, s; the faster of rounds")
    resident_mb: float = Field(description="most memory that the process held, MB; the largest of rounds")
    num_parallel: int = Field(description="calls that ran side by side")
    lone_p50_ms: float = Field(description="median time of a frame that is alone, from its bytes to its boxes, ms")
    lone_p99_ms: float = Field(description="99th percentile of the same, ms; of few runs")
    latency: tuple[BatchLatency, ...] = Field(description="time from image bytes to boxes, by batch size")


def run_probe(model_dir: Path, images: Sequence[bytes]) -> dict[str, Any]:
    """What `flows.exporting.probe` says of the model in a fresh process.

    Raises:
        EngineUnavailable: The model does not run there.
    """
    with tempfile.TemporaryDirectory() as folder:
        for index, data in enumerate(images[:_MAX_FRAMES]):
            (Path(folder) / f"{index:04}").write_bytes(data)
        argv = [sys.executable, "-m", "flows.exporting.probe", str(model_dir.resolve()), folder]
        root = Path(flows.__file__).resolve().parents[1]
        try:
            done = subprocess.run(argv, cwd=root, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise EngineUnavailable(f"the engine did not answer within {_TIMEOUT_S} s in a fresh process") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise EngineUnavailable(f"the engine does not run in a fresh process: {reason}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def summarise(rounds: Sequence[dict[str, Any]]) -> Speed:
    """The answers of several probes of one engine as one; of the batch sizes those that all have."""
    batches = [name for name in rounds[0]["batches"] if all(name in one["batches"] for one in rounds)]
    lone_p50, lone_p99 = _percentiles([one["lone_ms"] for one in rounds])
    return Speed(
        load_s=round(min(one["load_s"] for one in rounds), 3),
        resident_mb=round(max(one["resident_mb"] for one in rounds), 1),
        num_parallel=max(one["num_parallel"] for one in rounds),
        lone_p50_ms=lone_p50,
        lone_p99_ms=lone_p99,
        latency=tuple(_latency(int(name), [one["batches"][name] for one in rounds]) for name in batches),
    )


def _latency(batch: int, rounds: Sequence[dict[str, Any]]) -> BatchLatency:
    p50_ms, p99_ms = _percentiles([one["times_ms"] for one in rounds])
    return BatchLatency(
        batch=batch,
        p50_ms=p50_ms,
        p99_ms=p99_ms,
        images_per_s=round(max(one["images_per_s"] for one in rounds), 2),
        runs=sum(len(one["times_ms"]) for one in rounds),
    )


def _percentiles(times_ms: Sequence[Sequence[float]]) -> tuple[float, float]:
    p50, p99 = np.percentile(np.concatenate([np.asarray(part, dtype=np.float64) for part in times_ms]), [50, 99])
    return round(float(p50), 3), round(float(p99), 3)

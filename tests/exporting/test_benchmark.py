"""A model in a process of its own, and several such answers as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.errors import EngineUnavailable
from flows.exporting.benchmark import run_probe, summarise
from flows.exporting.probe import probe


def answer(load_s: float, resident_mb: float, batches: dict[str, tuple[list[float], float]]) -> dict[str, Any]:
    return {
        "load_s": load_s,
        "resident_mb": resident_mb,
        "num_parallel": 2,
        "lone_ms": [4.0, 6.0],
        "batches": {name: {"times_ms": times, "images_per_s": rate} for name, (times, rate) in batches.items()},
    }


def test_rounds_become_one() -> None:
    calm = answer(1.0, 200, {"1": ([10, 10, 10], 200.0), "2": ([15, 15, 15], 260.0), "4": ([20, 20, 20], 300.0)})
    busy = answer(3.0, 210, {"1": ([10, 10, 40], 90.0), "2": ([15, 15, 70], 80.0)})
    speed = summarise([calm, busy])
    assert (speed.load_s, speed.resident_mb, speed.num_parallel) == (1.0, 210, 2)
    assert [row.batch for row in speed.latency] == [1, 2]  # what one of them did not run has no figure
    assert [row.images_per_s for row in speed.latency] == [200.0, 260.0]
    assert speed.latency[0].p50_ms == 10
    assert speed.latency[0].p99_ms > 38  # a slow call is not forgotten
    assert speed.latency[0].runs == 6
    assert speed.lone_p50_ms == 5


def test_a_fresh_process_answers(exported_fp32: Path, frames: list[bytes]) -> None:
    speed = summarise([run_probe(exported_fp32, frames)])
    assert speed.latency[0].batch == 1
    assert speed.latency[0].p50_ms > 0
    assert speed.load_s > 0
    assert 30 < speed.resident_mb < 2000  # not that of this process, which holds PyTorch and more
    assert speed.num_parallel >= 1


def test_the_probe_counts_every_call(exported_fp32: Path, frames: list[bytes]) -> None:
    found = probe(exported_fp32, frames, runs=2)
    assert len(found["lone_ms"]) == 2
    assert all(len(one["times_ms"]) == 2 * found["num_parallel"] for one in found["batches"].values())


def test_a_model_that_does_not_run_says_why(tmp_path: Path, frames: list[bytes]) -> None:
    with pytest.raises(EngineUnavailable, match="does not run in a fresh process: .*model.json is missing"):
        run_probe(tmp_path, frames)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.drift import FURTHER, LISTED, SILENCE, halves, run_trial, wilson
from benchmarks.drift_faults import prepare
from flows.dataset.layout import read_dataset
from flows.dataset.rendering.scene import render_dataset
from flows.params_data import MonitorParams, RenderParams

PARAMS = MonitorParams(
    alpha=0.01,
    threshold=0.1,
    min_frames=20,
    min_units=6,
    shuffles=199,
    block_s=60.0,
    min_camera_frames=4,
    view_shift=0.02,
    blind_share=0.25,
    embedding_frames=0,
)


def test_every_plan_runs_and_cameras_are_named(tmp_path: Path) -> None:
    size = RenderParams(cameras=3, clips_per_camera=8, frames_per_clip=2, size_wh=[192, 112], jpeg_quality=90)
    render_dataset(tmp_path / "data", size, 0)
    variants = prepare(read_dataset(tmp_path / "data"), None, tmp_path)
    outcomes = {plan.fault: run_trial(variants, plan, 1, PARAMS) for plan in (*LISTED, *FURTHER, SILENCE)}
    assert not outcomes["sound"].alarm
    assert outcomes["sound"].num_frames == (24, 24)
    assert "brightness" in outcomes["darker"].sentence or not outcomes["darker"].alarm  # of one camera of three
    for fault in ("blurred", "shifted", "swapped", "covered"):  # so few frames do not show another class mix
        assert outcomes[fault].alarm, fault
        assert outcomes[fault].named, outcomes[fault].sentence


def test_halves_are_disjoint_and_keep_clips_together() -> None:
    import pandas as pd

    frames = pd.DataFrame({"unit": [f"c{number // 4}" for number in range(40)]})
    first, second = halves(frames, True, np.random.default_rng(0))
    assert sorted([*first, *second]) == list(range(40))
    assert not set(frames["unit"][first]) & set(frames["unit"][second])
    assert [len(half) for half in halves(frames, False, np.random.default_rng(0))] == [20, 20]


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"), [(0, 100, 0.0, 0.037), (5, 100, 0.0215, 0.1118), (100, 100, 0.963, 1.0)]
)
def test_wilson_interval(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-4)

"""What the training benchmark concludes from times and scores; that it runs at all, its --quick shows."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import training
from benchmarks.training import added_to_ten_minutes, judge_overhead, judge_pairs, mean_with_interval
from benchmarks.training_runs import WAYS, Run
from flows.training.epochs import EpochMetrics


def run_of(
    epoch_s: float, fixed_s: float = 6.0, epochs: int = 4, score: float | None = None, rate: float = 50.0
) -> Run:
    """A training whose first half of the fixed time lies before its epochs."""
    ends = [fixed_s / 2 + (number + 1) * epoch_s for number in range(epochs)]
    figures = {"score": 0.0, "map50": 0.0, "map50_95": 0.0, "precision": 0.0, "recall": 0.0, "learning_rate": 0.1}
    metrics = [
        EpochMetrics(epoch=number, epochs=epochs, losses={}, seconds=epoch_s, images_per_s=rate, **figures)
        for number in range(1, epochs + 1)
    ]
    return Run(ends_s=ends, total_s=fixed_s + epochs * epoch_s, epochs=metrics, score=score)


@given(epoch_s=st.floats(0.1, 60.0), fixed_s=st.floats(0.0, 60.0))
def test_epochs_and_the_rest_are_told_apart(epoch_s: float, fixed_s: float) -> None:
    run = run_of(epoch_s, fixed_s)
    assert run.epoch_s == pytest.approx(epoch_s)
    assert run.fixed_s == pytest.approx(fixed_s, abs=1e-6)


def test_ten_minutes_hold_what_epochs_add_and_what_is_fixed() -> None:
    base = run_of(6.0, fixed_s=6.0)  # 99 epochs in ten minutes
    assert added_to_ten_minutes(base, base) == pytest.approx(0.0)
    assert added_to_ten_minutes(base, run_of(6.0, fixed_s=12.0)) == pytest.approx(0.01)
    assert added_to_ten_minutes(base, run_of(6.1, fixed_s=6.0)) == pytest.approx(99 * 0.1 / 600)


@pytest.mark.parametrize(("flow_epoch_s", "met"), [(6.1, True), (6.3, False)])
def test_the_verdict_is_against_ultralytics_as_it_is(flow_epoch_s: float, met: bool) -> None:
    runs = {way: [run_of(6.0), run_of(6.0)] for way in WAYS} | {"flow": [run_of(flow_epoch_s), run_of(flow_epoch_s)]}
    found = judge_overhead(runs)
    assert found["met"] is met
    assert ("met" if met else "missed") in found["sentence"]
    assert found["shares_of_ten_minutes"]["bare"] == pytest.approx(99 * (flow_epoch_s - 6.0) / 600)


def test_pairs_are_compared_within_each_seed() -> None:
    pairs = [(run_of(4.0, score=score), run_of(2.0, score=score + 0.01, rate=100.0)) for score in (0.1, 0.3, 0.2)]
    found = judge_pairs("bf16", pairs)
    assert found["difference"] == pytest.approx(0.01)
    assert found["half_interval"] == pytest.approx(0.0, abs=1e-12)
    assert found["noise"] == pytest.approx(0.1)
    assert found["speedup"] == pytest.approx(2.0)


def test_the_interval_is_students() -> None:
    mean, half = mean_with_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == pytest.approx(3.0)
    assert half == pytest.approx(2.7764451 * (2.5**0.5) / 5**0.5)


def test_an_unknown_part_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["training", "--only", "overhead,speed"])
    with pytest.raises(SystemExit):
        training.main()
    assert "there is no part speed; known: overhead, loading" in capsys.readouterr().err


@pytest.mark.deep
def test_one_small_training_of_each_kind_is_timed(tmp_path: Path) -> None:
    """Ultralytics' and ours, on the same frames, each in a process of its own."""
    from benchmarks.report import ROOT
    from benchmarks.training_runs import Job, run_apart
    from flows.dataset.rendering.scene import render_dataset
    from flows.params_data import RenderParams
    from flows.params_file import read_params

    size = RenderParams(cameras=1, clips_per_camera=4, frames_per_clip=2, size_wh=[96, 64], jpeg_quality=90)
    render_dataset(tmp_path / "data", size, 0)
    tiny = {"epochs": 2, "image_size": 64, "batch": 4, "cache": "ram", "precision": "fp32", "start_from": "model"}
    params = read_params(
        ROOT / "params.yaml", [f"train.{key}={json.dumps(value)}" for key, value in tiny.items()]
    ).train
    for way in ("bare, our settings", "trainer"):
        place = tmp_path / way
        place.mkdir()
        run = run_apart(Job(way=way, data=tmp_path / "data", place=place, params=params), tmp_path / "log")
        assert len(run.ends_s) == 2
        assert 0 < run.ends_s[0] < run.ends_s[1] < run.total_s
    assert run.score is not None
    assert run.cache == "ram: as train.cache says"


def test_a_training_that_fails_tells_its_output(tmp_path: Path) -> None:
    from benchmarks.report import ROOT
    from benchmarks.training_runs import Job, run_apart
    from flows.params_file import read_params

    job = Job(way="trainer", data=tmp_path, place=tmp_path, params=read_params(ROOT / "params.yaml").train)
    with pytest.raises(RuntimeError, match=r"the training \(trainer\) ended with 1:(?s:.*)DataError"):
        run_apart(job, tmp_path / "log")

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm

from benchmarks.decisions.cases import CASES, Case
from benchmarks.decisions.figures import count, row, sentence, wilson
from benchmarks.decisions.rollouts import Outcome, roll_out
from benchmarks.decisions.rules import looks, mann_whitney_rolls_back, mann_whitney_z, threshold_rolls_back
from benchmarks.decisions.shapes import read_shapes
from benchmarks.decisions.streams import EMPTY, NUM_BOXES, PIECE, Kind, Stream
from benchmarks.report import ROOT

NAMED = {case.name: case for case in CASES}


def test_cases_are_told_apart_by_name() -> None:
    assert len(NAMED) == len(CASES)
    assert all((case.within is not None) == (case.expected == "found") for case in CASES)


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("identical", "promoted"),
        ("outage of both for 3 s", "held"),
        ("agreement .90, floor .95", "rolled_back"),
        ("empty boxes", "rolled_back"),
        ("half fails in the bake", "rolled_back"),
        ("telemetry lost", "held"),
        ("latency NaN", "held"),
        ("fields misnamed", "held"),
    ],
)
def test_rollouts_go_through_the_real_state_machine(name: str, outcome: str) -> None:
    for seed in range(2):
        found = roll_out(NAMED[name], seed)
        assert (found.outcome, found.verified) == (outcome, True if seed == 0 else None)
        assert (found.flagger is None) == (not NAMED[name].compared)


def test_the_same_seed_is_the_same_rollout() -> None:
    case = NAMED["p95 100 ms to 130 ms"]
    assert roll_out(case, 3) == roll_out(case, 3)
    assert roll_out(case, 3).frames != roll_out(case, 4).frames


def test_streams_are_drawn_as_their_kind_says() -> None:
    kind = Kind(latency="lognormal", p95_ms=100.0, slower=1.3, challenger_errors=0.1, agreement=(0.9, 0.13))
    pieces = [Stream(kind, seed).piece(0) for seed in range(10)]
    champion, challenger = (np.concatenate([getattr(one, f"{arm}_ms") for one in pieces]) for arm in ARMS)
    assert np.quantile(champion, 0.95) == pytest.approx(100.0, rel=0.03)
    assert np.quantile(challenger, 0.95) == pytest.approx(130.0, rel=0.03)
    assert np.mean([one.challenger_failed.mean() for one in pieces]) == pytest.approx(0.1, abs=0.01)
    assert np.mean([one.matched.mean() for one in pieces]) / NUM_BOXES == pytest.approx(0.9, abs=0.01)
    assert set(Stream(Kind(agreement=None), 0).piece(0).matched) == {EMPTY}


ARMS = ("champion", "challenger")


def test_a_stream_is_the_same_however_it_is_read() -> None:
    kind = Kind(persistence=0.9, camera_effects=0.3)
    forwards, backwards = Stream(kind, 5), Stream(kind, 5)
    later = backwards.piece(2)
    assert np.array_equal(forwards.piece(0).champion_ms, backwards.piece(0).champion_ms)
    assert np.array_equal(forwards.piece(2).challenger_ms, later.challenger_ms)


def test_equal_arms_are_equal_in_law_and_recorded_noise_hits_both() -> None:
    pieces = [Stream(Kind(), seed).piece(0) for seed in range(20)]
    champion, challenger = (np.concatenate([getattr(one, f"{arm}_ms") for one in pieces]) for arm in ARMS)
    assert np.quantile(champion, 0.95) == pytest.approx(np.quantile(challenger, 0.95), rel=0.05)
    assert len(champion) == 20 * PIECE


def test_frames_persist_and_outages_hit_both() -> None:
    calm = Stream(Kind(latency="lognormal", persistence=0.9), 0).piece(0)
    of_camera = np.log(calm.champion_ms[::8])
    assert np.corrcoef(of_camera[:-1], of_camera[1:])[0, 1] > 0.1
    out = Stream(Kind(outage_s=(4.0, 7.0)), 0).piece(0)
    assert out.champion_failed[64:112].all()
    assert out.challenger_failed[64:112].all()
    assert out.champion_failed.sum() < 48 + 30


def test_recorded_shapes_are_pairs_of_latencies() -> None:
    shapes = read_shapes()
    assert set(shapes) == {"steady", "busy"}
    for shape in shapes.values():
        assert len(shape.served_ms) == len(shape.copied_ms) >= 1000
        assert min(shape.served_ms.min(), shape.copied_ms.min()) > 0


@pytest.mark.parametrize("values", [lambda rng, num: rng.normal(size=num), lambda rng, num: rng.integers(0, 3, num)])
def test_mann_whitney_is_scipys(values) -> None:
    rng = np.random.default_rng(2)
    first, second = values(rng, 60).astype(float), values(rng, 90).astype(float)
    expected = mannwhitneyu(first, second, use_continuity=False, method="asymptotic", alternative="greater").pvalue
    z = mann_whitney_z(first, second)
    assert norm.sf(z) == pytest.approx(expected)
    assert mann_whitney_z(first, first[:0]) == 0.0
    assert mann_whitney_z(np.zeros(5), np.zeros(7)) == 0.0


def test_rules_see_each_frame_once_and_only_their_cameras() -> None:
    stream = Stream(Kind(), 1)
    seen = list(looks(stream))
    assert len(seen) == 12
    assert [len(look.canary_failed) for look in seen] == [20] * 6 + [80] * 6
    assert [len(look.others_failed) for look in seen] == [140] * 6 + [80] * 6
    champion = np.concatenate([look.others_ms for look in seen[:1]])
    assert set(champion) <= set(stream.piece(0).champion_ms)


def test_rules_of_others_find_what_is_plain_to_see() -> None:
    slow, good = Stream(Kind(slower=3.0), 0), Stream(Kind(p95_ms=20.0, champion_errors=0.0, challenger_errors=0.0), 0)
    params = NAMED["identical"].promote_params
    assert threshold_rolls_back(slow, params, 5)
    assert mann_whitney_rolls_back(slow)
    assert mann_whitney_rolls_back(Stream(Kind(agreement=None), 0))
    assert not threshold_rolls_back(good, params, 1)


def outcomes(*of: str, frames: int = 50, verified: bool | None = None) -> list[Outcome]:
    return [Outcome(one, frames, 0, verified, False, True, False) for one in of]


@pytest.mark.parametrize(
    ("name", "found", "passed"),
    [
        ("identical", ["promoted"] * 95 + ["rolled_back"] * 5, True),
        ("identical", ["promoted"] * 94 + ["rolled_back"] * 6, False),
        ("agreement .90, floor .95", ["rolled_back"] * 99 + ["held"], True),
        ("agreement .90, floor .95", ["rolled_back"] * 98 + ["held"] * 2, False),
        ("telemetry lost", ["held"] * 100, True),
        ("telemetry lost", ["held"] * 99 + ["promoted"], False),
    ],
)
def test_what_a_case_must_come_to(name: str, found: list[str], passed: bool) -> None:
    case = NAMED[name]
    figures = count(case, outcomes(*found))
    assert figures.passed is passed
    assert row(case, figures)[-1] == ("ok" if passed else "FAILED")
    assert (name in sentence([case], {name: figures})) is not passed


def test_a_late_find_is_none() -> None:
    case = NAMED["empty boxes"]
    figures = count(case, outcomes(*["rolled_back"] * 100, frames=(case.within or 0) + 1))
    assert (figures.rolled_back, figures.found_within, figures.passed) == (1.0, 0.0, False)


def test_a_record_that_does_not_verify_stops_everything() -> None:
    with pytest.raises(RuntimeError, match="1 of 1 records do not verify"):
        count(Case("one", "kept"), outcomes("promoted", verified=False))


def test_wilsons_interval() -> None:
    assert wilson(0, 2000) == (pytest.approx(0.0, abs=1e-12), pytest.approx(0.0019171, rel=1e-3))
    assert wilson(10, 100) == (pytest.approx(0.05523, rel=1e-3), pytest.approx(0.17437, rel=1e-3))


def test_a_run_goes_on_with_the_cases_that_are_not_done(tmp_path: Path) -> None:
    def run(only: str) -> str:
        command = ["-m", "benchmarks.decisions.online", "--rollouts", "3", "--processes", "1", "--only", only]
        folders = ["--keep", str(tmp_path / "keep"), "--results", str(tmp_path)]
        done = subprocess.run(
            [sys.executable, *command, *folders], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "kept from an earlier run" not in run("empty boxes")
    both = run("empty boxes,telemetry lost")
    assert "empty boxes: kept from an earlier run" in both
    assert "telemetry lost: 3 of 3; all: 100%, 0.0 min left" in both
    result = json.loads((tmp_path / "decisions-online.json").read_text())
    assert set(result["figures"]) == {"empty boxes", "telemetry lost"}
    assert result["figures"]["telemetry lost"]["promoted"] == 0

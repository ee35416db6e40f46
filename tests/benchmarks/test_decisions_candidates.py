"""The simulation of many candidates: what it draws is what it says, and it runs from end to end."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.decisions import candidates


def test_candidates_are_as_good_as_the_champion_and_share_its_cameras() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([candidates.draw_models(rng, 10, 3) for _ in range(4000)])
    gaps = drawn[:, 1:] - drawn[:, :1]
    assert np.abs(gaps.mean(axis=(0, 2))).max() < 0.002
    assert np.corrcoef(gaps[:, 0].ravel(), gaps[:, 1].ravel())[0, 1] == pytest.approx(0.5, abs=0.05)
    assert np.corrcoef(drawn[:, 0].ravel(), drawn[:, 1].ravel())[0, 1] > 0.7


def test_a_small_run_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    arguments = ["--simulations", "100", "--candidates", "5", "--cameras", "8", "--deals", "39"]
    monkeypatch.setattr(sys, "argv", ["candidates", *arguments, "--results", str(tmp_path)])
    monkeypatch.setattr(candidates, "read_machine", lambda: {"busy_before_percent": 0.0})
    assert candidates.main() == 0
    found = json.loads((tmp_path / "decisions-candidates.json").read_text())
    [shares] = found["figures"].values()
    assert shares["promoted_corrected"] <= shares["promoted"]
    assert shares["found"] > 0.3
    assert "one is promoted in at most" in capsys.readouterr().out

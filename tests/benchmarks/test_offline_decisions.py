"""The drawn scenes are what they claim to be; the rates themselves are the benchmark's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.decisions import offline
from benchmarks.decisions.offline_scenes import World, draw_scene, matches, tables
from flows.comparison.average_precision import average_precisions, rank
from flows.comparison.matching import match_all


@pytest.mark.parametrize("seed", range(3))
def test_matching_finds_what_was_drawn(seed: int) -> None:
    scene = draw_scene(np.random.default_rng(seed), World(3), 0.2)
    truth, *models = tables(scene)
    once = np.ones((1, scene.num_images), dtype=int)
    for found, model in zip((scene.challenger, scene.champion), models, strict=True):
        drawn, matched = matches(scene, found), match_all(truth, model)
        assert (drawn.num_objects == matched.num_objects).all()
        assert drawn.hit.sum() == matched.hit.sum()
        np.testing.assert_allclose(average_precisions(rank(drawn), once), average_precisions(rank(matched), once))


def test_a_gain_of_quality_is_a_gain_of_precision_and_none_is_none() -> None:
    worse, equal, better = (offline._figures_of_all(gain, 300)["map50_95"] for gain in (-0.5, 0.0, 0.5))
    assert worse < -0.05 < equal < 0.05 < better
    assert offline._figures_of_all(offline._gain(-0.02, 300), 300)["map50_95"] == pytest.approx(-0.02, abs=1e-3)


def test_small_run_writes_all_three_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    arguments = ["--simulations", "4", "--slice-simulations", "1", "--cameras", "6", "--population", "200"]
    monkeypatch.setattr(sys, "argv", ["offline", *arguments, "--replicates", "20", "--results", str(tmp_path)])
    assert offline.main() == 0
    names = {path.stem for path in tmp_path.iterdir()}
    assert names == {f"decisions-offline-{table}" for table in ("coverage", "errors", "slices")}
    errors = json.loads((tmp_path / "decisions-offline-errors.json").read_text())
    assert len(errors["rows"]) == 5
    for figures in errors["figures"].values():
        assert sum(figures["gate"].values()) == pytest.approx(1.0)

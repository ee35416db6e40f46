"""The page of many candidates: best first, a mark for each in every drawing, what its number costs."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from flows.comparison.candidates import CandidatesReport, Contender, compare_candidates
from flows.comparison.candidates_page import candidates_page
from flows.comparison.engine_latency import EngineTimes
from tests.comparison.conftest import draw_predictions, draw_truth

NAMES = ("trial 1", "trial <2>")


def times(ms: float, champion: bool) -> EngineTimes:
    spread = np.linspace(0.9, 1.1, 120)
    return EngineTimes(challenger_ms=tuple(ms * spread), champion_ms=tuple(20 * spread) if champion else ())


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(0)
    truth = draw_truth(rng, frames=2)
    return truth, draw_predictions(rng, truth, found=0.7), [draw_predictions(rng, truth) for _ in NAMES]


def judged(scene, params, *, champion: bool = True, timed: bool = True) -> CandidatesReport:
    truth, old, found = scene
    given = [
        Contender(name, one, 0.25, times(10.0 + number, champion) if timed else None)
        for number, (name, one) in enumerate(zip(NAMES, found, strict=True))
    ]
    return compare_candidates(truth, old if champion else None, given, params, seed=0)


def drawings(html: str) -> dict[str, ET.Element]:
    found = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)]
    return {str(svg.get("aria-label")): svg for svg in found}


def test_every_candidate_has_its_row_its_mark_and_its_gates(scene, params) -> None:
    report = judged(scene, params)
    passed = report.model_copy(update={"passed": True})
    html = candidates_page(passed, {report.candidates[0].name: "tca promote"}, {"trial 9": "no engine may serve"})
    assert html.index('class="verdict') < html.index('id="candidates"') < html.index('id="trade"')
    plane = drawings(html)["mAP50-95 over the time of a frame"]
    assert {text.text for text in plane.iter("text")} >= {*NAMES, "champion"}
    assert len(list(plane.iter("circle"))) == 2
    forest = drawings(html)["differences of mAP50-95 with intervals"]
    assert set(NAMES) <= {text.text for text in forest.iter("text")}
    assert html.count("<summary>trial") == 2
    assert "Next: tca promote" in html
    assert "trial 9: no engine may serve" in html
    assert "<2>" not in html


def test_what_was_not_measured_is_not_drawn(scene, params) -> None:
    assert "over the time of a frame" not in candidates_page(judged(scene, params, timed=False))
    first = candidates_page(judged(scene, params, champion=False))
    assert 'id="differences"' not in first
    assert "permutation" not in first
    assert "Square: the champion" not in first


def test_the_line_is_that_of_the_goal(scene, params) -> None:
    assert "Dashed line: what may be lost." in candidates_page(judged(scene, params))
    better = params.model_copy(update={"goal": "superior", "margin": 0.02})
    html = candidates_page(judged(scene, better))
    assert html.count("ashed line: what must be won.") == 2
    assert ".020" in {text.text for text in drawings(html)["differences of mAP50-95 with intervals"].iter("text")}


def test_a_lost_comparison_offers_no_next_step(scene, params) -> None:
    report = judged(scene, params).model_copy(update={"passed": False})
    assert "Next:" not in candidates_page(report, dict.fromkeys(NAMES, "tca promote"))

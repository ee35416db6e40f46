"""The page of a comparison: verdict and gates first, a drawing for everything measured, frames that disagree."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from flows.comparison.confusion import Confusion, ConfusionCell, confusion
from flows.comparison.engine_latency import EngineTimes
from flows.comparison.evaluation import compare
from flows.comparison.evaluation_page import Shown, evaluation_page
from flows.comparison.gallery import disagreement_gallery
from flows.comparison.predictions import LabelledFrame, ground_truth, predictions
from flows.comparison.report import Disagreement
from flows.errors import DataError

TIMES = EngineTimes(challenger_ms=tuple(np.linspace(9, 11, 120)), champion_ms=tuple(np.linspace(10, 12, 120)))


@pytest.fixture
def scene(make_truth, make_predictions):
    rng = np.random.default_rng(0)
    truth = make_truth(rng, frames=2)
    return truth, make_predictions(rng, truth, found=0.95), make_predictions(rng, truth, found=0.7)


def jpeg(_: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (600, 600), (90, 90, 90)).save(buffer, "JPEG")
    return buffer.getvalue()


def drawings(html: str) -> list[ET.Element]:
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)]


def pixels(data_uri: str) -> np.ndarray:
    head, encoded = data_uri.split(",")
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))).astype(int)


def test_page_says_verdict_and_gates_first_and_draws_all_that_was_measured(scene, params) -> None:
    truth, new, old = scene
    report = compare(*scene, params, served_conf=0.25, seed=0, times=TIMES)
    shown = Shown(
        truth.classes, confusion(truth, new, 0.25), confusion(truth, old, 0.25), max_latency_ms=20.0, num_tasks=7
    )
    html = evaluation_page(report, shown)
    places = [html.index(part) for part in ('class="verdict', 'id="gates"', 'id="figures"', 'id="differences"')]
    assert places == sorted(places)
    for gate in report.gates:
        assert gate.reason.replace("'", "&#x27;") in html
    labels = {svg.get("aria-label"): svg for svg in drawings(html)}
    forest = [text.text for text in labels["differences of mAP50-95 with intervals"].iter("text")]
    assert all(f"{part.figure.kind} {part.figure.name}" in forest for part in report.parts)
    for name in ("all classes", *truth.classes):
        assert len(list(labels[f"precision over recall, {name}"].iter("polyline"))) == 2
    bins = len(report.challenger.calibration.bins) + len(report.champion.calibration.bins)
    assert len(list(labels["share of right detections over confidence"].iter("circle"))) == bins
    assert "limit 20 ms" in [t.text for t in labels["time of a frame, median and 95th percentile"].iter("text")]
    assert "7 such frames are labelling tasks" in html
    assert not re.search(r"""(src|href)=["']?http""", html)


@pytest.mark.parametrize(("goal", "state"), [("non-inferior", "non-inferior"), ("superior", "failed")])
def test_the_whole_is_marked_by_the_goal(scene, params, goal: str, state: str) -> None:
    """The very same model is not worse, and not better."""
    truth, new, _ = scene
    report = compare(truth, new, new, params.model_copy(update={"goal": goal}), served_conf=0.25, seed=0)
    assert f"<title>overall: {state}</title>" in evaluation_page(report)


def test_every_link_of_the_contents_leads_somewhere(scene, params) -> None:
    html = evaluation_page(compare(*scene, params, served_conf=0.25, seed=0))
    anchors = re.findall(r'href="#([^"]+)"', html)
    assert len(anchors) >= 5
    assert all(f'<section id="{anchor}">' in html for anchor in anchors)


def test_page_of_a_first_champion_has_nothing_to_compare(scene, params) -> None:
    truth, new, _ = scene
    report = compare(truth, new, None, params, served_conf=0.25, seed=0)
    html = evaluation_page(report, Shown(truth.classes, confusion(truth, new, 0.25)))
    assert "Where it differs" not in html
    assert "no champion yet" in html
    assert "champion dashed" not in html


def test_page_of_an_old_report_shows_its_reasons(scene, params) -> None:
    report = compare(*scene, params, served_conf=0.25, seed=0)
    old = report.model_copy(update={"gates": (), "reasons": ("an old reason", "and another")})
    assert "<li>an old reason</li><li>and another</li>" in evaluation_page(old)


def test_reasons_that_a_gate_gave_are_not_said_twice(scene, params) -> None:
    report = compare(*scene, params, served_conf=0.25, seed=0)
    html = evaluation_page(report)
    part = html[html.index('id="gates"') : html.index('id="figures"')]
    assert part.count(report.gates[0].reason) == 1


def test_names_from_the_data_are_escaped(scene, params) -> None:
    truth = dataclasses.replace(scene[0], classes=("<b>car", "bus", "truck", "van"))
    report = compare(truth, *scene[1:], params, served_conf=0.25, seed=0)
    html = evaluation_page(report, Shown(truth.classes, confusion(truth, scene[1], 0.25)))
    assert "<b>car" not in html
    assert "&lt;b&gt;car" in html


def test_a_matrix_has_the_classes_that_occur_and_gives_way_where_they_are_many(scene, params) -> None:
    truth, new, old = scene
    found = confusion(truth, new, 0.25), confusion(truth, old, 0.25)
    report = compare(*scene, params, served_conf=0.25, seed=0)
    small = evaluation_page(report, Shown((*truth.classes, "never seen"), *found))
    assert small.count('class="matrix"') == 2
    assert "never seen" not in small
    many = tuple(f"class{number}" for number in range(20))
    cells = tuple(ConfusionCell(labelled=name, found=None, num=1) for name in many)
    large = evaluation_page(report, Shown(many, Confusion(cells=cells), found[1]))
    assert 'class="matrix"' not in large
    assert "class19 missed" not in large  # only the most confused are listed
    assert "class3 missed" in large


def test_gallery_shows_both_models_side_by_side(scene, params) -> None:
    truth, new, old = scene
    report = compare(truth, new, old, params, served_conf=0.25, seed=0)
    pictures = disagreement_gallery(report.disagreements[:2], truth, new, old, load=jpeg)
    assert [len(one.data_uris) for one in pictures] == [2, 2]
    assert report.disagreements[0].image in str(pictures[0].caption)
    assert pixels(pictures[0].data_uris[0]).shape == (320, 320, 3)
    html = evaluation_page(report, Shown(pictures=pictures))
    assert all(uri in html for uri in pictures[0].data_uris)


def test_gallery_draws_bold_what_the_other_side_lacks_and_says_who_is_right() -> None:
    boxes = np.array([[100, 100, 200, 200], [300, 100, 400, 200]], dtype=float)
    truth = ground_truth(["car"], [LabelledFrame("a.jpg", "cam", "c", "day", boxes[:1], np.array([0]))])
    new = predictions(["a.jpg"], [boxes], [np.array([0.9, 0.8])], [np.array([0, 0])])
    old = predictions(["a.jpg"], [boxes[:0]], [np.zeros(0)], [np.zeros(0, dtype=np.int64)])
    shown = [Disagreement(image="a.jpg", camera="cam", slice="day", num_boxes=2)]
    [both] = disagreement_gallery(shown, truth, new, old, load=jpeg)
    assert "only the challenger: 2, of which 1 is labelled; only the champion: none" in str(both.caption)
    blue = [pixels(uri)[:, :, 2] - pixels(uri)[:, :, 0] > 60 for uri in both.data_uris]
    assert blue[0].sum() > 300
    assert blue[1].sum() == 0
    [alone] = disagreement_gallery(shown, truth, old, None, load=jpeg)
    assert len(alone.data_uris) == 1
    assert "1 labelled objects missed" in str(alone.caption)


def test_gallery_names_a_frame_that_is_no_image(scene, params) -> None:
    truth, new, _ = scene
    report = compare(truth, new, None, params, served_conf=0.25, seed=0)
    with pytest.raises(DataError, match=re.escape(report.disagreements[0].image)):
        disagreement_gallery(report.disagreements, truth, new, None, load=lambda _: b"no image")

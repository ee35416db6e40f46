from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from flows.comparison.evaluation import compare
from flows.comparison.evaluation_page import evaluation_page
from flows.comparison.gallery import disagreement_gallery
from flows.errors import DataError


@pytest.fixture
def scene(make_truth, make_predictions):
    rng = np.random.default_rng(0)
    truth = make_truth(rng, frames=2)
    return truth, make_predictions(rng, truth, found=0.95), make_predictions(rng, truth, found=0.7)


def jpeg(_: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (600, 600), (90, 90, 90)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_page_says_the_verdict_first_and_draws_a_row_for_every_part(scene, params) -> None:
    report = compare(*scene, params, served_conf=0.25, seed=0)
    html = evaluation_page(report)
    assert html.index("verdict good") < html.index("Where it differs")
    svgs = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)]
    labels = [text.text for text in svgs[0].iter("text")]
    assert all(f"{part.figure.kind} {part.figure.name}" in labels for part in report.parts)
    assert len(svgs) == 1 + 1 + len(scene[0].classes)  # forest, all classes, each class
    assert len(list(svgs[1].iter("polyline"))) == 2
    assert not re.search(r"""(src|href)=["']?http""", html)


def test_page_of_a_first_champion_has_nothing_to_compare(scene, params) -> None:
    html = evaluation_page(compare(scene[0], scene[1], None, params, served_conf=0.25, seed=0))
    assert "Where it differs" not in html
    assert "no champion yet" in html


def test_names_from_the_data_are_escaped(scene, params) -> None:
    truth = type(scene[0])(**{**vars(scene[0]), "classes": ("<b>car", "bus", "truck", "van")})
    html = evaluation_page(compare(truth, *scene[1:], params, served_conf=0.25, seed=0))
    assert "<b>car" not in html
    assert "&lt;b&gt;car" in html


def test_gallery_shows_each_frame_with_its_boxes(scene, params) -> None:
    truth, new, old = scene
    report = compare(truth, new, old, params, served_conf=0.25, seed=0)
    pictures = disagreement_gallery(report.disagreements[:2], truth, new, old, served_conf=0.25, load=jpeg)
    assert [report.disagreements[index].image in one.caption for index, one in enumerate(pictures)] == [True, True]
    head, encoded = pictures[0].data_uri.split(",")
    drawn = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert head == "data:image/jpeg;base64"
    assert drawn.size == (320, 320)
    assert np.asarray(drawn).std() > 5  # something was drawn on the even grey
    assert pictures[0].data_uri in evaluation_page(report, pictures)


def test_gallery_names_a_frame_that_is_no_image(scene, params) -> None:
    truth, new, _ = scene
    report = compare(truth, new, None, params, served_conf=0.25, seed=0)
    with pytest.raises(DataError, match=re.escape(report.disagreements[0].image)):
        disagreement_gallery(report.disagreements, truth, new, None, served_conf=0.25, load=lambda _: b"no image")

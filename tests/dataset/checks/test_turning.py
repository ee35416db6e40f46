"""Which frame the labels of a turned image belong to, told by the shapes of their boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.dataset.checks.turning import turning_evidence
from flows.dataset.manifest.manifest import TABLES, Manifest
from flows.params_file import read_params

LABELS = read_params(Path(__file__).parents[3] / "params.yaml").validate_.labels.model_copy(
    update={"min_shape_boxes": 20}
)
USUAL_ASPECT = 1.6


def manifest(orientation: int, aspects: list[float], size_wh: tuple[int, int] = (720, 1280)) -> Manifest:
    """Upright frames with boxes of the usual aspect, and the frame "odd" of an orientation and aspects."""
    random = np.random.default_rng(0)
    usual = [USUAL_ASPECT * float(factor) for factor in np.exp(random.normal(0, 0.1, 40))]
    rows = [("plain", aspect) for aspect in usual] + [("odd", aspect) for aspect in aspects]
    images = pd.DataFrame(
        {
            "image": ["plain", "odd"],
            "orientation": [0, orientation],
            "width": [1280, size_wh[0]],
            "height": [720, size_wh[1]],
        }
    )
    boxes = pd.DataFrame(
        {
            "image": [image for image, _ in rows],
            "class_name": "car",
            "width_px": [50 * aspect for _, aspect in rows],
            "height_px": 50.0,
            "truncated": False,
        }
    )
    problems = pd.DataFrame(columns=list(TABLES["problems"]))
    return Manifest(images, boxes, problems, np.zeros((2, 54, 96), dtype=np.uint8))


def as_stored(aspect: float, size_wh: tuple[int, int] = (720, 1280)) -> float:
    """The aspect in the upright frame of a box that has `aspect` in the stored one, if its fractions are not turned.

    A box of w x h px in the stored frame of H x W px has the fractions w / H and h / W, which make w / H * W by
    h / W * H px of the upright frame of W x H px. What stands upright in that is turned by a quarter, hence h by w.
    """
    frame = size_wh[0] / size_wh[1]
    return frame**2 / aspect


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_labels_of_the_upright_frame_are_told(orientation: int) -> None:
    evidence = turning_evidence(manifest(orientation, [1.5, 1.7, 1.6]), LABELS)
    assert evidence == {"odd": "the shapes of its boxes fit the upright frame, as is right here"}


def test_labels_of_the_stored_frame_are_told() -> None:
    evidence = turning_evidence(manifest(6, [as_stored(1.5), as_stored(1.7)]), LABELS)
    assert "fit the frame as it is stored" in evidence["odd"]


def test_shapes_that_fit_either_way_are_told() -> None:
    frame = 720 / 1280
    assert as_stored(frame) == pytest.approx(frame)
    assert "fit either way" in turning_evidence(manifest(6, [frame]), LABELS)["odd"]


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_half_turns_cannot_be_told_from_shapes(orientation: int) -> None:
    assert "cannot tell" in turning_evidence(manifest(orientation, [1.6]), LABELS)["odd"]


def test_few_known_boxes_tell_nothing() -> None:
    known = LABELS.model_copy(update={"min_shape_boxes": 1000})
    assert "too few boxes" in turning_evidence(manifest(6, [1.6]), known)["odd"]
    assert turning_evidence(manifest(6, []), LABELS) == {"odd": "it has no boxes"}


def test_upright_frames_need_no_evidence() -> None:
    assert turning_evidence(manifest(1, [1.6]), LABELS) == {}

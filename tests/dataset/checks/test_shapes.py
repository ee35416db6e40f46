"""Shapes learnt from the set: what is far out is found, ordinary spread is not, and few boxes prove nothing."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.dataset.checks.shapes import learn_shapes
from flows.params_data import LabelParams
from flows.params_file import read_params

DEFAULTS = read_params(Path(__file__).parents[3] / "params.yaml").validate_.labels
LIMIT = 6.0
SIZE_WH = (1280, 720)


def label_params(**changes: float) -> LabelParams:
    return DEFAULTS.model_copy(update={"max_shape_z": LIMIT, "min_shape_boxes": 50, **changes})


def traffic(
    number: int, seed: int = 0, cameras: tuple[str, ...] = ("cam1",), names: tuple[str, ...] = ("car",)
) -> pd.DataFrame:
    """Boxes on a road in perspective: size falls with height in the frame, with ten per cent of labelling noise."""
    random = np.random.default_rng(seed)
    camera = random.choice(len(cameras), number)
    kind = random.choice(len(names), number)
    y2 = random.uniform(250, 700, number)
    side = (y2 - 150) * 0.2 * (1 + camera) * (1 + 0.8 * kind) * np.exp(random.normal(0, 0.1, number))
    aspect = np.exp(random.normal(0.2, 0.25, number))
    width, height = side * np.sqrt(aspect), side / np.sqrt(aspect)
    x1 = random.uniform(10, 900, number)
    return pd.DataFrame(
        {
            "image": [f"{index // 10}.jpg" for index in range(number)],
            "class_name": [names[index] for index in kind], "camera": [cameras[index] for index in camera],
            "x1": x1, "x2": x1 + width, "y1": y2 - height, "y2": y2, "width_px": width, "height_px": height,
            "width": SIZE_WH[0], "height": SIZE_WH[1], "truncated": False,
        }
    )  # fmt: skip


def resized(boxes: pd.DataFrame, at: int, by_width: float, by_height: float) -> pd.DataFrame:
    changed = boxes.copy()
    changed.loc[at, "width_px"] *= by_width
    changed.loc[at, "height_px"] *= by_height
    return changed


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(60, 600))
def test_ordinary_traffic_is_plausible(seed: int, number: int) -> None:
    scores = learn_shapes(traffic(number, seed, ("cam1", "cam2"), ("car", "bus")), label_params()).scores
    assert not (scores[["aspect_z", "size_z"]] > LIMIT).any(axis=None)


@pytest.mark.parametrize(
    ("by_width", "by_height", "column"),
    [(4, 4, "size_z"), (0.25, 0.25, "size_z"), (3, 1 / 3, "aspect_z"), (1 / 3, 3, "aspect_z")],
)
def test_a_box_that_is_far_out_is_found_alone(by_width: float, by_height: float, column: str) -> None:
    scores = learn_shapes(resized(traffic(300), 7, by_width, by_height), label_params()).scores
    assert scores.index[scores[column] > LIMIT].tolist() == [7]
    assert scores[column].idxmax() == 7


def test_the_ratio_to_the_usual_size_is_told() -> None:
    shapes = learn_shapes(resized(traffic(2000), 7, 4, 4), label_params())
    usual = traffic(2000).loc[7]
    own = np.sqrt(usual["width_px"] * usual["height_px"]) / ((usual["y2"] - 150) * 0.2)
    assert shapes.scores.loc[7, "size_ratio"] == pytest.approx(4 * own, rel=0.2)
    assert shapes.scores.loc[7, "usual_aspect"] == pytest.approx(np.exp(0.2), rel=0.05)


def test_perspective_is_learnt() -> None:
    """A box of a size that is common below, but far away at the top, is implausible."""
    boxes = traffic(1000)
    near = boxes["y2"].idxmax()
    far = boxes["y2"].idxmin()
    boxes.loc[far, ["width_px", "height_px"]] = boxes.loc[near, ["width_px", "height_px"]].to_numpy()
    assert learn_shapes(boxes, label_params()).scores.loc[far, "size_z"] > LIMIT


def test_each_camera_has_its_own_perspective() -> None:
    boxes = traffic(1000, cameras=("near", "far"))
    boxes.loc[boxes["camera"] == "near", ["width_px", "height_px"]] *= 4
    odd = boxes.index[boxes["camera"] == "far"][0]
    boxes.loc[odd, ["width_px", "height_px"]] *= 4  # as large as those of the other camera
    scores = learn_shapes(boxes, label_params()).scores
    assert scores.index[scores["size_z"] > LIMIT].tolist() == [odd]


def zoomed_frames() -> pd.DataFrame:
    """Frames of cameras that nobody named: in each all boxes are larger or smaller by a factor of its own."""
    boxes = traffic(1000, cameras=("unknown",))
    zoom = np.repeat(np.exp(np.random.default_rng(1).normal(0, 0.6, 100)), 10)
    boxes[["width_px", "height_px"]] = boxes[["width_px", "height_px"]].mul(zoom, axis="index")
    return boxes


def test_where_no_camera_is_known_a_box_is_compared_with_those_of_its_frame() -> None:
    boxes = zoomed_frames()
    assert not (learn_shapes(boxes, label_params()).scores["size_z"] > LIMIT).any()
    scores = learn_shapes(resized(boxes, 507, 4, 4), label_params()).scores
    assert scores.index[scores["size_z"] > LIMIT].tolist() == [507]


def test_few_boxes_of_a_frame_tell_nothing_about_an_unknown_camera() -> None:
    boxes = resized(zoomed_frames().drop(index=range(500, 506)), 507, 9, 9)  # four are left in that frame
    shapes = learn_shapes(boxes, label_params())
    assert shapes.scores.loc[506:509, "size_z"].isna().all() and shapes.scores.loc[506:509, "aspect_z"].notna().all()
    assert shapes.note_on_sizes == "4 boxes not judged: camera not known, and few others in the frame to compare with."
    assert shapes.note_on_aspects == ""


def test_a_third_of_wrong_boxes_does_not_hide_the_others() -> None:
    boxes = traffic(600)
    boxes.loc[:150, ["width_px", "height_px"]] *= 8
    scores = learn_shapes(boxes, label_params()).scores
    assert (scores.loc[:150, "size_z"] > LIMIT).all()
    assert not (scores.loc[151:, "size_z"] > LIMIT).any()


def test_truncated_boxes_may_be_narrow_and_small_but_not_too_large() -> None:
    boxes = traffic(300)
    boxes.loc[:2, "truncated"] = True
    boxes.loc[0, "width_px"] *= 0.05
    boxes.loc[1, ["width_px", "height_px"]] *= 0.1
    boxes.loc[2, ["width_px", "height_px"]] *= 6
    scores = learn_shapes(boxes, label_params()).scores
    assert scores.loc[:2, "aspect_z"].isna().all()
    assert (scores.loc[:2, "size_z"] > LIMIT).tolist() == [False, False, True]


def test_few_boxes_of_a_class_are_not_judged_and_that_is_said() -> None:
    boxes = pd.concat([traffic(300), traffic(49, names=("bus",)), traffic(60, names=("truck",)).assign(truncated=True)])
    boxes = resized(boxes.reset_index(drop=True), 310, 20, 20)
    shapes = learn_shapes(boxes, label_params())
    assert shapes.scores.loc[300:].isna().all(axis=None)
    assert re.fullmatch(r"Not judged, with fewer than 50 whole boxes: bus \(4\d\), truck \(0\)\.", shapes.note_on_sizes)
    assert shapes.note_on_aspects == shapes.note_on_sizes
    assert learn_shapes(traffic(60), label_params()).note_on_sizes == ""


def test_a_spread_as_tight_as_that_of_drawn_boxes_proves_nothing() -> None:
    boxes = traffic(300)
    boxes[["width_px", "height_px"]] = 40.0
    boxes.loc[5, ["width_px", "height_px"]] = 60.0
    assert learn_shapes(boxes, label_params()).scores.loc[5, "size_z"] < LIMIT


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["car", "bus"]), st.floats(-5, 1e7), st.floats(-5, 1e7), st.floats(-1e6, 1e6), st.booleans()
        ),
        max_size=80,
    )
)
def test_any_boxes_are_scored_without_an_error(rows: list[tuple[str, float, float, float, bool]]) -> None:
    boxes = traffic(len(rows)).assign(
        class_name=[row[0] for row in rows], width_px=[row[1] for row in rows], height_px=[row[2] for row in rows],
        y2=[row[3] for row in rows], truncated=[row[4] for row in rows],
    ).astype({"width_px": float, "height_px": float, "y2": float, "truncated": bool})  # fmt: skip
    scores = learn_shapes(boxes, label_params(min_shape_boxes=10)).scores
    assert scores.index.equals(boxes.index)
    assert not np.isinf(scores.to_numpy()).any()

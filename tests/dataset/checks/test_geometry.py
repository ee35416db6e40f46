"""Boxes that repeat or contradict others of their frame, against a count by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.dataset.checks.check import Evidence
from flows.dataset.checks.geometry import geometry_checks, geometry_tables
from flows.dataset.layout import Dataset, Frame
from flows.dataset.manifest.manifest import TABLES, Manifest
from flows.geometry import iou_xyxy
from flows.params_file import read_params

PARAMS = read_params(Path(__file__).parents[3] / "params.yaml").validate_
LIMIT = PARAMS.labels.duplicate_iou
FRAME = Frame("images/train/a.jpg", "train", "cam1", "", "", "day")
NAMES = ("car", "bus")
SIDES = st.integers(1, 12)
BOXES = st.tuples(st.sampled_from(NAMES), st.integers(0, 6), st.integers(0, 6), SIDES, SIDES)


def boxes_table(rows: list[tuple[str, float, float, float, float]]) -> pd.DataFrame:
    """The table of boxes of one frame of 100 x 60 px for (class, x1, y1, width, height), as the manifest has it."""
    corners = np.array([(x1, y1, x1 + w, y1 + h) for _, x1, y1, w, h in rows], dtype=np.float64).reshape(-1, 4)
    overlaps = iou_xyxy(corners, corners) - np.eye(len(corners))
    manifest_boxes = pd.DataFrame(
        {
            **dict.fromkeys(("split", "camera", "slice"), "x"),
            "image": FRAME.image,
            "line": range(1, len(rows) + 1),
            "class_id": [NAMES.index(row[0]) for row in rows],
            "class_name": [row[0] for row in rows],
            **dict(zip(("x1", "y1", "x2", "y2"), corners.T, strict=True)),
            "width_px": corners[:, 2] - corners[:, 0],
            "height_px": corners[:, 3] - corners[:, 1],
            "outside_px": 0.0,
            "truncated": False,
            "max_iou": overlaps.max(axis=1, initial=0.0) if len(rows) else [],
            "max_iou_line": 0,
        }
    )
    images = pd.DataFrame({"image": [FRAME.image], "width": [100], "height": [60]})
    problems = pd.DataFrame(columns=list(TABLES["problems"]))
    manifest = Manifest(images, manifest_boxes, problems, np.zeros((1, 54, 96), dtype=np.uint8))
    return geometry_tables(Evidence(Dataset(Path("/tmp/data"), NAMES, (FRAME,)), manifest, PARAMS))["boxes"]


def lines(table: pd.DataFrame, column: str) -> list[int]:
    return [int(line) for line in table.loc[table[column].notna(), "line"]]


def test_each_box_is_told_once_by_the_one_it_repeats_most() -> None:
    table = boxes_table([("car", 0, 0, 20, 20), ("bus", 0, 0, 20, 20), ("car", 0, 0, 20, 20), ("car", 0, 0, 19, 20)])
    assert table["repeats"].tolist()[2:] == [
        "repeats the car of line 1 (IoU 1.00)",
        "repeats the car of line 3 (IoU 0.95)",
    ]
    assert (lines(table, "repeats"), lines(table, "contradicts")) == ([3, 4], [2, 3, 4])
    assert table["contradicts"][1] == "the bus is also the car of line 1 (IoU 1.00)"


@settings(max_examples=60, deadline=None)
@given(st.lists(BOXES, max_size=7))
def test_repetitions_and_contradictions_are_those_of_a_count_by_hand(
    rows: list[tuple[str, int, int, int, int]],
) -> None:
    table = boxes_table(rows)
    repeats, contradicts = [], []
    for later, (name, x1, y1, w, h) in enumerate(rows):
        for other, ox1, oy1, ow, oh in rows[:later]:
            iou = iou_xyxy([[x1, y1, x1 + w, y1 + h]], [[ox1, oy1, ox1 + ow, oy1 + oh]])[0, 0]
            if iou >= LIMIT:
                (repeats if name == other else contradicts).append(later + 1)
    assert lines(table, "repeats") == sorted(set(repeats))
    assert lines(table, "contradicts") == sorted(set(contradicts))


def test_the_share_of_the_frame_is_that_of_the_visible_part() -> None:
    table = boxes_table(
        [("car", -50, 0, 100, 60), ("car", 0, 0, 100, 60), ("car", 200, 0, 10, 10), ("car", 10, 10, 10, 6)]
    )
    assert table["frame_share"].tolist() == [0.5, 1.0, 0.0, 0.01]


def test_every_column_that_a_check_asks_is_there_even_without_boxes() -> None:
    table = boxes_table([])
    for check in geometry_checks(PARAMS):
        assert {check.column, check.worst.removeprefix("-"), "file", "line"} <= set(table.columns)

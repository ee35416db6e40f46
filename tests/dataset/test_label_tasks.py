"""Labels of the other tasks: read as the boxes around them, broken lines named, the data gate judges them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.dataset.checks.suite import checks_for
from flows.dataset.formats.imports import import_dataset
from flows.dataset.labels import LabelBox, parse_labels
from flows.dataset.layout import read_dataset, read_form
from flows.dataset.manifest.manifest import build_manifest
from flows.dataset.report.validation import validate_dataset
from flows.dataset.versions.snapshot import read_snapshot
from flows.errors import DataError
from flows.label_forms import BOXES, LabelForm
from flows.params_data import ValidateParams
from flows.params_file import read_params

PARAMS: ValidateParams = read_params(Path(__file__).parents[2] / "params.yaml").validate_
SEGMENT, OBB, CLASSIFY = LabelForm("segment"), LabelForm("obb"), LabelForm("classify")
POSE = LabelForm("pose", points=2, point_size=3)
FRACTIONS = st.floats(0, 1).map(lambda value: round(value, 6))
LINES = {
    "segment": "{c} 0.2 0.3 0.5 0.3 0.5 0.75 0.3 0.8\n",
    "obb": "{c} 0.2 0.3 0.5 0.35 0.45 0.8 0.2 0.7\n",
    "pose": "{c} 0.4 0.5 0.3 0.4 0.3 0.4 2 0.5 0.6 1\n",
    "classify": "{c}\n",
}


def box(class_id: int, x1: float, y1: float, x2: float, y2: float) -> LabelBox:
    return LabelBox(class_id, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        (SEGMENT, "1 0.1 0.2 0.5 0.2 0.3 0.6\n", box(1, 0.1, 0.2, 0.5, 0.6)),
        (OBB, "0 0.3 0.1 0.5 0.3 0.3 0.5 0.1 0.3\n", box(0, 0.1, 0.1, 0.5, 0.5)),
        (POSE, "0 0.5 0.5 0.25 0.125 0.4 0.5 2 0 0 0\n", LabelBox(0, 0.5, 0.5, 0.25, 0.125)),
        (CLASSIFY, "\n1\n", LabelBox(1, 0.5, 0.5, 1.0, 1.0)),
    ],
)
def test_a_sound_line_is_the_box_around_it(form: LabelForm, text: str, expected: LabelBox) -> None:
    boxes, problems = parse_labels(text, 2, form=form)
    assert problems == []
    [found] = boxes
    assert (found.class_id, found.cx, found.cy, found.w, found.h) == pytest.approx(
        (expected.class_id, expected.cx, expected.cy, expected.w, expected.h)
    )


@pytest.mark.parametrize(
    ("form", "line", "message"),
    [
        (SEGMENT, "0 0.5 0.5 0.1 0.1", "5 columns, expected class x1 y1 x2 y2 x3 y3 ... .is it a box"),
        (SEGMENT, "0 0.5 0.5 0.1 0.1 0.2 0.2 0.3", "8 columns, expected class x1 y1"),
        (SEGMENT, "0 0.5 0.5 0.1 0.1 0.2 1.2", r"y3 '1\.2' lies outside the frame"),
        (SEGMENT, "0 0.1 0.5 0.2 0.5 0.3 0.5", "the points lie on one line: no area"),
        (SEGMENT, "0 0.1 0.5 0.2 nan 0.3 0.5", "y2 'nan' is not a finite number"),
        (OBB, "0 0.1 0.1 0.2 0.1 0.2 0.2", "7 columns, expected class x1 y1 x2 y2 x3 y3 x4 y4"),
        (OBB, "0 0.1 0.1 0.2 0.1 0.2 0.2 -0.1 0.2", "x4 '-0.1' lies outside the frame"),
        (POSE, "0 0.5 0.5 0.1 0.1 0.4 0.4 2", "8 columns, expected class cx cy width height, then 2 times x y v"),
        (POSE, "0 0.5 0.5 0.1 0.1 0.4 0.4 3 0 0 0", "v1 '3' is no visibility"),
        (POSE, "0 0.5 0.5 0 0.1 0.4 0.4 2 0 0 0", "width '0' is not above 0"),
        (POSE, "0 0.5 0.5 0.1 0.1 0.4 0.4 2 0 7 0", "y2 '7' lies outside the frame"),
        (CLASSIFY, "0 0.5 0.5 1 1", "5 columns, expected class"),
        (CLASSIFY, "", "no class, expected one line: class"),
        (CLASSIFY, "7", "class 7, but data.yaml names only 2 classes"),
    ],
)
def test_what_is_wrong_with_a_line(form: LabelForm, line: str, message: str) -> None:
    boxes, [problem] = parse_labels(line, 2, form=form)
    assert (boxes, problem.line) == ([], 1)
    assert re.search(message, problem.message)


def test_a_frame_has_one_class() -> None:
    boxes, [problem] = parse_labels("0\n\n1\n", 2, form=CLASSIFY)
    assert [one.class_id for one in boxes] == [0]
    assert (problem.line, problem.message) == (3, "a second class (line 1 is the first), expected one line")


@given(st.lists(st.tuples(FRACTIONS, FRACTIONS), min_size=3, max_size=8))
def test_the_box_holds_every_point(points: list[tuple[float, float]]) -> None:
    line = "0 " + " ".join(f"{x!r} {y!r}" for x, y in points)
    boxes, problems = parse_labels(line, 1, form=SEGMENT)
    assert len(boxes) + len(problems) == 1
    for one in boxes:
        assert all(abs(x - one.cx) <= one.w / 2 + 1e-9 and abs(y - one.cy) <= one.h / 2 + 1e-9 for x, y in points)


def relabel(root: Path, task: str) -> None:
    for number, path in enumerate(sorted((root / "labels").rglob("*.txt"))):
        one = LINES[task].format(c=number % 3)
        path.write_text(one if task == "classify" else "".join(LINES[task].format(c=c) for c in range(3)))
    with (root / "data.yaml").open("a") as stream:
        stream.write("kpt_shape: [2, 3]\n" if task == "pose" else f"task: {task}\n")


@pytest.mark.parametrize("task", LINES)
def test_the_gate_lets_sound_data_through_and_names_a_broken_line(sound_dataset: Path, task: str) -> None:
    relabel(sound_dataset, task)
    dataset = read_dataset(sound_dataset)
    assert dataset.form.task == task
    stops = [one for one in _checks(dataset) if not one.passed and one.severity == "stop"]
    # twelve frames: with one class a frame, a split of four lacks none of the three
    assert [one.name for one in stops] == []
    broken = sound_dataset / dataset.frames[0].label
    broken.write_text("0 0.5\n")
    [stop] = [one for one in _checks(dataset) if not one.passed and one.severity == "stop"]
    assert stop.title == f"Every label line reads: {dataset.form.columns}"
    assert str(stop.offenders[0]).startswith(f"data/{dataset.frames[0].label}:1: 2 columns, expected class")


def _checks(dataset: object) -> tuple:  # type: ignore[type-arg]
    return validate_dataset(dataset, build_manifest(dataset), PARAMS).checks  # type: ignore[arg-type]


def test_a_class_of_a_frame_has_no_box_to_judge() -> None:
    names = {check.name for check in checks_for(CLASSIFY, PARAMS)}
    assert "labels_parse" in names
    assert not {"boxes_inside", "boxes_smaller_than_frame", "empty_frames_plausible"} & names
    assert {check.name for check in checks_for(SEGMENT, PARAMS)} == {check.name for check in checks_for(BOXES, PARAMS)}


def test_boxes_without_the_word_are_boxes(sound_dataset: Path) -> None:
    assert read_form(sound_dataset / "data.yaml") == BOXES


@pytest.mark.parametrize("key", ["task: walk", "task: [detect]", "task: pose", "kpt_shape: [2]"])
def test_an_unknown_form_is_refused(sound_dataset: Path, key: str) -> None:
    with (sound_dataset / "data.yaml").open("a") as stream:
        stream.write(f"{key}\n")
    with pytest.raises(DataError, match=r"data\.yaml: (task|kpt_shape) is"):
        read_dataset(sound_dataset)


def test_an_import_keeps_what_the_labels_are(sound_dataset: Path, tmp_path: Path) -> None:
    relabel(sound_dataset, "pose")
    import_dataset("yolo", sound_dataset, tmp_path / "imported")
    assert read_dataset(tmp_path / "imported").form == POSE


def test_versions_compare_boxes_around_polygons(sound_dataset: Path) -> None:
    relabel(sound_dataset, "segment")
    frame = read_dataset(sound_dataset).frames[0]
    files = {str(path.relative_to(sound_dataset)): "x" for path in sound_dataset.rglob("*") if path.is_file()}
    snapshot = read_snapshot("now", files, lambda name: sound_dataset / name)
    assert len(snapshot.boxes(frame)) == 3

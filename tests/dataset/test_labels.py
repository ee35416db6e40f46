"""Label files: every line is a box, a problem with its line number, or blank."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.dataset.labels import LabelBox, LabelProblem, boxes_xyxy, format_labels, parse_labels, read_labels

BOX = LabelBox(1, 0.5, 0.25, 0.1, 0.2)
NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)
SIZES = st.floats(0, 1e6, exclude_min=True)


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("", []),
        ("\n \r\n\t\n", []),
        ("1 0.5 0.25 0.1 0.2", [BOX]),
        ("1 0.5 0.25 0.1 0.2\r\n", [BOX]),
        ("1 .5 2.5e-1 +.1 2E-1\r1\t0.5  0.25 0.1 0.2 \n", [BOX, BOX]),
    ],
)
def test_sound_files(text: str, boxes: list[LabelBox]) -> None:
    assert parse_labels(text, 2) == (boxes, [])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1", "4 columns, expected 5: class cx cy width height"),
        ("0 0.5 0.5 0.1 0.1 0.9", "6 columns, expected 5.*confidence"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2", "7 columns, expected 5.*polygon"),
        ("1.0 0.5 0.5 0.1 0.1", r"class '1\.0' is not a whole number"),
        ("car 0.5 0.5 0.1 0.1", "class 'car' is not a whole number"),
        ("٣ 0.5 0.5 0.1 0.1", "is not a whole number"),
        ("0 nan 0.5 0.1 0.1", "cx 'nan' is not a finite number"),
        ("0 0.5 -inf 0.1 0.1", "cy '-inf' is not a finite number"),
        ("0 0.5 0,5 0.1 0.1", "cy '0,5' is not a finite number"),
        ("0 0.5 0.5 0.1 1_0", "height '1_0' is not a finite number"),
        ("0 0.5 0.5 1e999 0.1", "width '1e999' is not a fraction of the frame"),
        ("0 0.5 0.5 0.1 -0.1", "height '-0.1' is not above 0"),
        ("0 0.5 0.5 0 0.1", "width '0' is not above 0"),
        ("0 0.5 0.5 0.1 " + "x" * 5000, r"height 'x{37}\.\.\.' is not"),
        ("0 0.5 0.5 0.1 " + "1" * 5_000_000 + "x", r"height '1{37}\.\.\.' is not"),
        ("9" * 5_000_000 + " 0.5 0.5 0.1 0.1", r"class '9{37}\.\.\.' is not"),
        ("0 " * 2_000_000, "^2000000 columns, expected 5"),
        ("0 " + "0.1 0.2 " * 20, "41 columns, expected 5: class cx cy width height .looks like a polygon of 20 points"),
        ("0,0.5,0.5,0.1,0.1", "1 columns, expected 5.*separate them by blanks"),
        ("0 0,5 0,5 0,1 0,1", "cx '0,5' is not a finite number .write a point"),
        ("0 0.5 0.5 0.1 0.1\x00\x00\x00", "NUL bytes: was the file only half written"),
        ("\x00" * 64, "NUL bytes"),
        ("\ufeff0 0.5 0.5 0.1 0.1", r"class '\\ufeff0' is not a whole number"),
    ],
)
def test_a_broken_line_is_a_problem_and_the_others_are_boxes(line: str, message: str) -> None:
    boxes, problems = parse_labels(f"1 0.5 0.25 0.1 0.2\n\n{line}\n1 0.5 0.25 0.1 0.2\n", 2, "x.txt")
    assert boxes == [BOX, BOX]
    assert [box.line for box in boxes] == [1, 4]
    assert [(problem.file, problem.line, problem.check) for problem in problems] == [("x.txt", 3, "label_syntax")]
    assert re.search(message, problems[0].message)


def test_the_name_of_a_class_is_told_its_number() -> None:
    _, problems = parse_labels("truck 0.5 0.5 0.1 0.1", 2, "x.txt", ("car", "truck"))
    assert problems[0].message == "class 'truck' is not a whole number (write 1 for truck)"


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("car", "truck", "bus", "motorcycle"), "class 9, but data.yaml names only 4 classes (0 car ... 3 motorcycle)"),
        (("car",), "class 9, but data.yaml names only 1 class (0 car)"),
    ],
)
def test_an_unknown_class_is_told_the_known_ones(classes: tuple[str, ...], words: str) -> None:
    _, problems = parse_labels("9 0.5 0.5 0.1 0.1", len(classes), "data/labels/cam03/clip2_0041.txt", classes)
    assert [str(problem) for problem in problems] == [f"data/labels/cam03/clip2_0041.txt:1: {words}"]
    assert problems[0].check == "label_class"


def test_a_negative_class_is_unknown() -> None:
    assert parse_labels("-1 0.5 0.5 0.1 0.1", 4)[1][0].message == "class -1, but data.yaml names only 4 classes"


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    boxes, problems = parse_labels(text, 3)
    found = {box.line for box in boxes} | {problem.line for problem in problems}
    assert len(found) == len(boxes) + len(problems)
    assert all(0 <= box.class_id < 3 and box.w > 0 and box.h > 0 for box in boxes)


WORDS = st.one_of(
    st.sampled_from(
        ["0", "1", "2", "-1", "0.5", "1e-3", "nan", "inf", "-0", "1e999", "640", ".", "e", "\x00", "0,5", "car"]
    ),
    st.floats().map(repr),
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=6),
)
LINES = st.lists(WORDS, max_size=7).map(" ".join)


@given(st.lists(LINES, max_size=8), st.sampled_from(["\n", "\r\n", "\r"]))
def test_every_line_is_a_box_or_a_problem_or_blank(lines: list[str], end: str) -> None:
    boxes, problems = parse_labels(end.join(lines), 3, "x.txt", ("car", "bus", "truck"))
    found = sorted([box.line for box in boxes] + [problem.line for problem in problems])
    assert found == [number for number, line in enumerate(lines, start=1) if line.split()]
    for box in boxes:
        assert 0 <= box.class_id < 3 and box.w > 0 and box.h > 0
        assert np.isfinite(boxes_xyxy([box], (4096, 4096))).all()
    assert all(problem.message and "\n" not in problem.message and len(problem.message) < 200 for problem in problems)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    boxes, problems = read_labels(path, ["car", "bus"], "x.txt")
    assert boxes or problems or not content.removeprefix(b"\xef\xbb\xbf").decode().split()


@given(st.lists(st.builds(LabelBox, st.integers(0, 9), NUMBERS, NUMBERS, SIZES, SIZES)))
def test_what_is_written_is_read_back_exactly(boxes: list[LabelBox]) -> None:
    assert parse_labels(format_labels(boxes), 10) == (boxes, [])


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"0 0.5 0.5 0.1 0.1\n\xe9\n", 2, "not UTF-8"),
        ("0 0.5 0.5 0.1 0.1\n".encode("utf-16"), 1, "the text is UTF-16; save the file as UTF-8"),
        ("0 0.5 0.5 0.1 0.1\n".encode("utf-32"), 1, "the text is UTF-32;"),
        ("0 0.5 0.5 0.1 0.1\n".encode("utf-16-le"), 1, "UTF-16 without a byte order mark"),
        ("0 0.5 0.5 0.1 0.1\n".encode("utf-16-be"), 1, "UTF-16 without a byte order mark"),
    ],
)
def test_a_wrong_encoding_is_a_problem(tmp_path: Path, content: bytes, line: int, words: str) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    boxes, problems = read_labels(path, ["car"], "data/x.txt")
    assert boxes == []
    assert [(problem.file, problem.line) for problem in problems] == [("data/x.txt", line)]
    assert words in problems[0].message


def test_what_is_no_label_file_is_not_read(tmp_path: Path) -> None:
    huge, pipe = tmp_path / "huge.txt", tmp_path / "pipe.txt"
    with huge.open("wb") as stream:
        stream.truncate(10**12)  # takes no space
    os.mkfifo(pipe)
    for path, words in ((huge, "953,674 MiB: this is no label file"), (pipe, "not a file"), (tmp_path, "not a file")):
        boxes, problems = read_labels(path, ["car"], "x.txt")
        assert boxes == [] and problems[0].line == 0 and words in problems[0].message


def test_a_loop_of_links_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.txt").symlink_to("x.txt")
    with pytest.raises(OSError, match="symbolic links"):
        read_labels(tmp_path / "x.txt", ["car"], "x.txt")


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"\xef\xbb\xbf0 0.5 0.5 0.1 0.1\r\n")
    assert read_labels(path, ["car"], "x.txt") == ([LabelBox(0, 0.5, 0.5, 0.1, 0.1)], [])


def test_corners_are_pixels_of_the_frame() -> None:
    assert boxes_xyxy([], (100, 50)).shape == (0, 4)
    np.testing.assert_allclose(boxes_xyxy([BOX], (100, 50)), [[45, 7.5, 55, 17.5]])


def test_a_problem_names_file_and_line() -> None:
    assert str(LabelProblem("a.txt", 7, "broken")) == "a.txt:7: broken"

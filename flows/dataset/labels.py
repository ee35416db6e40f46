"""YOLO label files: one object a line, of detect `class cx cy w h`, fractions of the frame; see `flows.label_forms`."""

from __future__ import annotations

import codecs
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from flows.geometry import xywhn_to_xyxy
from flows.label_forms import BOXES, LabelForm

LabelCheck = Literal["label_syntax", "label_class"]
_LINE_END = re.compile(r"\r\n|\n|\r")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_PLAIN = re.compile(r"([0-9]{1,9})" + r" ([01](?:\.[0-9]{1,18})?)" * 4)
_LARGEST = 1e6  # far beyond any pixel coordinate, and small enough to compute with
_LONGEST_WORD = 100  # no number needs more; the patterns above take quadratic time on what is no number
_NUL_BYTES = "the line holds NUL bytes: was the file only half written?"
_LARGEST_FILE = 16 * 2**20  # bytes; some 300,000 boxes


@dataclass(frozen=True)
class LabelBox:
    """One labelled object: class, centre and size as fractions of the frame; `line` says where it was read.

    Of a polygon or a turned box it is the upright box around it.
    """

    class_id: int
    cx: float
    cy: float
    w: float
    h: float
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class LabelProblem:
    """What is wrong with a line of a label file; `check` is the expectation that it fails."""

    file: str
    line: int
    message: str
    check: LabelCheck = "label_syntax"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


def parse_labels(
    text: str, num_classes: int, file: str = "", classes: Sequence[str] = (), form: LabelForm = BOXES
) -> tuple[list[LabelBox], list[LabelProblem]]:
    """Read the lines of a label file; every line is either a box, a problem or blank.

    Boxes may reach outside the frame: whether they do is a matter of geometry, not of reading.

    Args:
        text: Content of the file; line ends of Unix, Windows and old Macs are understood.
        num_classes: Known classes are 0 to num_classes - 1.
        file: Name that problems carry.
        classes: Names of the known classes, for the messages.
        form: What a line looks like.
    """
    boxes: list[LabelBox] = []
    problems: list[LabelProblem] = []
    has_plain_boxes = form == BOXES
    for number, line in enumerate(_LINE_END.split(text), start=1):
        if has_plain_boxes and (box := _plain_box(line, num_classes, number)) is not None:
            boxes.append(box)
            continue
        words = line.split()
        if not words:
            continue
        if message := _syntax_fault(words, classes, form):
            problems.append(LabelProblem(file, number, _NUL_BYTES if "\x00" in line else message))
        elif not 0 <= (class_id := int(words[0])) < num_classes:
            problems.append(LabelProblem(file, number, _class_fault(class_id, num_classes, classes), "label_class"))
        else:
            boxes.append(LabelBox(class_id, *form.box([float(word) for word in words[1:]]), number))
    return (boxes, problems) if form.task != "classify" else _only_one(boxes, problems, file)


def read_labels(
    path: Path, classes: Sequence[str], file: str, form: LabelForm = BOXES
) -> tuple[list[LabelBox], list[LabelProblem]]:
    """Read and parse the label file at `path`, named `file` in problems.

    A file in another encoding than UTF-8, with or without a byte order mark, one that is far too large, or one that is
    no regular file (a pipe would never end) is a problem, too.

    Raises:
        OSError: The file cannot be read.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return [], [LabelProblem(file, 0, "is a folder, pipe or device, not a file")]
    if status.st_size > _LARGEST_FILE:
        return [], [LabelProblem(file, 0, f"has {status.st_size / 2**20:,.0f} MiB: this is no label file")]
    return parse_label_bytes(path.read_bytes(), classes, file, form)


def parse_label_bytes(
    content: bytes, classes: Sequence[str], file: str = "", form: LabelForm = BOXES
) -> tuple[list[LabelBox], list[LabelProblem]]:
    """Parse the bytes of a label file, named `file` in problems; another encoding than UTF-8 is a problem, too."""
    if kind := _wide_encoding(content):
        return [], [LabelProblem(file, 1, f"the text is {kind}; save the file as UTF-8")]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(_LINE_END.split(content[: error.start].decode("latin-1")))
        message = f"the text is not UTF-8 (byte 0x{content[error.start]:02x}); save the file as UTF-8"
        return [], [LabelProblem(file, line, message)]
    return parse_labels(text, len(classes), file, classes, form)


def _wide_encoding(content: bytes) -> str:
    """Which encoding of two or four bytes a character this is; empty if it is none."""
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # the first begins like the one of UTF-16
        return "UTF-32"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    for first in (0, 1):  # digits and blanks: every second byte is 0
        if len(content) >= 4 and not any(content[first::2]) and all(content[1 - first :: 2]):
            return "UTF-16 without a byte order mark"
    return ""


def format_labels(boxes: Iterable[LabelBox]) -> str:
    """The text of a label file; numbers keep their exact value, so that reading gives the same boxes."""
    return "".join(f"{box.class_id} {box.cx!r} {box.cy!r} {box.w!r} {box.h!r}\n" for box in boxes)


def boxes_xyxy(boxes: Sequence[LabelBox], size_wh: tuple[int, int]) -> npt.NDArray[np.float64]:  # (N, 4)
    """Corners of the boxes in pixels of a frame of `size_wh`, not clipped."""
    fractions = np.array([(box.cx, box.cy, box.w, box.h) for box in boxes], dtype=np.float64).reshape(-1, 4)
    return xywhn_to_xyxy(fractions, size_wh)


def _plain_box(line: str, num_classes: int, number: int) -> LabelBox | None:
    """The box of a line as tools write it, for a fraction of the cost; None where a closer look is needed."""
    plain = _PLAIN.fullmatch(line)
    if plain is None:
        return None
    class_id, cx, cy, w, h = int(plain[1]), float(plain[2]), float(plain[3]), float(plain[4]), float(plain[5])
    return LabelBox(class_id, cx, cy, w, h, number) if class_id < num_classes and w > 0 and h > 0 else None


def _only_one(
    boxes: list[LabelBox], problems: list[LabelProblem], file: str
) -> tuple[list[LabelBox], list[LabelProblem]]:
    """The one class of a frame; further lines, or none at all, are a problem."""
    if not boxes and not problems:
        problems.append(LabelProblem(file, 1, "no class, expected one line: class"))
    message = f"a second class (line {boxes[0].line} is the first), expected one line" if boxes else ""
    problems += [LabelProblem(file, box.line, message) for box in boxes[1:]]
    return boxes[:1], problems


def _syntax_fault(words: Sequence[str], classes: Sequence[str], form: LabelForm) -> str:
    """What is wrong with the words of a line apart from the class's range; empty if nothing is."""
    if not form.fits(len(words)):
        number = "5: " if form == BOXES else ""
        return f"{len(words)} columns, expected {number}{form.columns}{_columns_hint(words, form)}"
    if len(words[0]) > 19 or not re.fullmatch(r"[+-]?[0-9]{1,18}", words[0]):
        hint = f" (write {classes.index(words[0])} for {words[0]})" if words[0] in classes else ""
        return f"class {_shown(words[0])} is not a whole number{hint}"
    values = []
    for name, word in zip(form.names(len(words)), words[1:], strict=True):
        if len(word) > _LONGEST_WORD or not _NUMBER.fullmatch(word):
            hint = " (write a point, not a comma)" if re.fullmatch(r"[0-9]{0,18},[0-9]{1,18}", word) else ""
            return f"{name} {_shown(word)} is not a finite number{hint}"
        value = float(word)
        if abs(value) > _LARGEST:
            return f"{name} {_shown(word)} is not a fraction of the frame"
        if name in ("width", "height") and value <= 0:
            return f"{name} {_shown(word)} is not above 0"
        if fault := form.fault(name, value):
            return f"{name} {_shown(word)} {fault}"
        values.append(value)
    _, _, width, height = form.box(values)
    return "" if width > 0 and height > 0 else "the points lie on one line: no area"


def _columns_hint(words: Sequence[str], form: LabelForm) -> str:
    """What a line with another number of columns probably is."""
    if form != BOXES:
        return " (is it a box? then data.yaml must not say another task)" if len(words) == 5 else ""
    if len(words) == 6:
        return " (is the sixth a confidence? remove it)"
    if len(words) > 6 and len(words) % 2:
        points = len(words) // 2
        return f" (looks like a polygon of {points:,} points: export boxes, or say `task: segment` in data.yaml)"
    if len(words) == 1 and re.search("[,;]", words[0]):
        return " (separate them by blanks, not by commas)"
    return ""


def _class_fault(class_id: int, num_classes: int, classes: Sequence[str]) -> str:
    known = ""
    if classes:
        ends = (0, num_classes - 1) if num_classes > 1 else (0,)
        known = " (" + " ... ".join(f"{index} {classes[index]}" for index in ends) + ")"
    noun = "class" if num_classes == 1 else "classes"
    return f"class {class_id}, but data.yaml names only {num_classes} {noun}{known}"


def _shown(word: str) -> str:
    return repr(word if len(word) <= 40 else word[:37] + "...")

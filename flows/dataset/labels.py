"""YOLO label files: one box a line, `class cx cy w h`, fractions of the frame."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from flows.geometry import xywhn_to_xyxy

LabelCheck = Literal["label_syntax", "label_class"]
_LINE_END = re.compile(r"\r\n|\n|\r")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LARGEST = 1e6  # far beyond any pixel coordinate, and small enough to compute with
_NAMES = ("cx", "cy", "width", "height")


@dataclass(frozen=True)
class LabelBox:
    """One labelled object: class, centre and size as fractions of the frame; `line` says where it was read."""

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
    text: str, num_classes: int, file: str = "", classes: Sequence[str] = ()
) -> tuple[list[LabelBox], list[LabelProblem]]:
    """Read the lines of a label file; every line is either a box, a problem or blank.

    Boxes may reach outside the frame: whether they do is a matter of geometry, not of reading.

    Args:
        text: Content of the file; line ends of Unix, Windows and old Macs are understood.
        num_classes: Known classes are 0 to num_classes - 1.
        file: Name that problems carry.
        classes: Names of the known classes, for the messages.
    """
    boxes: list[LabelBox] = []
    problems: list[LabelProblem] = []
    for number, line in enumerate(_LINE_END.split(text), start=1):
        words = line.split()
        if not words:
            continue
        if message := _syntax_fault(words):
            problems.append(LabelProblem(file, number, message))
        elif not 0 <= (class_id := int(words[0])) < num_classes:
            problems.append(LabelProblem(file, number, _class_fault(class_id, num_classes, classes), "label_class"))
        else:
            cx, cy, w, h = (float(word) for word in words[1:])
            boxes.append(LabelBox(class_id, cx, cy, w, h, number))
    return boxes, problems


def read_labels(path: Path, classes: Sequence[str], file: str) -> tuple[list[LabelBox], list[LabelProblem]]:
    """Read and parse the label file at `path`, named `file` in problems; wrong encodings are a problem, too.

    Raises:
        OSError: The file cannot be read.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(_LINE_END.split(content[: error.start].decode("latin-1")))
        kind = "UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "not UTF-8"
        message = f"the text is {kind} (byte 0x{content[error.start]:02x}); save the file as UTF-8"
        return [], [LabelProblem(file, line, message)]
    return parse_labels(text, len(classes), file, classes)


def format_labels(boxes: Iterable[LabelBox]) -> str:
    """The text of a label file; numbers keep their exact value, so that reading gives the same boxes."""
    return "".join(f"{box.class_id} {box.cx!r} {box.cy!r} {box.w!r} {box.h!r}\n" for box in boxes)


def boxes_xyxy(boxes: Sequence[LabelBox], size_wh: tuple[int, int]) -> npt.NDArray[np.float64]:  # (N, 4)
    """Corners of the boxes in pixels of a frame of `size_wh`, not clipped."""
    fractions = np.array([(box.cx, box.cy, box.w, box.h) for box in boxes], dtype=np.float64).reshape(-1, 4)
    return xywhn_to_xyxy(fractions, size_wh)


def _syntax_fault(words: Sequence[str]) -> str:
    """What is wrong with the words of a line apart from the class's range; empty if nothing is."""
    if len(words) != 5:
        hint = {6: " (is the sixth a confidence? remove it)"}.get(len(words), "")
        if len(words) > 6 and len(words) % 2:
            hint = " (is this a polygon? export boxes)"
        return f"{len(words)} columns, expected 5: class cx cy width height{hint}"
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", words[0]):
        return f"class {_shown(words[0])} is not a whole number"
    for name, word in zip(_NAMES, words[1:], strict=True):
        if not _NUMBER.fullmatch(word):
            return f"{name} {_shown(word)} is not a finite number"
        value = float(word)
        if abs(value) > _LARGEST:
            return f"{name} {_shown(word)} is not a fraction of the frame"
        if name in ("width", "height") and value <= 0:
            return f"{name} {_shown(word)} is not above 0"
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

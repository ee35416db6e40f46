"""How a line of a label file is written for each task, and the box around what it describes.

    detect    class cx cy w h
    segment   class x1 y1 x2 y2 x3 y3 ...       a polygon of three points or more
    obb       class x1 y1 x2 y2 x3 y3 x4 y4     the corners of a turned box
    pose      class cx cy w h (x y [v])...      as many points as data.yaml says: `kpt_shape: [POINTS, 2 or 3]`
    classify  class                             one line a file: what the whole frame shows

Numbers but the class and the visibility v (0 not labelled, 1 hidden, 2 visible) are fractions of the frame. `task:` in
data.yaml says which; without it boxes are expected, or points where there is a kpt_shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from flows.errors import DataError
from flows.params_train import Task

_BOX = ("cx", "cy", "width", "height")
_FAR_OUTSIDE = 0.01  # of the frame; Ultralytics leaves a whole frame out for a point that is further outside
_MOST_POINTS = 1000


@dataclass(frozen=True)
class LabelForm:
    """The columns of a label line. `points` and `point_size` (2, or 3 with visibility) are those of a pose."""

    task: Task = "detect"
    points: int = 0
    point_size: int = 0

    @property
    def columns(self) -> str:
        """A line as a person writes it."""
        match self.task:
            case "segment":
                return "class x1 y1 x2 y2 x3 y3 ..."
            case "obb":
                return "class x1 y1 x2 y2 x3 y3 x4 y4"
            case "classify":
                return "class"
            case "pose":
                visible = " v" if self.point_size == 3 else ""
                return f"class cx cy width height, then {self.points} times x y{visible}"
            case _:
                return "class cx cy width height"

    def fits(self, num_columns: int) -> bool:
        """Whether a line may have so many columns."""
        match self.task:
            case "segment":
                return num_columns >= 7 and num_columns % 2 == 1
            case "obb":
                return num_columns == 9
            case "classify":
                return num_columns == 1
            case "pose":
                return num_columns == 5 + self.points * self.point_size
            case _:
                return num_columns == 5

    def names(self, num_columns: int) -> Sequence[str]:
        """What the columns after the class are called."""
        if self.task in ("segment", "obb"):
            return [f"{axis}{point}" for point in range(1, (num_columns + 1) // 2) for axis in "xy"]
        axes = ("x", "y", "v")[: self.point_size]
        points = [f"{axis}{point}" for point in range(1, self.points + 1) for axis in axes]
        return [*_BOX, *points] if self.task != "classify" else ()

    def fault(self, name: str, value: float) -> str:
        """What is wrong with the value of the column `name` of a point, as the end of a sentence; empty if nothing."""
        if name in _BOX:
            return ""
        if name.startswith("v"):
            return "" if value in (0, 1, 2) else "is no visibility: 0 not labelled, 1 hidden, 2 visible"
        return "" if -_FAR_OUTSIDE <= value <= 1 + _FAR_OUTSIDE else "lies outside the frame"

    def box(self, values: Sequence[float]) -> tuple[float, float, float, float]:
        """Centre x and y, width and height of the box around what the columns after the class describe.

        A class of the whole frame has the whole frame as its box.
        """
        if self.task == "classify":
            return 0.5, 0.5, 1.0, 1.0
        if self.task not in ("segment", "obb"):
            return values[0], values[1], values[2], values[3]
        left, right, top, bottom = min(values[::2]), max(values[::2]), min(values[1::2]), max(values[1::2])
        return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


BOXES = LabelForm()


def form_of(tree: Any, path: Path) -> LabelForm:
    """The form that a data.yaml (`tree`, read from `path`) asks for.

    Raises:
        DataError: `task` is unknown, or `kpt_shape` is missing for a pose or not of the form [POINTS, 2 or 3].
    """
    keys = tree if isinstance(tree, dict) else {}
    shape: Any = keys.get("kpt_shape")
    task: Any = keys.get("task") or ("pose" if shape is not None else "detect")
    if task not in get_args(Task):
        raise DataError(f"{path}: task is {task!r}", f"Expected one of {', '.join(get_args(Task))}")
    if task != "pose":
        return LabelForm(task)
    if not are_counts(shape, 2) or not 1 <= shape[0] <= _MOST_POINTS or shape[1] not in (2, 3):
        raise DataError(f"{path}: kpt_shape is {shape!r}", "Expected `kpt_shape: [POINTS, 2]`, or 3 with visibility")
    return LabelForm(task, points=shape[0], point_size=shape[1])


def are_counts(value: Any, length: int) -> bool:
    """Whether `value` is a list of so many whole numbers."""
    return isinstance(value, list) and len(value) == length and all(type(one) is int for one in value)

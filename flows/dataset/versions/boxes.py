"""What changed among the boxes of one frame: which are new, gone, moved, or of another class.

Boxes are paired by intersection over union, the largest first, after those that are equal. An intersection over union
does not change when both axes are scaled, so fractions of the frame do as well as pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from flows.geometry import Floats, iou_xyxy, xywhn_to_xyxy

BoxKind = Literal["added", "removed", "moved", "relabelled"]
Xywhn = tuple[float, float, float, float]

MATCH_IOU = 0.5  # below it, two boxes are taken for two objects, as in the usual count of detections
SAME_SHIFT = 0.0005  # of the frame: 1 px in 2000. Less is rounding by a labelling tool, not a correction


class NamedBox(NamedTuple):
    """A labelled object: the name of its class; centre and size as fractions of the frame."""

    class_name: str
    xywhn: Xywhn


class BoxChange(BaseModel):
    """One box that differs. Before is null for an added box, after for a removed one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: BoxKind = Field(description="a box of another class is relabelled, even when it moved as well")
    class_before: str | None = Field(description="name of its class in the earlier version")
    class_after: str | None = Field(description="name of its class in the later version")
    before_xywhn: Xywhn | None = Field(description="centre and size there, fractions of the frame")
    after_xywhn: Xywhn | None = Field(description="centre and size here, fractions of the frame")


def compare_boxes(before: Sequence[NamedBox], after: Sequence[NamedBox]) -> tuple[BoxChange, ...]:
    """The differences between two lists of boxes, whatever their order; empty when they hold the same boxes."""
    left, right = _without_common(before, after)
    pairs = _pair(left, right)
    changes = [_change(left[i], right[j]) for i, j in pairs if not _is_same(left[i], right[j])]
    paired_left, paired_right = {i for i, _ in pairs}, {j for _, j in pairs}
    changes += [_removed(box) for i, box in enumerate(left) if i not in paired_left]
    changes += [_added(box) for j, box in enumerate(right) if j not in paired_right]
    return tuple(changes)


def _without_common(before: Sequence[NamedBox], after: Sequence[NamedBox]) -> tuple[list[NamedBox], list[NamedBox]]:
    first, second = Counter(before), Counter(after)
    return sorted((first - second).elements()), sorted((second - first).elements())


def _pair(left: Sequence[NamedBox], right: Sequence[NamedBox]) -> list[tuple[int, int]]:
    """Indices of boxes that show the same object, best match first. Swapping the lists swaps the pairs."""
    overlap = iou_xyxy(_corners(left), _corners(right))
    candidates = [(int(i), int(j)) for i, j in np.argwhere(overlap >= MATCH_IOU)]
    candidates += [(i, j) for i, a in enumerate(left) for j, b in enumerate(right) if _is_same(a, b)]  # hair-thin ones

    def rank(pair: tuple[int, int]) -> tuple[bool, float, bool, list[NamedBox]]:
        one, other = left[pair[0]], right[pair[1]]
        return (
            not _is_same(one, other),
            -float(overlap[pair]),
            one.class_name != other.class_name,
            sorted((one, other)),
        )

    pairs: list[tuple[int, int]] = []
    taken_left: set[int] = set()
    taken_right: set[int] = set()
    for i, j in sorted(set(candidates), key=rank):
        if i not in taken_left and j not in taken_right:
            pairs.append((i, j))
            taken_left.add(i)
            taken_right.add(j)
    return pairs


def _corners(boxes: Sequence[NamedBox]) -> Floats:  # (N, 4)
    return xywhn_to_xyxy([box.xywhn for box in boxes], (1.0, 1.0))


def _is_same(one: NamedBox, other: NamedBox) -> bool:
    """Same class, and no number differs by more than rounding."""
    shifts = (abs(a - b) for a, b in zip(one.xywhn, other.xywhn, strict=True))
    return one.class_name == other.class_name and max(shifts) <= SAME_SHIFT


def _change(before: NamedBox, after: NamedBox) -> BoxChange:
    return BoxChange(
        kind="moved" if before.class_name == after.class_name else "relabelled",
        class_before=before.class_name,
        class_after=after.class_name,
        before_xywhn=before.xywhn,
        after_xywhn=after.xywhn,
    )


def _removed(box: NamedBox) -> BoxChange:
    return BoxChange(
        kind="removed", class_before=box.class_name, class_after=None, before_xywhn=box.xywhn, after_xywhn=None
    )


def _added(box: NamedBox) -> BoxChange:
    return BoxChange(
        kind="added", class_before=None, class_after=box.class_name, before_xywhn=None, after_xywhn=box.xywhn
    )

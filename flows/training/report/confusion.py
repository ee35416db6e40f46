"""Who was taken for whom: partners of labels and detections, the confusion matrix, and the frames to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flows.geometry import iou_xyxy
from flows.page import escape
from flows.training.report.judged import JudgedFrame

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def find_pairs(
    labels_xyxy: Floats, label_ids: Ints, found_xyxy: Floats, found_ids: Ints, least_iou: float
) -> tuple[Ints, Ints]:
    """Partners of labels and detections of a frame, each at most one: those of a class first, then by falling overlap.

    What overlaps a label of its own class is never counted as confused with another, which makes the diagonal of the
    matrix the true positives.

    Returns:
        For each label the index of its detection, (L,), and for each detection that of its label, (D,); -1: none.
    """
    of_label, of_found = np.full(len(labels_xyxy), -1, dtype=np.int64), np.full(len(found_xyxy), -1, dtype=np.int64)
    if not len(labels_xyxy) or not len(found_xyxy):
        return of_label, of_found
    ious = iou_xyxy(labels_xyxy, found_xyxy)  # (L, D)
    rows, columns = np.nonzero(ious >= least_iou)
    same = label_ids[rows] == found_ids[columns]
    for pair in np.lexsort((-ious[rows, columns], ~same)):
        label, found = rows[pair], columns[pair]
        if of_label[label] < 0 and of_found[found] < 0:
            of_label[label], of_found[found] = found, label
    return of_label, of_found


def count_confusions(label_ids: Ints, found_ids: Ints, of_label: Ints, of_found: Ints, num_classes: int) -> Ints:
    """The matrix of one frame, (num_classes + 1,) squared: row label, column detection; the last of each: nothing."""
    counts = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    partners = np.where(of_label >= 0, found_ids[of_label] if len(found_ids) else num_classes, num_classes)
    np.add.at(counts, (label_ids, partners), 1)
    np.add.at(counts, (np.full(int((of_found < 0).sum()), num_classes), found_ids[of_found < 0]), 1)
    return counts


def worst_frames(frames: Sequence[JudgedFrame], number: int) -> tuple[JudgedFrame, ...]:
    """Frames of most errors, at most half of them of one camera while others have errors, too."""
    ranked = sorted((one for one in frames if one.num_errors), key=lambda one: (-one.num_errors, one.image))
    return _spread(ranked, number)


def best_frames(frames: Sequence[JudgedFrame], number: int) -> tuple[JudgedFrame, ...]:
    """Frames of most objects found as what they are, less the errors; frames where nothing is right do not count."""
    right = [one for one in frames if one.num_right]
    return _spread(sorted(right, key=lambda one: (one.num_errors - one.num_right, one.image)), number)


def confusion_table(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> str:
    """The matrix as HTML: counts, and the share of their row as the strength of the ground."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("label \\ found as", *classes, "missed"))
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{_cells(counts, is_last=index == len(classes))}</tr>'
        for index, (name, counts) in enumerate(zip((*classes, "nothing: false"), confusion, strict=True))
    )
    return (
        f'<div class="scroll"><table class="matrix"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cells(counts: Sequence[int], is_last: bool) -> str:
    total = sum(counts) or 1
    shown = [f'<td class="heat" style="--share:{count / total:.2f}">{count:,}</td>' for count in counts]
    # Nothing that was found as nothing cannot be counted.
    return "".join([*shown[:-1], "<td>–</td>"] if is_last else shown)


def _spread(ranked: Sequence[JudgedFrame], number: int) -> tuple[JudgedFrame, ...]:
    most = max(number // 2, 1)
    taken: list[JudgedFrame] = []
    for one in ranked:
        if sum(other.camera == one.camera for other in taken) < most:
            taken.append(one)
    left = [one for one in ranked if one not in taken[:number]]
    chosen = [*taken[:number], *left][:number]
    return tuple(sorted(chosen, key=ranked.index))

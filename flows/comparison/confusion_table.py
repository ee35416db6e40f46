"""Confusion of both models as tables: the matrices where they are small, and what is confused most in any case."""

from __future__ import annotations

from collections.abc import Sequence

from flows.comparison.confusion import Confusion
from flows.page import escape, folded, grid, matrix, table

_MOST_CLASSES = 12  # of a matrix that can still be read
_FEW = 5  # classes whose matrix is shown at once
_NUM_LISTED = 10
_NOTE = (
    "Rows: what is labelled. Columns: what was found there, at the served confidence and IoU .50. Last column: missed. "
    "Last row: found where nothing is labelled."
)


def confusion_section(classes: Sequence[str], challenger: Confusion, champion: Confusion | None) -> str:
    """What is confused most, both models side by side, then the matrices."""
    models = {"challenger": challenger} | ({} if champion is None else {"champion": champion})
    listed = _most_confused(challenger, champion)
    classes = [name for name in classes if any(name in (c.labelled, c.found) for m in models.values() for c in m.cells)]
    if len(classes) > _MOST_CLASSES:
        return listed
    headers = ["", *classes, "missed"]
    drawn = grid(f"<div><h3>{name}</h3>{matrix(headers, _rows(classes, one))}</div>" for name, one in models.items())
    note = f'<p class="note">{escape(_NOTE)}</p>'
    return listed + (note + drawn if len(classes) <= _FEW else folded("Confusion matrices", note + drawn))


def _rows(classes: Sequence[str], one: Confusion) -> dict[str, list[int]]:
    return dict(zip([*classes, "nothing labelled"], one.matrix(tuple(classes)), strict=True))


def _most_confused(challenger: Confusion, champion: Confusion | None) -> str:
    models = [challenger] + ([] if champion is None else [champion])
    cells = {(cell.labelled, cell.found) for one in models for cell in one.cells if cell.labelled != cell.found}
    counts = {cell: [one.count(*cell) for one in models] for cell in cells}
    order = sorted(cells, key=lambda cell: (-max(counts[cell]), _words(*cell)))[:_NUM_LISTED]
    if not order:
        return "<p>Every served box is right, and every labelled object is found.</p>"
    totals = [{name: sum(c.num for c in one.cells if c.labelled == name) for name, _ in order} for one in models]
    rows = [
        [
            _words(*cell),
            *(_counted(num, total[cell[0]], cell[0]) for num, total in zip(counts[cell], totals, strict=True)),
        ]
        for cell in order
    ]
    headers = ["", "challenger"] + ([] if champion is None else ["champion"])
    if champion is not None:
        headers.append("change")
        rows = [[*row, f"{counts[cell][0] - counts[cell][1]:+d}"] for row, cell in zip(rows, order, strict=True)]
    return table(headers, rows, "told")


def _words(labelled: str | None, found: str | None) -> str:
    if labelled is None:
        return f"{found} found where nothing is labelled"
    return f"{labelled} missed" if found is None else f"{labelled} taken for {found}"


def _counted(num: int, total: int, labelled: str | None) -> str:
    """Like `12 (8 % of them)`; nothing is no class that a share could be of."""
    return f"{num}" if labelled is None or not total else f"{num} ({100 * num / total:.0f} %)"

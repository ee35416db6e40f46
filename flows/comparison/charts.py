"""Inline SVG: a forest plot of differences with their intervals; readable in light and dark."""

from __future__ import annotations

from collections.abc import Sequence

from flows.comparison.gate import JudgedSlice, SliceState
from flows.comparison.resampling import Estimate, short
from flows.page import PALETTE, escape

_STATE_MARKS: dict[SliceState, tuple[str, str]] = {
    "non-inferior": (PALETTE[2], "circle"),
    "inconclusive": (PALETTE[1], "circle"),
    "failed": (PALETTE[5], "square"),
    "insufficient": (PALETTE[7], "ring"),
}
_WHOLE = "overall"
_ROW_PX, _LABEL_PX, _PLOT_PX, _FIGURE_PX = 22, 170, 340, 190


def forest_plot(overall: Estimate, wanted: float, slice_margin: float, parts: Sequence[JudgedSlice]) -> str:
    """Draw a row for the whole and each part: the difference, its interval; zero and the parts' margin as lines.

    The whole is to lie above `wanted`.
    """
    rows = [(_WHOLE, overall, _overall_state(overall, wanted))]
    for part in parts:
        if part.figure.difference is not None and part.state is not None:
            label = f"{part.figure.kind} {part.figure.name}"
            rows.append((label, part.figure.difference, part.state))
    return interval_plot(rows, -slice_margin)


def interval_plot(rows: Sequence[tuple[str, Estimate, SliceState]], wanted: float) -> str:
    """Draw a row for each figure: a name, a difference with its interval, what became of it; zero and `wanted`."""
    reach = _reach([estimate for _, estimate, _ in rows], wanted)
    height = _ROW_PX * len(rows) + 40
    drawn = "".join(_forest_row(index, *row, reach) for index, row in enumerate(rows))
    return (
        f'<svg viewBox="0 0 {_LABEL_PX + _PLOT_PX + _FIGURE_PX} {height}" width="700" role="img" font-size="12" '
        'aria-label="differences of mAP50-95 with intervals">'
        f"{_vertical(0.0, reach, height, '')}{_vertical(wanted, reach, height, '4 3')}{drawn}"
        f'<text x="{_x(0.0, reach) + 2:.1f}" y="{height - 8}"{_beside(0.0, wanted)}>0</text>'
        f'<text x="{_x(wanted, reach):.1f}" y="{height - 8}"{_beside(wanted, 0.0)}>{short(wanted)}</text>'
        f'<text x="{_LABEL_PX + _PLOT_PX}" y="{height - 8}" text-anchor="end">better →</text></svg>'
    )


def _beside(value: float, other: float) -> str:
    """Where the label of a line goes, so that it does not lie on that of the other."""
    return ' text-anchor="end"' if value < other else ""


def _overall_state(overall: Estimate, wanted: float) -> SliceState:
    if overall.lower is None or overall.upper is None:
        return "insufficient"
    if overall.upper < wanted:
        return "failed"
    return "non-inferior" if overall.lower > wanted else "inconclusive"


def _reach(estimates: Sequence[Estimate], wanted: float) -> float:
    """Half the width of the axis: all differences and whatever of their intervals is within reason."""
    points = [abs(one.value) for one in estimates if one.value is not None]
    ends = [abs(end) for one in estimates for end in (one.lower, one.upper) if end is not None]
    largest = max([*points, 2 * abs(wanted)])
    return 1.1 * max([largest, *(end for end in ends if end <= 3 * largest)])


def _x(value: float, reach: float) -> float:
    bounded = min(max(value, -reach), reach)
    return _LABEL_PX + _PLOT_PX * (bounded + reach) / (2 * reach)


def _vertical(value: float, reach: float, height: int, dashes: str) -> str:
    x = _x(value, reach)
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height - 24}" stroke="currentColor" stroke-opacity=".45" '
        f'stroke-dasharray="{dashes}"/>'
    )


def _forest_row(index: int, label: str, estimate: Estimate, state: SliceState, reach: float) -> str:
    y = 16 + _ROW_PX * index
    colour, shape = _STATE_MARKS[state]
    weight = ' font-weight="600"' if label == _WHOLE else ""
    title = f"<title>{escape(label)}: {state}</title>"
    parts = [f'<text x="0" y="{y + 4}"{weight}>{escape(label[:26])}{title}</text>']
    if estimate.lower is not None and estimate.upper is not None:
        low, high = _x(estimate.lower, reach), _x(estimate.upper, reach)
        parts.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2.5"/>')
    if estimate.value is not None:
        parts.append(_mark(shape, _x(estimate.value, reach), y, colour))
    figure = estimate.text(signed=True).replace(" (insufficient clusters)", " (–)")
    parts.append(f'<text x="{_LABEL_PX + _PLOT_PX + 10}" y="{y + 4}"{weight}>{escape(figure)}</text>')
    return "".join(parts)


def _mark(shape: str, x: float, y: float, colour: str) -> str:
    if shape == "square":
        return f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" fill="{colour}"/>'
    fill = "none" if shape == "ring" else colour
    return f'<circle cx="{x:.1f}" cy="{y}" r="4.5" fill="{fill}" stroke="{colour}" stroke-width="2"/>'

"""Inline SVG: a forest plot of differences, and precision-recall curves; readable in light and dark."""

from __future__ import annotations

from collections.abc import Sequence

from flows.comparison.gate import JudgedSlice, SliceState
from flows.comparison.report import Curve
from flows.comparison.resampling import Estimate, short
from flows.page import PALETTE, escape

_STATE_MARKS: dict[SliceState, tuple[str, str]] = {
    "non-inferior": (PALETTE[2], "circle"),
    "inconclusive": (PALETTE[1], "circle"),
    "failed": (PALETTE[5], "square"),
    "insufficient": (PALETTE[7], "ring"),
}
_ROW_PX, _LABEL_PX, _PLOT_PX, _FIGURE_PX = 22, 170, 340, 190


def forest_plot(overall: Estimate, margin: float, slice_margin: float, parts: Sequence[JudgedSlice]) -> str:
    """Draw a row for the whole and each part: the difference, its interval; zero and the margin as lines."""
    rows = [("overall", overall, _overall_state(overall, margin))]
    for part in parts:
        if part.figure.difference is not None and part.state is not None:
            label = f"{part.figure.kind} {part.figure.name}"
            rows.append((label, part.figure.difference, part.state))
    reach = _reach([estimate for _, estimate, _ in rows], slice_margin)
    height = _ROW_PX * len(rows) + 40
    drawn = "".join(_forest_row(index, *row, reach) for index, row in enumerate(rows))
    return (
        f'<svg viewBox="0 0 {_LABEL_PX + _PLOT_PX + _FIGURE_PX} {height}" width="700" role="img" font-size="12" '
        'aria-label="differences of mAP50-95 with intervals">'
        f"{_vertical(0.0, reach, height, '')}{_vertical(-slice_margin, reach, height, '4 3')}{drawn}"
        f'<text x="{_x(0.0, reach):.1f}" y="{height - 8}" text-anchor="middle">0</text>'
        f'<text x="{_x(-slice_margin, reach):.1f}" y="{height - 8}" text-anchor="middle">{short(-slice_margin)}</text>'
        f'<text x="{_LABEL_PX + _PLOT_PX}" y="{height - 8}" text-anchor="end">better →</text></svg>'
    )


def precision_recall_plot(curves: Sequence[Curve], title: str) -> str:
    """Precision over recall; the challenger's curve is solid, the champion's dashed."""
    side, left = 220, 36
    lines = "".join(_curve_line(curve, side, left) for curve in curves)
    ticks = "".join(
        f'<text x="{left + value * side:.0f}" y="{side + 26}" text-anchor="middle">{label}</text>'
        f'<text x="{left - 5}" y="{14 + (1 - value) * side:.0f}" text-anchor="end">{label}</text>'
        for value, label in ((0.0, "0"), (0.5, ".5"), (1.0, "1"))
    )
    return (
        f'<svg viewBox="0 0 {side + left + 10} {side + 60}" width="{side + left + 10}" role="img" font-size="11" '
        f'aria-label="precision over recall, {escape(title)}">'
        f'<rect x="{left}" y="10" width="{side}" height="{side}" fill="none" stroke="currentColor" '
        f'stroke-opacity=".35"/>{ticks}{lines}<text x="{left + side / 2}" y="{side + 44}" text-anchor="middle">'
        f"recall, {escape(title)}</text></svg>"
    )


def _overall_state(overall: Estimate, margin: float) -> SliceState:
    if overall.lower is None or overall.upper is None:
        return "insufficient"
    if overall.upper < -margin:
        return "failed"
    return "non-inferior" if overall.lower > -margin else "inconclusive"


def _reach(estimates: Sequence[Estimate], slice_margin: float) -> float:
    """Half the width of the axis: all differences and whatever of their intervals is within reason."""
    points = [abs(one.value) for one in estimates if one.value is not None]
    ends = [abs(end) for one in estimates for end in (one.lower, one.upper) if end is not None]
    largest = max([*points, 2 * slice_margin])
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
    weight = ' font-weight="600"' if index == 0 else ""
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


def _curve_line(curve: Curve, side: int, left: int) -> str:
    is_challenger = curve.model == "challenger"
    last = len(curve.precision) - 1
    points = " ".join(
        f"{left + side * index / last:.1f},{10 + side * (1 - value):.1f}" for index, value in enumerate(curve.precision)
    )
    dashes = "" if is_challenger else ' stroke-dasharray="5 3"'
    return (
        f'<polyline points="{points}" fill="none" stroke="{PALETTE[0] if is_challenger else PALETTE[1]}" '
        f'stroke-width="2"{dashes}><title>{escape(curve.model)}</title></polyline>'
    )

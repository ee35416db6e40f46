"""Inline SVG of what models do: precision over recall, calibration, latency, accuracy against latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flows.comparison.calibration import Calibration
from flows.comparison.engine_latency import EngineLatency, FrameTimes
from flows.comparison.report import Curve
from flows.page import PALETTE, escape

CHALLENGER, CHAMPION = PALETTE[0], PALETTE[1]
COLOURS = {"challenger": CHALLENGER, "champion": CHAMPION}
_SIDE, _LEFT, _TOP = 220, 40, 10
_ROW_PX, _NAME_PX, _PLOT_PX, _VALUE_PX = 26, 90, 380, 130
_LABEL_PX = 14
_FRAME = 'stroke="currentColor" stroke-opacity=".35"'
_Scale = Callable[[float], float]


@dataclass(frozen=True)
class ModelPoint:
    """One model on the plane of accuracy and latency, with its bounds."""

    name: str
    time: float  # of a frame: times the champion's, or ms where there is none
    time_upper: float | None
    accuracy: float
    accuracy_lower: float | None
    accuracy_upper: float | None
    colour: str
    is_champion: bool = False


def precision_recall_plot(curves: Sequence[Curve], title: str) -> str:
    """Precision over recall; the challenger's curve is solid, the champion's dashed."""
    lines = "".join(_curve_line(curve) for curve in curves)
    return _unit_square(lines, f"recall, {title}", "precision", f"precision over recall, {title}")


def calibration_plot(models: Mapping[str, Calibration]) -> str:
    """Share of right detections over their mean confidence, by bin; the larger a mark, the more detections."""
    diagonal = f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="currentColor" stroke-opacity=".4"/>'
    drawn = "".join(_calibration_marks(role, one) for role, one in models.items())
    return _unit_square(diagonal + drawn, "confidence", "right", "share of right detections over confidence")


def latency_plot(latency: EngineLatency, limit_ms: float | None) -> str:
    """Median and 95th percentile with its bound, a row for each model; the dashed line is the limit of the latter."""
    rows: list[tuple[str, FrameTimes]] = [("challenger", latency.challenger)]
    if latency.champion is not None:
        rows.append(("champion", latency.champion))
    ends = [one.p95_ms.upper or one.p95_ms.value or one.p50_ms for _, one in rows]
    limit_ms = limit_ms if limit_ms is not None and limit_ms < 4 * max(ends) else None  # further off it says little
    reach = 1.15 * max([*ends, limit_ms or 0.0])
    height = _ROW_PX * len(rows) + 34
    drawn = "".join(_latency_row(index, role, one, reach) for index, (role, one) in enumerate(rows))
    if limit_ms is not None:
        x = _NAME_PX + _PLOT_PX * limit_ms / reach
        drawn += (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height - 22}" stroke="currentColor" stroke-dasharray="4 3"/>'
            f'<text x="{x:.1f}" y="{height - 6}" text-anchor="middle">limit {limit_ms:g} ms</text>'
        )
    drawn += f'<text x="{_NAME_PX}" y="{height - 6}">0 ms</text>'
    return _svg(_NAME_PX + _PLOT_PX + _VALUE_PX, height, drawn, "time of a frame, median and 95th percentile")


def trade_off_plot(points: Sequence[ModelPoint], floor: float | None, title: str, below: str) -> str:
    """Accuracy with its bounds over the time of a frame; up and to the left is better.

    Args:
        floor: Accuracy that a model must stay above, drawn as a dashed line.
        below: What the axis of time says, with its unit.
    """
    width, height, left, bottom = 560, 300, 60, 46
    reach = 1.2 * max(point.time_upper or point.time for point in points)
    values = [v for p in points for v in (p.accuracy, p.accuracy_lower, p.accuracy_upper, floor) if v is not None]
    low, high = min(values), max(values)
    room = 0.1 * (high - low) or 0.01
    low, high = low - room, high + room

    def x(time: float) -> float:
        return left + (width - left - 10) * time / reach

    def y(value: float) -> float:
        return 10 + (height - bottom - 10) * (high - value) / (high - low)

    frame = (
        f'<rect x="{left}" y="10" width="{width - left - 10}" height="{height - bottom - 10}" fill="none" {_FRAME}/>'
    )
    ticks = "".join(
        f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3f}</text>' for value in (low, high)
    )
    ticks += "".join(
        f'<text x="{x(time):.1f}" y="{height - bottom + 16}" text-anchor="{anchor}">{_told(time)}</text>'
        for time, anchor in ((0.0, "start"), (reach / 2, "middle"), (reach, "end"))
    )
    line = ""
    if floor is not None:
        line = (
            f'<line x1="{left}" x2="{width - 10}" y1="{y(floor):.1f}" y2="{y(floor):.1f}" stroke="currentColor" '
            'stroke-opacity=".6" stroke-dasharray="4 3"/>'
        )
    heights = _label_heights(points, y)
    drawn = "".join(_point(point, label_y, x, y) for point, label_y in zip(points, heights, strict=True))
    names = (
        f'<text x="{left}" y="{height - 8}">{escape(below)}</text>'
        f'<text x="{width - 10}" y="{height - 8}" text-anchor="end">{escape(title)} upwards</text>'
    )
    return _svg(width, height, frame + ticks + line + drawn + names, f"{title} over the time of a frame")


def _point(point: ModelPoint, label_y: float, x: _Scale, y: _Scale) -> str:
    at_x, at_y = x(point.time), y(point.accuracy)
    parts = [f"<g><title>{escape(point.name)}: {point.accuracy:.3f}, {_told(point.time)}</title>"]
    if point.accuracy_lower is not None and point.accuracy_upper is not None:
        parts.append(_bar(at_x, at_x, y(point.accuracy_lower), y(point.accuracy_upper), point.colour))
    if point.time_upper is not None:
        parts.append(_bar(at_x, x(point.time_upper), at_y, at_y, point.colour))
    if point.is_champion:
        parts.append(f'<rect x="{at_x - 5:.1f}" y="{at_y - 5:.1f}" width="10" height="10" fill="{point.colour}"/>')
    else:
        parts.append(f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="5" fill="{point.colour}"/>')
    parts.append(f'<text x="{at_x + 9:.1f}" y="{label_y:.1f}">{escape(point.name[:24])}</text></g>')
    return "".join(parts)


def _told(time: float) -> str:
    return f"{time:.3g}" if time < 1000 else f"{time:.0f}"


def _label_heights(points: Sequence[ModelPoint], y: _Scale) -> list[float]:
    """Where the names go: beside their marks, moved down where they would lie on one another."""
    heights = [0.0] * len(points)
    last = -_LABEL_PX * 2.0
    for index in sorted(range(len(points)), key=lambda one: y(points[one].accuracy)):
        last = heights[index] = max(y(points[index].accuracy) - 7, last + _LABEL_PX)
    return heights


def _bar(x1: float, x2: float, y1: float, y2: float, colour: str) -> str:
    return (
        f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="2" '
        'stroke-opacity=".6"/>'
    )


def _unit_square(drawn: str, below: str, beside: str, label: str) -> str:
    ticks = "".join(
        f'<text x="{_x(value):.0f}" y="{_y(0) + 16:.0f}" text-anchor="middle">{text}</text>'
        f'<text x="{_LEFT - 5}" y="{_y(value) + 4:.0f}" text-anchor="end">{text}</text>'
        for value, text in ((0.0, "0"), (0.5, ".5"), (1.0, "1"))
    )
    frame = f'<rect x="{_LEFT}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" fill="none" {_FRAME}/>'
    names = (
        f'<text x="{_x(0.5):.0f}" y="{_y(0) + 34:.0f}" text-anchor="middle">{escape(below)}</text>'
        f'<text transform="translate(12 {_y(0.5):.0f}) rotate(-90)" text-anchor="middle">{escape(beside)}</text>'
    )
    return _svg(_SIDE + _LEFT + 10, _SIDE + _TOP + 40, frame + ticks + drawn + names, label)


def _svg(width: int, height: int, drawn: str, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" font-size="12" '
        f'aria-label="{escape(label)}">{drawn}</svg>'
    )


def _x(share: float) -> float:
    return _LEFT + share * _SIDE


def _y(share: float) -> float:
    return _TOP + (1 - share) * _SIDE


def _curve_line(curve: Curve) -> str:
    last = len(curve.precision) - 1
    points = " ".join(f"{_x(index / last):.1f},{_y(value):.1f}" for index, value in enumerate(curve.precision))
    return (
        f'<polyline points="{points}" fill="none" stroke="{COLOURS[curve.model]}" stroke-width="2"'
        f"{_dashes(curve.model)}><title>{escape(curve.model)}</title></polyline>"
    )


def _calibration_marks(role: str, calibration: Calibration) -> str:
    most = max((one.num for one in calibration.bins), default=1)
    places = [(_x(one.mean_confidence), _y(one.precision), one) for one in calibration.bins]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
    line = f'<polyline points="{points}" fill="none" stroke="{COLOURS[role]}" stroke-width="1.5"{_dashes(role)}/>'
    return line + "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2 + 5 * (one.num / most) ** 0.5:.1f}" fill="{COLOURS[role]}" '
        f'fill-opacity=".8"><title>{escape(role)}: confidence {one.lower:.1f} to {one.upper:.1f}, {one.num} '
        f"detections, {100 * one.precision:.0f} % right</title></circle>"
        for x, y, one in places
    )


def _dashes(role: str) -> str:
    return "" if role == "challenger" else ' stroke-dasharray="5 3"'


def _latency_row(index: int, role: str, times: FrameTimes, reach_ms: float) -> str:
    y, colour = 16 + _ROW_PX * index, COLOURS[role]

    def x(ms: float) -> float:
        return _NAME_PX + _PLOT_PX * min(ms / reach_ms, 1.0)

    parts = [f'<text x="0" y="{y + 4}">{escape(role)}</text>']
    high = times.p95_ms
    if high.value is not None:
        parts.append(_bar(x(times.p50_ms), x(high.value), y, y, colour))
        parts.append(f'<rect x="{x(high.value) - 4:.1f}" y="{y - 6}" width="8" height="12" fill="{colour}"/>')
    if high.upper is not None and high.value is not None:
        parts.append(f'<line x1="{x(high.value):.1f}" x2="{x(high.upper):.1f}" y1="{y}" y2="{y}" stroke="{colour}"/>')
        parts.append(
            f'<line x1="{x(high.upper):.1f}" x2="{x(high.upper):.1f}" y1="{y - 5}" y2="{y + 5}" stroke="{colour}"/>'
        )
    parts.append(f'<circle cx="{x(times.p50_ms):.1f}" cy="{y}" r="5" fill="{colour}"/>')
    text = f"{times.p50_ms:.3g} / {high.value:.3g} ms" if high.value is not None else f"{times.p50_ms:.3g} ms"
    parts.append(f'<text x="{_NAME_PX + _PLOT_PX + 10}" y="{y + 4}">{text}</text>')
    return "".join(parts)

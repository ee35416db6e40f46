"""Inline SVG of a study: history, curves, parallel coordinates, weights, Pareto front; readable in light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from flows.page import PALETTE, escape
from flows.training.search.report import LABELS, TrialRow, TuneReport, settled, told

BEST, COMPLETE, STOPPED, OTHER = PALETTE[2], PALETTE[0], PALETTE[1], PALETTE[7]
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 700, 280, 56, 24, 20, 40

Scale = Callable[[float], float]


def history_plot(report: TuneReport) -> str:
    """The first objective of each trial in the order they began, and the best of those before."""
    rows = [row for row in settled(report.trials) if report.objectives[0] in row.values]
    values = [row.values[report.objectives[0]] for row in rows]
    x = _linear(0, max((row.number for row in rows), default=1) or 1, _LEFT + 8, _WIDTH - _RIGHT)
    y = _vertical_scale(values)
    parts, best = [], -math.inf
    steps: list[tuple[float, float]] = []
    for row, value in zip(rows, values, strict=True):
        if row.state == "complete" and value > best:
            steps += [(x(row.number), y(best))] if steps else []
            best = value
            steps.append((x(row.number), y(best)))
        parts.append(_dot(x(row.number), y(value), row, f"trial {row.number}: {told(value)} ({row.state})"))
    if steps:
        steps.append((_WIDTH - _RIGHT, y(best)))
    line = _polyline(steps, BEST, 2) + _x_ticks(rows[-1].number if rows else 0, 0, x)
    return _frame("best value by trial", line + "".join(parts) + _y_ticks(values, y), "trial →", _label(report))


def curves_plot(report: TuneReport) -> str:
    """The first objective after each epoch, a line a trial; those stopped early end early."""
    rows = [row for row in settled(report.trials) if row.curve]
    values = [value for row in rows for _, value in row.curve if math.isfinite(value)]
    last = max((row.curve[-1][0] for row in rows), default=1)
    x, y = _linear(1, max(last, 2), _LEFT + 8, _WIDTH - _RIGHT), _vertical_scale(values)
    order = sorted(rows, key=lambda row: (row.number == report.best_number, row.state == "complete"))
    lines = []
    for row in order:
        points = [(x(epoch), y(value)) for epoch, value in row.curve if math.isfinite(value)]
        width = 3 if row.number == report.best_number else 1.2
        title = (
            f"trial {row.number}, {row.state}: {', '.join(f'{key} {told(value)}' for key, value in row.params.items())}"
        )
        lines.append(_polyline(points, _colour(row, report), width, title))
        if points and row.state == "pruned":
            lines.append(f'<circle cx="{points[-1][0]:.1f}" cy="{points[-1][1]:.1f}" r="3" fill="{STOPPED}"/>')
    ticks = _x_ticks(last, 1, x)
    return _frame("value after each epoch", "".join(lines) + ticks + _y_ticks(values, y), "epoch →", _label(report))


def parallel_plot(report: TuneReport, space: dict[str, Any]) -> str:
    """Each trial a line through its values, the objective last; what a trial did not search it passes below."""
    first = report.objectives[0]
    rows = [row for row in settled(report.trials) if first in row.values]
    axes = [(key, _axis(space[key])) for key in space]
    values = [row.values[first] for row in rows]
    to_y = _linear(min(values, default=0), max(values, default=1), _HEIGHT - 58, 34)
    width = max(_WIDTH, 120 * len(axes) + 140)
    xs = [60 + (width - 130) * index / len(axes) for index in range(len(axes) + 1)]
    parts = []
    for row in sorted(rows, key=lambda row: (row.number == report.best_number, row.values[first])):
        heights = [scale(row.params[key]) if key in row.params else _HEIGHT - 34 for key, scale in axes]
        points = list(zip(xs, [*heights, to_y(row.values[first])], strict=True))
        stroke = 3 if row.number == report.best_number else 1.2
        parts.append(_polyline(points, _colour(row, report), stroke, f"trial {row.number}: {told(row.values[first])}"))
    names = [*space, LABELS[first]]
    ends = [*(_ends(space[key]) for key in space), (told(min(values, default=0.0)), told(max(values, default=0.0)))]
    for place, name, (low, high) in zip(xs, names, ends, strict=True):
        parts.append(
            f'<line x1="{place:.1f}" x2="{place:.1f}" y1="34" y2="{_HEIGHT - 58}" stroke="currentColor" '
            f'stroke-opacity=".5"/>{_centred(place, 12, name, True)}'
            f"{_centred(place, 27, high)}{_centred(place, _HEIGHT - 42, low)}"
        )
    return _svg("parallel coordinates of the trials", "".join(parts), width, _HEIGHT - 20)


def importance_plot(shares: dict[str, float]) -> str:
    """A bar for each key, the weightiest first."""
    rows = []
    for index, (key, share) in enumerate(sorted(shares.items(), key=lambda item: -item[1])):
        y = 8 + 26 * index
        rows.append(
            f'<text x="180" y="{y + 13}" text-anchor="end">{escape(key)}</text>'
            f'<rect x="190" y="{y}" width="{max(1.0, 420 * share):.1f}" height="18" fill="{COMPLETE}"/>'
            f'<text x="{198 + 420 * share:.1f}" y="{y + 13}">{share:.0%}</text>'
        )
    return _svg("weight of each parameter", "".join(rows), _WIDTH, 26 * len(shares) + 14)


def front_plot(report: TuneReport) -> str:
    """Accuracy over latency; the line joins the trials that no other beats in both."""
    first, second = report.objectives[:2]
    rows = [row for row in settled(report.trials) if row.state == "complete"]
    xs, ys = [row.values[second] for row in rows], [row.values[first] for row in rows]
    low, high = min(xs, default=0.0), max(xs, default=1.0)
    margin = 0.08 * (high - low or high or 1.0)
    x, y = _linear(low - margin, high + margin, _LEFT + 8, _WIDTH - _RIGHT), _vertical_scale(ys)
    front = sorted((row for row in rows if row.number in report.front), key=lambda row: row.values[second])
    line = _polyline([(x(row.values[second]), y(row.values[first])) for row in front], BEST, 2)
    dots = []
    for row in rows:
        place = (x(row.values[second]), y(row.values[first]))
        is_front = row.number in report.front
        title = f"trial {row.number}: {told(row.values[first])}, {told(row.values[second])} ms"
        colour, radius = (BEST, 5) if is_front else (OTHER, 3.5)
        centre = f'cx="{place[0]:.1f}" cy="{place[1]:.1f}"'
        dots.append(f'<circle {centre} r="{radius}" fill="{colour}"><title>{title}</title></circle>')
        if is_front:
            dots.append(f'<text x="{place[0] + 8:.1f}" y="{place[1] + 4:.1f}">{row.number}</text>')
    ticks = "".join(
        _centred(x(value), _HEIGHT - _BOTTOM + 16, told(value)) for value in _ticks(low - margin, high + margin)
    )
    return _frame("Pareto front", line + "".join(dots) + ticks + _y_ticks(ys, y), "latency, ms →", _label(report))


def _axis(searched: dict[str, Any]) -> Callable[[Any], float]:
    bottom, top = _HEIGHT - 58, 34
    if "choices" in searched:
        names = [str(choice) for choice in searched["choices"]]
        return lambda value: _linear(0, max(1, len(names) - 1), bottom, top)(names.index(str(value)))
    if searched["log"]:
        log = _linear(math.log(searched["low"]), math.log(searched["high"]), bottom, top)
        return lambda value: log(math.log(value))
    return _linear(searched["low"], searched["high"], bottom, top)


def _ends(searched: dict[str, Any]) -> tuple[str, str]:
    if "choices" in searched:
        return str(searched["choices"][0]), str(searched["choices"][-1]) if len(searched["choices"]) > 1 else ""
    return told(searched["low"]), told(searched["high"]) + (" (log)" if searched["log"] else "")


def _colour(row: TrialRow, report: TuneReport) -> str:
    if row.number == report.best_number:
        return BEST
    return {"complete": COMPLETE, "pruned": STOPPED}.get(row.state, OTHER)


def _dot(x: float, y: float, row: TrialRow, title: str) -> str:
    if row.state == "complete":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COMPLETE}"><title>{escape(title)}</title></circle>'
    return (
        f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" fill="{STOPPED}">'
        f"<title>{escape(title)}</title></rect>"
    )


def _centred(x: float, y: float, text: str, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y}" text-anchor="middle"{weight}>{escape(text)}</text>'


def _polyline(points: Sequence[tuple[float, float]], colour: str, width: float, title: str = "") -> str:
    if len(points) < 2:
        return ""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    inner = f"<title>{escape(title)}</title>" if title else ""
    opacity = "" if width > 1.5 else ' stroke-opacity=".7"'
    return (
        f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="{width}"{opacity}>{inner}</polyline>'
    )


def _linear(low: float, high: float, start: float, end: float) -> Scale:
    span = (high - low) or 1.0
    return lambda value: start + (end - start) * (value - low) / span


def _vertical_scale(values: Sequence[float]) -> Scale:
    low, high = _bounds(values)
    return _linear(low, high, _HEIGHT - _BOTTOM, _TOP)


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    raw = (high - low) / 4
    step = 10 ** math.floor(math.log10(raw))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= raw)
    first = math.ceil(low / step)
    found = []
    while (value := first * step) <= high:
        found.append(round(value, 12))
        first += 1
    return found


def _y_ticks(values: Sequence[float], y: Scale) -> str:
    places = [(value, y(value)) for value in _ticks(*_bounds(values))]
    return "".join(
        f'<text x="{_LEFT - 6}" y="{place + 4:.1f}" text-anchor="end">{value:g}</text>'
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{place:.1f}" y2="{place:.1f}" stroke="currentColor" '
        'stroke-opacity=".12"/>'
        for value, place in places
    )


def _x_ticks(last: int, first: int, x: Scale) -> str:
    return "".join(
        _centred(x(number), _HEIGHT - _BOTTOM + 16, str(number)) for number in range(first, last + 1, last // 10 or 1)
    )


def _label(report: TuneReport) -> str:
    return LABELS[report.objectives[0]]


def _frame(title: str, inner: str, x_label: str, y_label: str) -> str:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    axes = f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="currentColor" stroke-opacity=".35"/>'
    labels = (
        f'<text x="{right}" y="{_HEIGHT - 6}" text-anchor="end">{escape(x_label)}</text>'
        f'<text x="{_LEFT - 50}" y="{_TOP - 7}">{escape(y_label)}</text>'
    )
    return _svg(title, axes + inner + labels, _WIDTH, _HEIGHT)


def _svg(title: str, inner: str, width: int, height: int) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" font-size="12" aria-label="{escape(title)}">'
        f"{inner}</svg>"
    )

"""The curves of a training as small charts: inline SVG, 320 px wide, so that they stay legible in a narrow window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from flows.page import PALETTE, escape, figure, grid
from flows.training.epochs import EpochMetrics

_WIDTH, _LEFT, _RIGHT, _TOP, _PLOT, _BOTTOM = 320, 44, 10, 20, 128, 34
_TICKS = 4
_MARK_PX = 4
_NOUGHT_IS_UNKNOWN = ("wait", "process")


@dataclass(frozen=True)
class Line:
    """One figure over the epochs; null where it was not measured."""

    name: str
    values: tuple[float | None, ...]
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Figures that share an axis, and in words what they are."""

    title: str
    lines: tuple[Line, ...]
    from_zero: bool = True


@dataclass(frozen=True)
class Moments:
    """Epochs that stand out; None: there is no such."""

    best: int | None = None
    went_on_in: tuple[int, ...] = ()


def curve_grid(epochs: Sequence[EpochMetrics], moments: Moments) -> str:
    """All charts side by side, each with its legend: the value at the best epoch stands beside each name."""
    numbers = [epoch.epoch for epoch in epochs]
    return grid(_chart_figure(chart, numbers, moments) for chart in charts_of(epochs))


def charts_of(epochs: Sequence[EpochMetrics]) -> list[Chart]:
    """What was measured: a chart per kind of loss, accuracy, learning rate, and what the training took."""
    found = [_loss_chart(kind, epochs) for kind in _loss_kinds(epochs)]
    found.append(Chart("Accuracy on val", _accuracy_lines(epochs)))
    found.append(
        Chart(
            "Precision and recall on val, at the confidence of the best F1",
            (_line("precision", epochs), _line("recall", epochs, dashed=True)),
        )
    )
    found.append(Chart("Learning rate at the end of the epoch", (_line("learning_rate", epochs, "learning rate"),)))
    found.append(Chart("Training images a second", (_line("images_per_s", epochs, "images/s"),)))
    found.append(Chart("Share of the training time spent waiting for frames", (_line("wait_share", epochs, "wait"),)))
    found.append(
        Chart(
            "Memory, GB",
            (_line("memory_gb", epochs, "process"), _line("gpu_memory_gb", epochs, "GPU", dashed=True)),
        )
    )
    found.append(Chart("Share of the epoch the GPU was busy", (_line("gpu_use", epochs, "GPU use"),)))
    return [kept for chart in found if (kept := _measured(chart)).lines]


def curve_svg(chart: Chart, epochs: Sequence[int], moments: Moments) -> str:
    """One chart: lines over the epochs, the best one marked by a stroke and rings, interruptions by dotted strokes.

    `epochs` are the numbers of the epochs, as many as each line has values.
    """
    values = [value for line in chart.lines for value in line.values if _is_number(value)]
    low, high = _range(values, chart.from_zero)
    ticks = nice_ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    first, last = (epochs[0], epochs[-1]) if epochs else (1, 1)

    def x(epoch: float) -> float:
        share = (epoch - first) / (last - first) if last > first else 0.5
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * _PLOT

    shapes = [_y_tick(y(tick), _text(tick, ticks)) for tick in ticks]
    shapes += [_x_tick(x(epoch), epoch) for epoch in epoch_ticks(first, last)]
    shapes += [_vertical(x(epoch - 0.5), "1 3", "resumed") for epoch in moments.went_on_in if first < epoch <= last]
    if moments.best is not None and first <= moments.best <= last:
        shapes.append(_vertical(x(moments.best), "", f"best: {moments.best}"))
    for index, line in enumerate(chart.lines):
        points = [
            (x(epoch), y(value) if _is_number(value) else None)
            for epoch, value in zip(epochs, line.values, strict=True)
        ]
        shapes += _drawn_line(line, points, PALETTE[index % len(PALETTE)])
        shapes += [
            _ring(across, up, PALETTE[index % len(PALETTE)])
            for epoch, (across, up) in zip(epochs, points, strict=True)
            if epoch == moments.best and up is not None
        ]
    height = _TOP + _PLOT + _BOTTOM
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img" font-size="11" '
        f'aria-label="{escape(chart.title)} by epoch">{"".join(shapes)}'
        f'<text x="{_WIDTH - _RIGHT}" y="{height - 3}" text-anchor="end">epoch</text></svg>'
    )


def nice_ticks(low: float, high: float, about: int = _TICKS) -> list[float]:
    """About so many round values that enclose `low` to `high`: steps of 1, 2 or 5 times a power of ten.

    Source: Heckbert, "Nice numbers for graph labels", Graphics Gems, 1990.
    """
    span = high - low
    if span <= 1e-12 + 1e-9 * max(abs(low), abs(high)):  # one value, or what floats hardly tell apart
        span = abs(high) if abs(high) > 1e-12 else 1.0
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 5, 10) if raw <= factor * power * (1 + 1e-9))
    start, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(start, max(end, start + 1) + 1)]


def epoch_ticks(first: int, last: int) -> list[int]:
    """At most seven epochs to name on the axis, evenly spaced, the first among them."""
    step = next(size for size in _whole_steps() if (last - first) // size < 6)
    found = [
        epoch for epoch in range(first, last + 1) if epoch == first or (epoch % step == 0 and epoch - first >= step / 2)
    ]
    return found


def _whole_steps() -> Sequence[int]:
    return [factor * 10**power for power in range(7) for factor in (1, 2, 5)]


def _loss_kinds(epochs: Sequence[EpochMetrics]) -> list[str]:
    names = [name for epoch in epochs for name in epoch.losses]
    return list(dict.fromkeys(name.split("_", 1)[-1] for name in names))


def _loss_chart(kind: str, epochs: Sequence[EpochMetrics]) -> Chart:
    lines = [
        Line(split, tuple(epoch.losses.get(f"{split}_{kind}") for epoch in epochs), dashed=split == "val")
        for split in ("train", "val")
    ]
    title = "Loss" if kind == "loss" else f"Loss: {kind.removesuffix('_loss').replace('_', ' ')}"
    return Chart(title, tuple(lines), from_zero=False)


def _accuracy_lines(epochs: Sequence[EpochMetrics]) -> tuple[Line, ...]:
    lines = [_line("map50_95", epochs, "mAP50-95"), _line("map50", epochs, "mAP50", dashed=True)]
    if any(epoch.score != epoch.map50_95 for epoch in epochs):  # another task than detection has a score of its own
        lines.insert(0, _line("score", epochs))
    return tuple(line for line in lines if line.name == "score" or any(line.values) or len(lines) == 2)


def _line(field: str, epochs: Sequence[EpochMetrics], name: str = "", dashed: bool = False) -> Line:
    return Line(name or field, tuple(getattr(epoch, field) for epoch in epochs), dashed)


def _measured(chart: Chart) -> Chart:
    """Without the lines that were not measured: no value at all, or nothing but the nought that stands for it."""
    kept = tuple(
        line
        for line in chart.lines
        if any(map(_is_number, line.values)) and (any(line.values) or line.name not in _NOUGHT_IS_UNKNOWN)
    )
    return Chart(chart.title, kept, chart.from_zero)


def _is_number(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _range(values: Sequence[float], from_zero: bool) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    low = min(low, 0.0) if from_zero else low
    return (low, high) if high > low else (low, low + (abs(low) or 1.0))


def _chart_figure(chart: Chart, numbers: Sequence[int], moments: Moments) -> str:
    colours = {
        _named(line, numbers, moments.best): PALETTE[index % len(PALETTE)] for index, line in enumerate(chart.lines)
    }
    return figure(curve_svg(chart, numbers, moments), chart.title, colours)


def _named(line: Line, numbers: Sequence[int], best: int | None) -> str:
    """The name with the value at the best epoch, or with the last one."""
    at = numbers.index(best) if best in numbers else len(numbers) - 1
    value = line.values[at] if line.values else None
    dashed = " (dashed)" if line.dashed else ""
    return f"{line.name}{dashed} {short_number(value)}"


def short_number(value: float | None) -> str:
    """Three significant digits; a dash for nothing, words for what is no number any more."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not finite"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _text(tick: float, ticks: Sequence[float]) -> str:
    """As many decimals as the step between ticks needs, so that all of an axis have the same."""
    step = ticks[1] - ticks[0]
    if step < 1e-4:
        return f"{tick:.0e}" if tick else "0"
    return f"{tick:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def _y_tick(y: float, text: str) -> str:
    return (
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" '
        'stroke-opacity=".15"/>'
    )


def _x_tick(x: float, epoch: int) -> str:
    bottom = _TOP + _PLOT
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}" stroke="currentColor" stroke-opacity=".5"/>'
        f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{epoch}</text>'
    )


def _vertical(x: float, dashes: str, label: str) -> str:
    anchor = "end" if x > _WIDTH * 0.6 else "start" if x < _WIDTH * 0.3 else "middle"
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 4}" y2="{_TOP + _PLOT}" stroke="currentColor" '
        f'stroke-opacity=".5" stroke-dasharray="{dashes}"/>'
        f'<text x="{x:.1f}" y="{_TOP - 8}" text-anchor="{anchor}" font-size="10">{escape(label)}</text>'
    )


def _drawn_line(line: Line, points: Sequence[tuple[float, float | None]], colour: str) -> list[str]:
    """Pieces between values that were measured; a piece of one value is a dot."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for across, up in points:
        if up is None:
            pieces.append([])
        else:
            pieces[-1].append((across, up))
    dashes = ' stroke-dasharray="5 3"' if line.dashed else ""
    return [
        f'<polyline points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in piece)}" fill="none" stroke="{colour}" '
        f'stroke-width="2"{dashes}/>'
        if len(piece) > 1
        else f'<circle cx="{piece[0][0]:.1f}" cy="{piece[0][1]:.1f}" r="3" fill="{colour}"/>'
        for piece in pieces
        if piece
    ]


def _ring(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_MARK_PX}" fill="none" stroke="{colour}" stroke-width="2"/>'

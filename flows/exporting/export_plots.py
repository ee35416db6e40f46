"""Inline SVG: speed against loss of accuracy, and time by batch size; readable in light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from flows.exporting.accuracy import Loss, short
from flows.exporting.report import CandidateReport, ChoiceRule, State
from flows.page import PALETTE, escape

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 700, 300, 60, 150, 16, 46
_LABEL_PX = 14
_MARKS: dict[State, tuple[str, str]] = {
    "chosen": (PALETTE[2], "circle"),
    "admitted": (PALETTE[0], "circle"),
    "refused": (PALETTE[5], "square"),
}


def speed_plot(candidates: Sequence[CandidateReport], rule: ChoiceRule) -> str:
    """Images a second over what is lost, each with its interval; the line is what may be lost at the upper end."""
    shown = [one for one in candidates if one.accuracy.loss.value is not None]
    low, high = _loss_range([one.accuracy.loss for one in shown], rule.max_loss)
    top = 1.1 * max((one.images_per_s for one in shown), default=1.0)

    def x(loss: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (min(max(loss, low), high) - low) / (high - low)

    places = [_y(one.images_per_s, top) for one in shown]
    marks = [_point(one, x, place, label) for one, place, label in zip(shown, places, _spread(places), strict=True)]
    limits = _vertical(x(0.0), "", "0") + _vertical(x(rule.max_loss), "4 3", f"allowed {short(rule.max_loss)}")
    title = "images a second over the loss of mAP50-95 against PyTorch"
    return _frame(title, limits + _y_ticks(top) + "".join(marks), "loss of mAP50-95 →", "images/s")


def latency_plot(candidates: Sequence[CandidateReport], rule: ChoiceRule) -> str:
    """Median time of a call over the batch size; the line is the latency budget where it lies in sight."""
    times = [row.p50_ms for one in candidates for row in one.speed.latency]
    batches = sorted({row.batch for one in candidates for row in one.speed.latency})
    top = 1.1 * max(times, default=1.0)
    span = max(math.log2(max(batches, default=1)), 1.0)

    def x(batch: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * math.log2(batch) / span

    ends = [_y(one.speed.latency[-1].p50_ms, top) for one in candidates]
    lines = []
    for index, (one, label) in enumerate(zip(candidates, _spread(ends), strict=True)):
        colour = PALETTE[index % len(PALETTE)]
        points = " ".join(f"{x(row.batch):.1f},{_y(row.p50_ms, top):.1f}" for row in one.speed.latency)
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{_WIDTH - _RIGHT + 8}" y="{label + 4:.1f}">{_swatch(colour)}'
            f"{escape(one.name)}</text>"
        )
    ticks = "".join(
        f'<text x="{x(batch):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{batch}</text>'
        for batch in batches
    )
    budget = rule.latency_budget_ms
    line = ""
    if budget < top:
        y = _y(budget, top)
        line = (
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" '
            f'stroke-opacity=".45" stroke-dasharray="4 3"/>'
        )
    title = "median time of a call by batch size"
    return _frame(title, ticks + _y_ticks(top) + line + "".join(lines), "images a call", "ms")


def _loss_range(losses: Sequence[Loss], max_loss: float) -> tuple[float, float]:
    """The axis: every loss, zero, what is allowed, and of the intervals whatever is within reason."""
    values = [0.0, max_loss, *(loss.value for loss in losses if loss.value is not None)]
    reach = max(0.002, *map(abs, values))
    ends = [end for loss in losses for end in (loss.lower, loss.upper) if end is not None and abs(end) <= 4 * reach]
    low, high = min([*values, *ends]), max([*values, *ends])
    margin = 0.08 * (high - low or reach)
    return low - margin, high + margin


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * value / top


def _spread(places: Sequence[float]) -> list[float]:
    """Heights for labels near `places` that do not cover one another."""
    labels = list(places)
    order = sorted(range(len(places)), key=lambda index: places[index])
    for before, index in pairwise(order):
        labels[index] = max(labels[index], labels[before] + _LABEL_PX)
    return labels


def _point(one: CandidateReport, x: Callable[[float], float], place: float, label: float) -> str:
    loss = one.accuracy.loss
    assert loss.value is not None
    colour, shape = _MARKS[one.state]
    centre = x(loss.value)
    parts = [f"<title>{escape(one.reason)}</title>"]
    right = centre
    if loss.lower is not None and loss.upper is not None:
        right = x(loss.upper)
        parts.append(
            f'<line x1="{x(loss.lower):.1f}" x2="{right:.1f}" y1="{place:.1f}" y2="{place:.1f}" stroke="{colour}" '
            'stroke-width="2.5"/>'
        )
    if shape == "square":
        parts.append(f'<rect x="{centre - 5:.1f}" y="{place - 5:.1f}" width="10" height="10" fill="{colour}"/>')
    else:
        parts.append(f'<circle cx="{centre:.1f}" cy="{place:.1f}" r="5" fill="{colour}"/>')
    weight = ' font-weight="600"' if one.state == "chosen" else ""
    parts.append(f'<text x="{right + 9:.1f}" y="{label + 4:.1f}"{weight}>{escape(one.name)}</text>')
    return f"<g>{''.join(parts)}</g>"


def _vertical(x: float, dashes: str, label: str) -> str:
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" stroke="currentColor" '
        f'stroke-opacity=".45" stroke-dasharray="{dashes}"/>'
        f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{escape(label)}</text>'
    )


def _y_ticks(top: float) -> str:
    step = 10 ** math.floor(math.log10(top))
    step = step / 2 if top / step < 2.5 else step
    values = [step * index for index in range(1, int(top / step) + 1)]
    return "".join(
        f'<text x="{_LEFT - 8}" y="{_y(value, top) + 4:.1f}" text-anchor="end">{value:g}</text>'
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_y(value, top):.1f}" y2="{_y(value, top):.1f}" '
        'stroke="currentColor" stroke-opacity=".12"/>'
        for value in values
    )


def _swatch(colour: str) -> str:
    return f'<tspan fill="{colour}" style="fill:{colour}">■ </tspan>'


def _frame(title: str, inner: str, x_label: str, y_label: str) -> str:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" font-size="12" '
        f'aria-label="{escape(title)}">'
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="currentColor" stroke-opacity=".35"/>{inner}'
        f'<text x="{right}" y="{_HEIGHT - 8}" text-anchor="end">{escape(x_label)}</text>'
        f'<text x="{_LEFT + 6}" y="{_TOP + 4}">{escape(y_label)}</text></svg>'
    )

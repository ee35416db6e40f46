"""Inline SVG of a promotion: evidence, latency and share of cameras, each over the states as coloured bands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from flows.page import PALETTE, escape
from flows.rollout.curves import Band, Curve, LatencyWindow

STATE_COLOURS = {
    "SHADOW": PALETTE[4],
    "CANARY": PALETTE[1],
    "BAKE": PALETTE[2],
    "HOLD": PALETTE[7],
    "ROLLING_BACK": PALETTE[5],
}
OTHER_COLOUR = "none"
CHALLENGER, CHAMPION = "var(--tint)", PALETTE[3]
_LEFT, _TOP, _BOTTOM = 44, 18, 34
_LOWEST_LN_E = -8.0

ToPx = Callable[[float], float]


def evidence_plot(curve: Curve, bands: Sequence[Band], end_num: int) -> str:
    """Evidence (ln E) over the frames judged, with the limit from which it decides as a dashed line."""
    width, height = 340, 190
    highest = max([curve.needed_ln_e, *curve.ln_es]) * 1.15
    lowest = max(_LOWEST_LN_E, min([-1.0, *curve.ln_es]))
    x, y = _scale(0, max(1, end_num), _LEFT, width - 8), _scale(lowest, highest, height - _BOTTOM, _TOP)
    shown = [(x(num), y(max(lowest, ln_e))) for num, ln_e in zip((0, *curve.nums), (0.0, *curve.ln_es), strict=True)]
    needed = y(curve.needed_ln_e)
    decided = curve.ln_es[-1] >= curve.needed_ln_e
    certifies = curve.metric == "error certificate"
    meaning = "enough" if certifies else "harm"
    parts = [
        _bands(bands, lambda band: (x(band.began_num), x(band.ended_num)), height),
        _line([(_LEFT, y(0)), (width - 8, y(0))], "currentColor", 1, opacity=0.3),
        _line([(_LEFT, needed), (width - 8, needed)], PALETTE[2] if certifies else PALETTE[5], 1.5, "6 4"),
        f'<text x="{width - 10}" y="{needed - 4:.1f}" text-anchor="end">{meaning} at {curve.needed_ln_e:.1f}</text>',
        _line(shown, CHALLENGER, 2),
        f'<circle cx="{shown[-1][0]:.1f}" cy="{shown[-1][1]:.1f}" r="3.5" style="fill:{CHALLENGER}"/>'
        if decided
        else "",
        _ticks_y([(y(lowest), f"{'≤ ' if min(curve.ln_es) < lowest else ''}{lowest:.0f}"), (y(0), "0")]),
        _ticks_x([(x(num), f"{num:,}") for num in (0, end_num)], height),
        f'<text x="{_LEFT + (width - _LEFT) / 2:.0f}" y="{height - 6}" text-anchor="middle">frames judged</text>',
    ]
    return _svg(width, height, f"ln E of {curve.metric} over the frames judged", parts)


def latency_plot(windows: Sequence[LatencyWindow], bands: Sequence[Band], budget_ms: float) -> str:
    """Median (thin) and 95th percentile (thick) of both arms over the frames judged, and the budget as a line."""
    width, height = 700, 230
    end = max(1, windows[-1].num)
    highs = [arm[1] for one in windows for arm in (one.challenger_ms, one.champion_ms) if arm]
    highest = 1.15 * max([budget_ms, *highs])
    x, y = _scale(0, end, _LEFT, width - 8), _scale(0, highest, height - _BOTTOM, _TOP)
    parts = [
        _bands(bands, lambda band: (x(band.began_num), x(band.ended_num)), height),
        _line([(_LEFT, y(budget_ms)), (width - 8, y(budget_ms))], PALETTE[5], 1.5, "6 4"),
        f'<text x="{width - 10}" y="{y(budget_ms) - 4:.1f}" text-anchor="end">budget {budget_ms:g} ms</text>',
    ]
    for colour, arm_of in ((CHAMPION, _champion_ms), (CHALLENGER, _challenger_ms)):
        arms = [(one.num, arm) for one in windows if (arm := arm_of(one))]
        for index, stroke in ((0, 1.2), (1, 2.4)):
            parts.append(_line([(x(num), y(arm[index])) for num, arm in arms], colour, stroke))
    parts += [
        _ticks_y(
            [
                (y(value), f"{value:.0f}")
                for value in (0.0, budget_ms, max(highs))
                if value != max(highs) or abs(value - budget_ms) > 0.1 * highest
            ]
        ),
        _ticks_x([(x(num), f"{num:,}") for num in (0, end)], height),
        f'<text x="{width / 2:.0f}" y="{height - 6}" text-anchor="middle">frames judged</text>',
    ]
    return _svg(width, height, "latency in ms over the frames judged", parts)


def share_plot(shares: Sequence[tuple[float, float]], bands: Sequence[Band]) -> str:
    """The share of cameras that the challenger answered, over time; each share counts from its time on."""
    width, height = 700, 150
    end_s = max(1.0, bands[-1].ended_s)
    x, y = _scale(0, end_s, _LEFT, width - 8), _scale(0, 1, height - _BOTTOM, _TOP)
    ends_s = [at_s for at_s, _ in shares[1:]] + [end_s]
    steps = [(x(s), y(share)) for (at_s, share), until_s in zip(shares, ends_s, strict=True) for s in (at_s, until_s)]
    parts = [
        _bands(bands, lambda band: (x(band.began_s), x(band.ended_s)), height),
        _line(steps, CHALLENGER, 2.4),
        _ticks_y([(y(share), f"{share:.0%}") for share in (0.0, 0.5, 1.0)]),
        _ticks_x([(x(0), "0 s"), (x(end_s), _clock(end_s))], height),
        f'<text x="{width / 2:.0f}" y="{height - 6}" text-anchor="middle">time since it was opened</text>',
    ]
    return _svg(width, height, "share of cameras that the challenger answered, over time", parts)


def colour_of(band: Band) -> str:
    """The colour of a state; the steps of a canary share one."""
    return STATE_COLOURS.get(band.state.partition(" ")[0], OTHER_COLOUR)


def _challenger_ms(window: LatencyWindow) -> tuple[float, float] | None:
    return window.challenger_ms


def _champion_ms(window: LatencyWindow) -> tuple[float, float] | None:
    return window.champion_ms


def _scale(low: float, high: float, low_px: float, high_px: float) -> ToPx:
    span = (high - low) or 1.0
    return lambda value: low_px + (value - low) / span * (high_px - low_px)


def _bands(bands: Iterable[Band], ends_px: Callable[[Band], tuple[float, float]], height: int) -> str:
    drawn = []
    for band in bands:
        (left, right), colour = ends_px(band), colour_of(band)
        if colour != OTHER_COLOUR and right > left:
            drawn.append(
                f'<rect x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" height="{height - _BOTTOM - _TOP}" '
                f'fill="{colour}" fill-opacity=".2"><title>{escape(band.state)}</title></rect>'
                f'<line x1="{left:.1f}" x2="{left:.1f}" y1="{_TOP}" y2="{height - _BOTTOM}" stroke="{colour}"/>'
            )
    return "".join(drawn)


def _line(
    points: Sequence[tuple[float, float]], colour: str, width: float, dashes: str = "", opacity: float = 1
) -> str:
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<polyline points="{text}" fill="none" style="stroke:{colour}" stroke-width="{width}" '
        f'stroke-dasharray="{dashes}" stroke-opacity="{opacity}" stroke-linejoin="round"/>'
    )


def _ticks_y(ticks: Iterable[tuple[float, str]]) -> str:
    return "".join(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>' for y, text in ticks)


def _ticks_x(ticks: Sequence[tuple[float, str]], height: int) -> str:
    ends = ("start", "end")
    return "".join(
        f'<text x="{x:.1f}" y="{height - 20}" text-anchor="{ends[min(index, 1)]}">{text}</text>'
        for index, (x, text) in enumerate(ticks)
    )


def _svg(width: int, height: int, label: str, parts: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" font-size="11" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _clock(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

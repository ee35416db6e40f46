"""Small charts as inline SVG, 320 px wide so that they stay legible in a narrow window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from flows.page import PALETTE, escape

Floats = npt.NDArray[np.float64]

WIDTH_PX = 320
_ROW_PX, _BAR_PX = 34, 12
_PLOT_PX, _AXIS_PX, _LEFT_PX = 120, 22, 34
_LONGEST_NAME = 30
_PERCENTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def stacked_bars(counts: Mapping[str, Mapping[str, int]], title: str, as_shares: bool = False) -> str:
    """A bar per key, one coloured segment per inner key, the numbers above it.

    With `as_shares` every bar has the full width, and the numbers are percentages of it.
    """
    longest = max((sum(parts.values()) for parts in counts.values()), default=0) or 1
    shapes = []
    for row, (name, parts) in enumerate(counts.items()):
        top, left = row * _ROW_PX + 14, 0.0
        total = sum(parts.values())
        shapes.append(f'<text x="0" y="{top}" font-size="12">{escape(_short(name))}</text>')
        numbers = " · ".join(_share(number, total) if as_shares else f"{number:,}" for number in parts.values())
        if not as_shares or len(parts) <= 4:
            shapes.append(f'<text x="{WIDTH_PX}" y="{top}" font-size="11" text-anchor="end">{numbers}</text>')
        for index, (part, number) in enumerate(parts.items()):
            length = number / ((total or 1) if as_shares else longest) * WIDTH_PX
            shapes.append(
                f'<rect x="{left:.1f}" y="{top + 4}" width="{length:.1f}" height="{_BAR_PX}" '
                f'fill="{PALETTE[index % len(PALETTE)]}"><title>{escape(name)}, {escape(part)}: {number:,} '
                f"({_share(number, total)})</title></rect>"
            )
            left += length
    return _svg(shapes, _ROW_PX * len(counts) + 2, title)


def histogram(values: Mapping[str, Floats], edges: Sequence[float], ticks: Mapping[float, str], title: str) -> str:
    """Shares of each group's values between the edges, as one stepped line per group over the same axis.

    Values beyond the first or last edge count as at it. Groups without values are left out; colours stay theirs.
    """
    bounds = np.asarray(edges, dtype=np.float64)
    shares = {
        name: np.histogram(np.clip(group, bounds[0], bounds[-1]), bounds)[0] / len(group)
        for name, group in values.items()
        if len(group)
    }
    top = max((float(share.max()) for share in shares.values()), default=1.0) or 1.0
    shapes = _axes(top)
    step = (WIDTH_PX - _LEFT_PX) / (len(bounds) - 1)
    for index, name in enumerate(values):
        if name not in shares:
            continue
        points = " ".join(
            f"{_LEFT_PX + x * step:.1f},{_height_of(share, top):.1f}"
            for position, share in enumerate(shares[name])
            for x in (position, position + 1)
        )
        colour, dash = PALETTE[index % len(PALETTE)], ("", "6 2", "2 2")[index % 3]
        shapes.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}">'
            f"<title>{escape(name)}</title></polyline>"
        )
    for place, text in ticks.items():
        x = _LEFT_PX + (place - bounds[0]) / (bounds[-1] - bounds[0]) * (WIDTH_PX - _LEFT_PX)
        shapes.append(_tick(x, text))
    return _svg(shapes, _PLOT_PX + _AXIS_PX, title)


def spreads(values: Mapping[str, Floats], unit: str, title: str) -> str:
    """Per group a line from the 5th to the 95th percentile, a bar over the middle half, a stroke at the median.

    The axis is logarithmic; only values above 0 count.
    """
    groups = {name: group[group > 0] for name, group in values.items()}
    quantiles = {name: np.quantile(group, _PERCENTILES) for name, group in groups.items() if len(group)}
    low = min((float(five[0]) for five in quantiles.values()), default=1.0)
    high = max((float(five[-1]) for five in quantiles.values()), default=10.0)
    start, end = np.log2(low) - 0.2, max(np.log2(high), np.log2(low) + 1) + 0.2
    shapes = []
    for row, (name, five) in enumerate(quantiles.items()):
        top = row * _ROW_PX + 14
        p5, p25, p50, p75, p95 = (float(x) for x in (np.log2(five) - start) / (end - start) * WIDTH_PX)
        numbers = f"median {five[2]:,.0f} {unit}, n = {len(groups[name]):,}"
        shapes += [
            f'<text x="0" y="{top}" font-size="12">{escape(_short(name, 16))}</text>',
            f'<text x="{WIDTH_PX}" y="{top}" font-size="11" text-anchor="end">{numbers}</text>',
            f'<line x1="{p5:.1f}" x2="{p95:.1f}" y1="{top + 10}" y2="{top + 10}" stroke="currentColor"/>',
            f'<rect x="{p25:.1f}" y="{top + 4}" width="{max(p75 - p25, 1):.1f}" height="{_BAR_PX}" '
            f'fill="{PALETTE[0]}"><title>{escape(name)}, 5, 25, 50, 75 and 95 % lie below '
            f"{', '.join(f'{value:,.0f}' for value in five)} {unit}</title></rect>",
            f'<line x1="{p50:.1f}" x2="{p50:.1f}" y1="{top + 2}" y2="{top + 18}" stroke="currentColor" '
            'stroke-width="2"/>',
        ]
    bottom = len(quantiles) * _ROW_PX + 4
    for power in range(int(np.ceil(start)), int(np.floor(end)) + 1):
        x = (power - start) / (end - start) * WIDTH_PX
        if power % 2 == 0 or end - start < 5:
            shapes.append(_tick(x, f"{2.0**power:g}", bottom))
    return _svg(shapes, bottom + _AXIS_PX - 4, title)


def _axes(top: float) -> list[str]:
    return [
        f'<line x1="{_LEFT_PX}" x2="{WIDTH_PX}" y1="{_PLOT_PX}" y2="{_PLOT_PX}" stroke="currentColor"/>',
        f'<text x="{_LEFT_PX - 4}" y="12" font-size="11" text-anchor="end">{top:.0%}</text>',
        f'<text x="{_LEFT_PX - 4}" y="{_PLOT_PX}" font-size="11" text-anchor="end">0</text>',
    ]


def _tick(x: float, text: str, top: float = _PLOT_PX) -> str:
    anchor = "end" if x > WIDTH_PX - 18 else "start" if x < 18 else "middle"
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + 4}" stroke="currentColor"/>'
    return f'{line}<text x="{x:.1f}" y="{top + 16}" font-size="11" text-anchor="{anchor}">{escape(text)}</text>'


def _height_of(share: float, top: float) -> float:
    return _PLOT_PX - share / top * (_PLOT_PX - 6)


def _svg(shapes: Sequence[str], height: float, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {height}" width="{WIDTH_PX}" role="img" '
        f'aria-label="{escape(title)}">{"".join(shapes)}</svg>'
    )


def _share(number: int, total: int) -> str:
    return f"{number / total:.0%}" if total else "–"


def _short(name: str, longest: int = _LONGEST_NAME) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"

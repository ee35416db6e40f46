"""The page of a drift report: verdict, features with their distances, and both distributions over each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from flows.dataset.drift import DriftReport, FeatureDrift
from flows.page import PALETTE, escape, figure, page, table

if TYPE_CHECKING:
    import pandas as pd

_WIDTH_PX, _HEIGHT_PX, _BASE_PX, _NUM_BINS = 560, 150, 120, 30
_BLUE, _ORANGE = PALETTE[0], PALETTE[1]


def drift_page(report: DriftReport, reference: pd.DataFrame, current: pd.DataFrame, evidently_href: str = "") -> str:
    """A self-contained HTML page; `evidently_href` is where Evidently's own page lies, seen from this one."""
    ok = None if report.verdict == "insufficient" else report.passed
    headers = ("Feature", "Training mean", "Production mean", "Distance", "Limit", "Result")
    body = [table(headers, [_row(one) for one in report.features])]
    body.append(
        "<p>Distances are Wasserstein distances in standard deviations of the training frames. An alarm needs "
        f"{report.drift_share_limit:.0%} of the features. Boxes are labels in training, detections in production.</p>"
    )
    if evidently_href:
        body.append(f'<p><a href="{escape(evidently_href)}">The same in Evidently</a></p>')
    for one in report.features:
        before, now = (frame[one.name].dropna().to_numpy(dtype=np.float64) for frame in (reference, current))
        if len(before) and len(now):
            body.append(
                figure(histograms(before, now), f"{one.name}: {one.meaning}; line: training, filled: production")
            )
    return page("Drift of production frames", report.sentence, ok, "\n".join(body))


def histograms(reference: npt.NDArray[np.float64], current: npt.NDArray[np.float64]) -> str:
    """Inline SVG: shares of `current` as filled bars, of `reference` as a line over them, on one axis."""
    low, high = float(min(reference.min(), current.min())), float(max(reference.max(), current.max()))
    edges = np.linspace(low, high if high > low else low + 1, _NUM_BINS + 1)
    before, now = (np.histogram(values, edges)[0] / len(values) for values in (reference, current))
    top = max(float(before.max()), float(now.max()))
    step = _WIDTH_PX / _NUM_BINS
    bars = "".join(
        f'<rect x="{index * step:.1f}" y="{_y(share, top):.1f}" width="{step - 1:.1f}" '
        f'height="{_BASE_PX - _y(share, top):.1f}" fill="{_ORANGE}" fill-opacity=".65"/>'
        for index, share in enumerate(now)
    )
    points = " ".join(
        f"{x:.1f},{_y(share, top):.1f}"
        for index, share in enumerate(before)
        for x in (index * step, (index + 1) * step)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH_PX} {_HEIGHT_PX}" width="{_WIDTH_PX}" '
        f'role="img">'
        f'{bars}<polyline points="{points}" fill="none" stroke="{_BLUE}" stroke-width="2"/>'
        f'<text x="0" y="{_HEIGHT_PX - 10}" font-size="13">{edges[0]:.4g}</text>'
        f'<text x="{_WIDTH_PX}" y="{_HEIGHT_PX - 10}" font-size="13" text-anchor="end">{edges[-1]:.4g}</text></svg>'
    )


def _y(share: float, top: float) -> float:
    return _BASE_PX - share / top * (_BASE_PX - 4)


def _row(one: FeatureDrift) -> tuple[object, ...]:
    if one.drifted is None:
        result = f"too few frames have it ({one.num_current:,})"
    else:
        result = "✗ drifted" if one.drifted else "✓ steady"
    numbers = (one.reference_mean, one.current_mean, one.distance, one.threshold)
    return (one.name, *("" if number is None else f"{number:.3g}" for number in numbers), result)

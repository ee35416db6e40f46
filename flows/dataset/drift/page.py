"""The page of a drift report: verdict, cameras with what they saw and see, columns by group, both distributions."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from flows.dataset.drift.cameras import CameraFinding
from flows.dataset.drift.drift import DriftReport, FeatureDrift
from flows.dataset.drift.samples import Sample
from flows.dataset.drift.units import ALIKE, ALL
from flows.page import PALETTE, Markup, escape, figure, folded, page, table

_WIDTH_PX, _HEIGHT_PX, _BASE_PX, _NUM_BINS = 560, 150, 120, 30
_PICTURE_WH = (320, 180)
_MAX_PICTURED = 12  # cameras
_MOST_FRAMES = 200  # that a still picture is made from
_BLUE, _ORANGE = PALETTE[0], PALETTE[1]


def drift_page(report: DriftReport, reference: Sample, current: Sample, evidently_href: str = "") -> str:
    """A self-contained HTML page; `evidently_href` is where Evidently's own page lies, seen from this one.

    Cameras are shown as the median of their thumbnails (96 x 54 px): what stands still, and no detail of what moves.
    """
    ok = None if report.verdict == "insufficient" else report.passed
    body = [_extent(report, evidently_href), _cameras(report, reference, current), _columns(report)]
    body += _distributions(report, reference, current)
    return page(f"Drift of {report.current} from {report.reference}", report.sentence, ok, "\n".join(body))


def _extent(report: DriftReport, evidently_href: str) -> str:
    rows = [
        (name, f"{frames:,} frames", f"{units:,} {report.unit}{'' if units == 1 else 's'}")
        for name, frames, units in (
            (f"Reference: {report.reference}", report.num_reference, report.num_reference_units),
            (f"Current: {report.current}", report.num_current, report.num_current_units),
        )
    ]
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    link = f'<p><a href="{escape(evidently_href)}">The same columns in Evidently</a></p>' if evidently_href else ""
    return table(("Sample", "Frames", "Shuffled as"), rows) + (f"<ul>{notes}</ul>" if notes else "") + link


def _cameras(report: DriftReport, reference: Sample, current: Sample) -> str:
    if not report.cameras:
        return "<h2>Cameras</h2><p>No camera has enough frames in both samples.</p>"
    ordered = sorted(report.cameras, key=lambda one: (not one.is_alarm, one.camera))
    headers = ("Camera", "Result", "Frames before / now", "Contrast before / now", "Similarity", "Shift")
    alarms = [one for one in ordered if one.is_alarm][:_MAX_PICTURED]
    pictures = [_before_and_now(one, reference, current) for one in alarms]
    return "<h2>Cameras</h2>" + "".join(pictures) + table(headers, [_camera_row(one) for one in ordered])


def _camera_row(one: CameraFinding) -> tuple[object, ...]:
    return (
        one.camera,
        f"✗ {one.state}" if one.is_alarm else ("✓ steady" if one.state == "steady" else one.sentence),
        f"{one.num_reference:,} / {one.num_current:,}",
        f"{_number(one.reference_contrast)} / {_number(one.current_contrast)}",
        "" if one.similarity is None else f"{one.similarity:.2f} (usually ≥ {one.usual_similarity:.2f})",
        "" if one.shift_right is None or one.shift_down is None else f"{one.shift_right:+.1%}, {one.shift_down:+.1%}",
    )


def _before_and_now(one: CameraFinding, reference: Sample, current: Sample) -> str:
    before, now = (_still(sample, one.camera) for sample in (reference, current))
    if before is None or now is None:
        return ""
    both = np.concatenate([before, np.full((_PICTURE_WH[1], 8), 255, np.uint8), now], axis=1)
    return figure(_data_uri(both), f"{one.sentence}. Left: {reference.name}, right: {current.name}")


def _still(sample: Sample, camera: str) -> npt.NDArray[np.uint8] | None:
    if sample.thumbnails is None:
        return None
    rows = np.flatnonzero((sample.frames["camera"] == camera).to_numpy())
    rows = rows[:: -(-len(rows) // _MOST_FRAMES) or 1]
    median = np.median(sample.thumbnails[rows], axis=0).astype(np.uint8)
    return np.asarray(Image.fromarray(median).resize(_PICTURE_WH, Image.Resampling.BICUBIC))


def _data_uri(grey: npt.NDArray[np.uint8]) -> str:
    buffer = BytesIO()
    Image.fromarray(grey).save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _columns(report: DriftReport) -> str:
    if not report.features:
        return "<h2>Columns</h2><p>Too few frames to compare columns.</p>"
    groups = list(dict.fromkeys(one.group for one in report.features))
    parts = [
        "<h2>Columns</h2>",
        "<p>Distances are Wasserstein distances in standard deviations of the reference, over its "
        f"{report.unit}s. A limit is what {report.unit}s dealt at random stay below in every column of every group, "
        f"with probability {1 - report.alpha:.0%}. <em>{ALIKE}</em>: relative to camera and slice. "
        "Boxes are labels in a dataset, detections in production.</p>",
        table(_HEADERS, [_row(one) for one in report.features if one.group == ALL]),
    ]
    for group in groups[1:]:
        rows = [one for one in report.features if one.group == group]
        num_drifted = sum(bool(one.drifted) for one in rows)
        parts.append(folded(f"{group}: {num_drifted} drifted", table(_HEADERS, [_row(one) for one in rows])))
    return "\n".join(parts)


_HEADERS = ("Column", "Reference mean", "Current mean", "Distance", "Limit", "p", "Result")


def _row(one: FeatureDrift) -> tuple[object, ...]:
    if one.drifted is None:
        result = f"too few have it ({one.num_reference:,} and {one.num_current:,})"
    else:
        result = "✗ drifted" if one.drifted else "✓ steady"
    numbers = (one.reference_mean, one.current_mean, one.distance, one.limit, one.p_value)
    name = Markup(f'<span title="{escape(one.meaning)}">{escape(one.name)}</span>')
    return (name, *(_number(number) for number in numbers), result)


def _distributions(report: DriftReport, reference: Sample, current: Sample) -> list[str]:
    drifted = {one.name for one in report.features if one.drifted}
    shown = [one for one in report.features if one.group == ALL]
    drawn = {one.name: _distribution(one, reference, current) for one in shown}
    open_, closed = ([drawn[one.name] for one in shown if (one.name in drifted) is want] for want in (True, False))
    parts = ["<h2>Distributions</h2>", *open_] if shown else []
    if any(closed):
        parts.append(folded("Columns that are steady", "\n".join(closed)))
    return parts


def _distribution(one: FeatureDrift, reference: Sample, current: Sample) -> str:
    before, now = (sample.frames[one.name].dropna().to_numpy(dtype=np.float64) for sample in (reference, current))
    if not len(before) or not len(now):
        return ""
    legend = f"line: {reference.name}, filled: {current.name}, over frames"
    return figure(histograms(before, now), f"{one.name}: {one.meaning}; {legend}")


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


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"

"""What is in a set, as charts: classes, boxes per frame, their sizes, light, cameras, frame sizes, times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flows.dataset.layout import SPLITS
from flows.dataset.manifest.manifest import Manifest
from flows.dataset.report.charts import Floats, histogram, spreads, stacked_bars
from flows.dataset.report.moments import moment_of
from flows.page import PALETTE, figure, folded, grid, matrix, table

if TYPE_CHECKING:
    import pandas as pd

_MAX_GROUPS = 24  # classes or slices in a chart; cameras or sizes before the rest is folded
_MAX_CAMERAS = 400
_SPLIT_COLOURS = dict(zip(SPLITS, PALETTE, strict=False))


def distributions(manifest: Manifest, classes: Sequence[str]) -> str:
    """Charts and tables of a manifest as HTML."""
    images, boxes = manifest.images, manifest.boxes
    charts = [
        *_class_charts(boxes, classes),
        _boxes_per_frame(images),
        _box_sizes(boxes, classes),
        _brightness(images[images["readable"]]),
        *_hours(images),
    ]
    parts = [grid(charts), grid([_cameras(images), _slices(images)]), _frame_sizes(images[images["readable"]])]
    return "\n".join(parts)


def class_colours(classes: Sequence[str]) -> dict[str, str]:
    """A colour per class, repeated when there are more classes than colours."""
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(classes)}


def _class_charts(boxes: pd.DataFrame, classes: Sequence[str]) -> Iterator[str]:
    counts = boxes.groupby(["class_name", "split"]).size().to_dict()
    shown = sorted(classes, key=lambda name: -sum(counts.get((name, split), 0) for split in SPLITS))[:_MAX_GROUPS]
    kept = [name for name in classes if name in set(shown)]
    aside = f" (the {len(kept)} most frequent of {len(classes)} classes)" if len(kept) < len(classes) else ""
    by_class = {name: {split: counts.get((name, split), 0) for split in SPLITS} for name in kept}
    caption = f"Boxes of each class{aside}, in {' · '.join(SPLITS)}"
    yield figure(stacked_bars(by_class, caption), caption, _SPLIT_COLOURS)
    by_split = {split: {name: counts.get((name, split), 0) for name in kept} for split in SPLITS}
    caption = f"Class mix of each split{aside}"
    yield figure(stacked_bars(by_split, caption, as_shares=True), caption, class_colours(kept))


def _boxes_per_frame(images: pd.DataFrame) -> str:
    counts = images["num_boxes"].to_numpy(dtype=np.float64)
    top = max(int(np.quantile(counts, 0.99)) if len(counts) else 0, 4)
    width = -(-(top + 1) // 25)  # whole boxes to a step
    edges = np.arange(-0.5, top + width + 0.5, width)
    last = int(edges[-1] + 0.5 - width)
    ticks = {0.0: "0", float(last // 2): str(last // 2), float(last): f"≥ {last}"}
    caption = f"Boxes per frame: median {np.median(counts) if len(counts) else 0:.0f}; share of a split's frames"
    return figure(histogram(_by_split(images, "num_boxes"), edges.tolist(), ticks, caption), caption, _SPLIT_COLOURS)


def _box_sizes(boxes: pd.DataFrame, classes: Sequence[str]) -> str:
    areas = (boxes["width_px"] * boxes["height_px"]).to_numpy(dtype=np.float64)
    sides = np.sqrt(areas.clip(min=0))
    names = boxes["class_name"].to_numpy()
    frequent = [name for name, _ in Counter(names.tolist()).most_common(_MAX_GROUPS)]
    values = {name: sides[names == name] for name in classes if name in frequent}
    caption = "Box sizes by class, px: square root of the area; line: 5 to 95 %, bar: middle half, stroke: median"
    return figure(spreads(values, "px", caption), caption)


def _brightness(images: pd.DataFrame) -> str:
    caption = "Brightness: mean grey of a frame, 0 to 255; share of a split's readable frames"
    ticks = {0.0: "0", 64.0: "64", 128.0: "128", 192.0: "192", 255.0: "255"}
    return figure(
        histogram(_by_split(images, "brightness"), np.linspace(0, 255, 26).tolist(), ticks, caption),
        caption,
        _SPLIT_COLOURS,
    )


def _hours(images: pd.DataFrame) -> Iterator[str]:
    """Hours of the day as the cameras' clocks show them; nothing where no frame has a time."""
    moments = [(split, moment_of(text)) for split, text in zip(images["split"], images["time"], strict=True)]
    known = [(split, moment) for split, moment in moments if moment]
    if not known:
        return
    hours = {one: np.asarray([moment.hour + 0.5 for split, moment in known if split == one]) for one in SPLITS}
    days = {moment.date() for _, moment in known}
    missing = f"; {len(moments) - len(known):,} frames have no time" if len(known) < len(moments) else ""
    caption = f"Hour of the day on the cameras' clocks, from {min(days)} to {max(days)}{missing}"
    ticks = {0.0: "0", 6.0: "6", 12.0: "12", 18.0: "18", 24.0: "24"}
    yield figure(histogram(hours, list(range(25)), ticks, caption), caption, _SPLIT_COLOURS)


def _cameras(images: pd.DataFrame) -> str:
    rows = _by_two(images, "camera")
    most = sorted(rows, key=lambda name: -sum(rows[name]))
    first, rest = most[:_MAX_GROUPS], most[_MAX_GROUPS:_MAX_CAMERAS]
    headers = ("Camera", *SPLITS)
    parts = [f"<h3>Frames of each camera ({len(rows):,})</h3>", matrix(headers, {name: rows[name] for name in first})]
    if rest:
        parts.append(folded(f"{len(rest):,} more cameras", matrix(headers, {name: rows[name] for name in rest})))
    if len(most) > _MAX_CAMERAS:
        parts.append(f'<p class="note">The {_MAX_CAMERAS} cameras with most frames are listed.</p>')
    return f"<div>{''.join(parts)}</div>"


def _slices(images: pd.DataFrame) -> str:
    rows = _by_two(images, "slice")
    first = sorted(rows, key=lambda name: -sum(rows[name]))[:_MAX_GROUPS]
    aside = f", the {len(first)} largest" if len(first) < len(rows) else ""
    shown = matrix(("Slice", *SPLITS), {name: rows[name] for name in first})
    return f"<div><h3>Frames of each slice ({len(rows):,}{aside})</h3>{shown}</div>"


def _frame_sizes(images: pd.DataFrame) -> str:
    sizes = Counter(zip(images["width"].tolist(), images["height"].tolist(), images["format"].tolist(), strict=True))
    listed = [(f"{w} x {h} px", form, f"{number:,}") for (w, h, form), number in sizes.most_common(_MAX_GROUPS)]
    aside = f", the {len(listed)} most frequent" if len(listed) < len(sizes) else ""
    heading = f"Frame sizes ({len(sizes):,}{aside})"
    return folded(heading, table(("Size", "Format", "Frames"), listed)) if listed else ""


def _by_two(images: pd.DataFrame, column: str) -> dict[str, list[int]]:
    """Frames by a column's values and split."""
    counts = images.groupby([column, "split"]).size().to_dict()
    names = sorted(images[column].unique())
    return {name or "(unknown)": [int(counts.get((name, split), 0)) for split in SPLITS] for name in names}


def _by_split(images: pd.DataFrame, column: str) -> dict[str, Floats]:
    return {split: images.loc[images["split"] == split, column].to_numpy(dtype=np.float64) for split in SPLITS}

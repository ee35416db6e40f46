"""Do labels belong to the upright frame, or to the frame as it is stored? The shapes of their boxes tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flows.dataset.manifest.manifest import Manifest
from flows.params_data import LabelParams

if TYPE_CHECKING:
    import pandas as pd

_CLEARLY = 0.15  # log units: 15 % of an aspect
_FIRST_QUARTER_TURN = 5  # orientations 5 to 8 exchange width and height


def turning_evidence(manifest: Manifest, labels: LabelParams) -> dict[str, str]:
    """For each image that EXIF turns, what its boxes say about that, as half a sentence.

    Fractions of a frame stay fractions when it is turned, so boxes never fall outside; but a quarter turn changes
    their aspect: a box of aspect a (width / height) in the upright frame of aspect f has f² / a if its fractions
    belong to the stored frame. The one that lies nearer to the median of its class in frames that are not turned wins.
    """
    images = manifest.images
    turned = images.loc[images["orientation"] > 1, ["image", "orientation", "width", "height"]]
    if turned.empty:
        return {}
    boxes = manifest.boxes[manifest.boxes["image"].isin(turned["image"])].merge(turned, on="image")
    misfits = _misfits(boxes, _usual_aspects(manifest, labels))
    labelled = set(boxes["image"])
    evidence = {}
    for image, orientation in zip(turned["image"], turned["orientation"], strict=True):
        if image not in labelled:
            evidence[image] = "it has no boxes"
        elif orientation < _FIRST_QUARTER_TURN:
            evidence[image] = "whether its labels are turned, too, the shapes of its boxes cannot tell"
        else:
            evidence[image] = _which_fits(*misfits.get(image, (np.nan, np.nan)))
    return evidence


def _usual_aspects(manifest: Manifest, labels: LabelParams) -> dict[str, float]:
    """Median of log(width / height) of each class that has enough whole boxes in frames that are not turned."""
    images, boxes = manifest.images, manifest.boxes
    upright = boxes[boxes["image"].isin(images.loc[images["orientation"] <= 1, "image"]) & ~boxes["truncated"]]
    aspects = _log_ratio(upright, "width_px", "height_px").groupby(upright["class_name"])
    return {
        str(name): float(median) for name, median in aspects.median()[aspects.size() >= labels.min_shape_boxes].items()
    }


def _misfits(boxes: pd.DataFrame, usual: dict[str, float]) -> dict[str, tuple[float, float]]:
    """For each image how far the aspects of its whole boxes are from usual: taken as upright, and as stored."""
    whole = boxes[boxes["class_name"].isin(list(usual)) & ~boxes["truncated"]]
    expected = whole["class_name"].map(usual)
    aspect, frame = _log_ratio(whole, "width_px", "height_px"), _log_ratio(whole, "width", "height")
    table = whole[["image"]].assign(upright=(aspect - expected).abs(), stored=(2 * frame - aspect - expected).abs())
    return {str(row[0]): (row[1], row[2]) for row in table.groupby("image").mean().itertuples()}


def _log_ratio(table: pd.DataFrame, first: str, second: str) -> pd.Series[float]:
    import pandas as pd

    return pd.Series(np.log(table[first].to_numpy() / table[second].to_numpy()), index=table.index)


def _which_fits(upright: float, stored: float) -> str:
    if np.isnan(upright):
        return "too few boxes of its classes are known to tell whether its labels are turned, too"
    if abs(upright - stored) < _CLEARLY:
        return "the shapes of its boxes fit either way"
    if upright < stored:
        return "the shapes of its boxes fit the upright frame, as is right here"
    return "the shapes of its boxes fit the frame as it is stored: the labels are probably not turned with it"

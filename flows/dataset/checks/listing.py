"""Checks of frames.csv: cameras, slices and times are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.dataset.checks.check import LENGTHS, MATCHES, Check, Evidence, root_name
from flows.dataset.layout import FRAMES_CSV
from flows.params_data import ValidateParams

if TYPE_CHECKING:
    import pandas as pd

_TIME = r"^$|^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)$"


def listing_checks(params: ValidateParams) -> tuple[Check, ...]:
    """What must hold of the lines of frames.csv."""
    at_least_1 = {"min_value": 1}
    return (
        Check("cameras_named", "Every frame names its camera", "stop",
              "listing", "camera", LENGTHS, lambda row: f"{row['image']} has no camera", at_least_1),
        Check("slices_named", "Every frame names its slice", "stop",
              "listing", "slice", LENGTHS, lambda row: f"{row['image']} has no slice", at_least_1),
        Check("times_zoned", "Times are ISO-8601 with a zone, or empty", "warn",
              "listing", "time", MATCHES,
              lambda row: f"{row['image']} has the time {row['time']!r}", {"regex": _TIME}),
    )  # fmt: skip


def listing_tables(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """`listing`: a row per line of frames.csv."""
    listing = evidence.manifest.images[["image", "camera", "time", "slice"]].copy()
    for column in ("camera", "slice"):
        listing[column] = listing[column].str.strip()
    listing["file"] = f"{root_name(evidence.dataset)}/{FRAMES_CSV}"
    listing["line"] = range(2, len(listing) + 2)  # below the header
    return {"listing": listing}

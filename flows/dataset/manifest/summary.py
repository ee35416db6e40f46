"""A manifest in a page of JSON: how much of what, in which spread, and a digest of it all."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from flows.dataset.manifest.manifest import Manifest

if TYPE_CHECKING:
    import pandas as pd

_QUANTILES = {"min": 0.0, "p05": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}
_MEASURED = {
    "images": ("width", "height", "num_bytes", "brightness", "contrast", "sharpness", "num_boxes"),
    "boxes": ("width_px", "height_px", "outside_px", "max_iou"),
}
_COUNTED = {"images": ("split", "camera", "slice", "format"), "boxes": ("split", "class_name"), "problems": ("check",)}
_MOST_VALUES = 1000


def manifest_summary(manifest: Manifest) -> dict[str, Any]:
    """Rows, spreads and counts of each table, ready for JSON.

    `content_sha256` is over the names and the digests of all images, in the order of their names: equal for equal
    images, wherever they lie and whatever their labels.
    """
    tables: dict[str, pd.DataFrame] = {name: getattr(manifest, name) for name in ("images", "boxes", "problems")}
    summary: dict[str, Any] = {"content_sha256": _digest(manifest.images)}
    for name, rows in tables.items():
        summary[name] = {
            "num_rows": len(rows),
            "spread": {column: _spread(rows[column]) for column in _MEASURED.get(name, ()) if column in rows},
            "counts": {column: _counts(rows[column]) for column in _COUNTED.get(name, ()) if column in rows},
        }
    return summary


def _digest(images: pd.DataFrame) -> str:
    lines = sorted(f"{image}\0{digest}\n" for image, digest in zip(images["image"], images["sha256"], strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _spread(column: pd.Series[Any]) -> dict[str, float]:
    known = column.dropna()
    if not len(known):
        return {}
    return {name: round(float(known.quantile(share)), 4) for name, share in _QUANTILES.items()}


def _counts(column: pd.Series[Any]) -> dict[str, int]:
    """Rows by value, the most frequent values first."""
    return {str(value): int(number) for value, number in column.value_counts().head(_MOST_VALUES).items()}

"""The tables of a manifest: their columns and types, for pandas and for Parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

THUMBNAILS = "thumbnails.npy"
TABLES: dict[str, dict[str, str]] = {
    "images": {
        **dict.fromkeys(("image", "split", "camera", "clip", "time", "slice"), "str"),
        "readable": "bool",
        "error": "str",
        "width": "int64",
        "height": "int64",
        "format": "str",
        "num_bytes": "int64",
        **dict.fromkeys(("sha256", "phash"), "str"),
        **dict.fromkeys(("brightness", "contrast", "sharpness", "underexposed", "overexposed"), "float64"),
        "orientation": "int64",
        "num_boxes": "int64",
    },
    "boxes": {
        **dict.fromkeys(("image", "split", "camera", "slice"), "str"),
        "line": "int64",
        "class_id": "int64",
        "class_name": "str",
        **dict.fromkeys(("x1", "y1", "x2", "y2", "width_px", "height_px", "outside_px"), "float64"),
        "truncated": "bool",
        "max_iou": "float64",
        "max_iou_line": "int64",
    },
    "problems": {"file": "str", "line": "int64", "check": "str", "message": "str"},
}


def arrow_schema(name: str) -> pa.Schema:
    """The schema of a table in its Parquet file."""
    import pyarrow as pa

    types = {"str": pa.string(), "bool": pa.bool_(), "int64": pa.int64(), "float64": pa.float64()}
    return pa.schema([(column, types[kind]) for column, kind in TABLES[name].items()])

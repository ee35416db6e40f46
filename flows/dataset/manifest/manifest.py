"""The manifest: one row per image, per box and per problem, so that every check is a question to a table."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from flows.dataset.layout import Dataset
from flows.dataset.manifest.assembly import TableFile, write_thumbnail_header
from flows.dataset.manifest.tables import TABLES, THUMBNAILS, arrow_schema
from flows.dataset.manifest.update import folder_name, update_manifest
from flows.dataset.replacing import replaced_folder
from flows.errors import DataError
from flows.progress import Progress, silent

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TABLES", "THUMBNAILS", "Manifest", "build_manifest", "read_manifest", "shown_path", "write_manifest"]


@dataclass(frozen=True)
class Manifest:
    """Three pandas tables with the columns and types of `TABLES`, and small pictures.

    images: a row per frame of frames.csv, in that order; the figures of pixels are missing where it is not readable.
    boxes: a row per box of a readable image, corners in pixels, not clipped; `outside_px` is how far it reaches
        beyond the frame, `truncated` whether it touches its border, `max_iou` its overlap with the box of the same
        image that it overlaps most, and `max_iou_line` the line of that one (0: none).
    problems: a row per fault, with file (relative to the folder that holds the dataset) and line (0: the whole file).
    """

    images: pd.DataFrame
    boxes: pd.DataFrame
    problems: pd.DataFrame
    thumbnails: npt.NDArray[np.uint8]  # (num_images, 54, 96), grey, in the order of `images`; black if unreadable


def build_manifest(dataset: Dataset, num_workers: int = 0, progress: Progress = silent) -> Manifest:
    """The manifest of `dataset` in memory, made without a cache; `update_manifest` is the way for large sets.

    Args:
        dataset: What frames.csv lists.
        num_workers: Threads; 0 takes one per core.
        progress: Told how many frames are done.
    """
    with tempfile.TemporaryDirectory(prefix="manifest-") as place:
        folder = Path(place, "manifest")
        update_manifest(dataset, folder, Path(place, "parts"), progress=progress, num_workers=num_workers)
        manifest = read_manifest(folder)
        return Manifest(manifest.images, manifest.boxes, manifest.problems, np.array(manifest.thumbnails))


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write one Parquet file per table into `folder`, which appears whole or not at all."""
    import pyarrow as pa

    with replaced_folder(folder) as fresh:
        with (fresh / THUMBNAILS).open("wb") as stream:
            write_thumbnail_header(stream, len(manifest.thumbnails))
            stream.write(np.ascontiguousarray(manifest.thumbnails, dtype=np.uint8).tobytes())
        for name in TABLES:
            rows = pa.Table.from_pandas(getattr(manifest, name), arrow_schema(name), preserve_index=False)
            with TableFile(fresh, name) as file:
                file.add(rows.replace_schema_metadata(None))


def read_manifest(folder: Path) -> Manifest:
    """Read what was written. Raises DataError if it is missing, unreadable or of another version."""
    import pandas as pd

    tables: dict[str, pd.DataFrame] = {}
    for name, columns in TABLES.items():
        path = folder / f"{name}.parquet"
        try:
            tables[name] = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
            raise DataError(f"{path} {reason}", "Write it anew with `tca validate`") from None
        if list(tables[name].columns) != list(columns):
            raise DataError(f"{path} has other columns than this version writes", "Write it anew with `tca validate`")
    try:
        thumbnails = np.load(folder / THUMBNAILS, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / THUMBNAILS} cannot be read: {error}", "Write it anew with `tca validate`") from None
    return Manifest(**tables, thumbnails=thumbnails)


def shown_path(dataset: Dataset, relative: str) -> str:
    """How a file of the dataset is named to people: "data/labels/train/x.txt"."""
    return str(PurePosixPath(folder_name(dataset), relative))

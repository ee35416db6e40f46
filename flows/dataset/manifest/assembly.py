"""From parts to the files of the manifest, a part at a time, so that memory does not grow with the number of images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.dataset.layout import Dataset, Frame
from flows.dataset.manifest.inspection import THUMBNAIL_WH
from flows.dataset.manifest.parts import FACTS, Part, read_part
from flows.dataset.manifest.reading import read_signature
from flows.dataset.manifest.strays import ProblemRow, find_strays
from flows.dataset.manifest.tables import THUMBNAILS, arrow_schema
from flows.dataset.replacing import replaced_folder
from flows.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_ROW_GROUP = 1 << 15  # rows; fewer make files larger and reading slower
_FRAME_FIELDS = ("image", "split", "camera", "clip", "time", "slice")


def assemble_manifest(dataset: Dataset, folder_name: str, parts: Sequence[Path], folder: Path, stamp: Path) -> None:
    """Write the manifest from the parts of all shards, in the order of their frames, and from the folder itself.

    Nothing is written where `stamp`, which the last assembly left, says that just this lies in `folder`.

    Raises:
        DataError: A part is gone: another pass works with the same cache.
    """
    strays = find_strays(dataset, folder_name)
    made_from = _digest([[str(part), *read_signature(str(part))] for part in parts], strays)
    if _read_stamp(stamp) == [made_from, *_signatures(folder)]:
        return
    _write(dataset, parts, strays, folder)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    draft = stamp.with_name(f"{stamp.name}.draft")
    draft.write_text(json.dumps([made_from, *_signatures(folder)]), encoding="utf-8")
    draft.replace(stamp)


def _write(dataset: Dataset, parts: Sequence[Path], strays: Sequence[ProblemRow], folder: Path) -> None:
    with replaced_folder(folder) as fresh, ExitStack() as stack:
        images, boxes, problems = (stack.enter_context(TableFile(fresh, name)) for name in TABLE_NAMES)
        thumbnails = stack.enter_context((fresh / THUMBNAILS).open("wb"))
        write_thumbnail_header(thumbnails, len(dataset.frames))
        for frames, part in _read_parts(dataset, parts):
            images.add(_images(frames, part))
            boxes.add(_boxes(frames, dataset.classes, part))
            problems.add(part.problems.drop_columns(["frame"]))
            thumbnails.write(part.thumbnails.tobytes())
        problems.add(_stray_table(strays))


def _digest(*things: object) -> str:
    return hashlib.sha256(json.dumps(things).encode()).hexdigest()


def _signatures(folder: Path) -> list[list[int]]:
    files = [f"{name}.parquet" for name in TABLE_NAMES] + [THUMBNAILS]
    return [list(read_signature(str(folder / file))) for file in files]


def _read_stamp(stamp: Path) -> object:
    try:
        return json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


TABLE_NAMES = ("images", "boxes", "problems")


class TableFile:
    """A Parquet file that is written in row groups of a fixed number of rows, however the rows arrive."""

    def __init__(self, folder: Path, name: str) -> None:
        import pyarrow.parquet as pq

        self._schema = arrow_schema(name)
        self._writer = pq.ParquetWriter(folder / f"{name}.parquet", self._schema)
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0

    def __enter__(self) -> TableFile:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._flush(least=0)
        self._writer.close()

    def add(self, table: pa.Table) -> None:
        """Append rows; columns are brought into order and type."""
        # a copy: the rows are views into a mapped part, which would stay in memory with its thumbnails
        copied = table.select(self._schema.names).take(np.arange(len(table)))
        self._waiting.append(copied.cast(self._schema))
        self._num_waiting += len(table)
        if self._num_waiting >= _ROW_GROUP:
            self._flush(least=_ROW_GROUP)

    def _flush(self, least: int) -> None:
        import pyarrow as pa

        rows = pa.concat_tables(self._waiting) if self._waiting else self._schema.empty_table()
        while len(rows) >= max(least, 1):
            self._writer.write_table(rows.slice(0, _ROW_GROUP), row_group_size=_ROW_GROUP)
            rows = rows.slice(_ROW_GROUP)
        self._waiting, self._num_waiting = [rows], len(rows)


def write_thumbnail_header(stream: Any, num_images: int) -> None:
    """The header of a .npy file of thumbnails, as numpy.save writes it."""
    shape = (num_images, *THUMBNAIL_WH[::-1])
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _read_parts(dataset: Dataset, parts: Sequence[Path]) -> Iterator[tuple[tuple[Frame, ...], Part]]:
    start = 0
    for path in parts:
        part = read_part(path, check=False)  # checked or written a moment ago
        if part is None:
            raise DataError(f"{path} is gone: does another pass run?", "Wait for its end, then go on")
        yield dataset.frames[start : start + len(part.images)], part
        start += len(part.images)


def _images(frames: Sequence[Frame], part: Part) -> pa.Table:
    import pyarrow as pa

    counts = np.bincount(np.asarray(part.boxes["frame"]), minlength=len(frames))
    own = {name: [getattr(frame, name) for frame in frames] for name in _FRAME_FIELDS}
    facts = {name: part.images[name] for name in FACTS}
    return pa.table({**own, **facts, "num_boxes": counts})


def _boxes(frames: Sequence[Frame], classes: Sequence[str], part: Part) -> pa.Table:
    import pyarrow as pa

    at, class_id = part.boxes["frame"], part.boxes["class_id"]
    own = {name: pa.array([getattr(frame, name) for frame in frames], pa.string()).take(at) for name in _FRAME_FIELDS}
    columns = {name: part.boxes[name] for name in part.boxes.column_names}
    return pa.table({**columns, **own, "class_name": pa.array(classes, pa.string()).take(class_id)})


def _stray_table(rows: Sequence[ProblemRow]) -> pa.Table:
    import pyarrow as pa

    names = arrow_schema("problems").names
    return pa.table({name: [row[at] for row in rows] for at, name in enumerate(names)})

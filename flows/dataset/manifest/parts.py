"""Parts: the findings about one shard as a file, written whole or not at all, checked when it is read."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flows.dataset.layout import Frame
from flows.dataset.manifest.inspection import THUMBNAIL_WH, ImageFacts
from flows.label_forms import BOXES, LabelForm

if TYPE_CHECKING:
    import pyarrow as pa

    from flows.dataset.manifest.shards import Findings

_MAGIC = b"TCAPART1"
_PIXELS = THUMBNAIL_WH[0] * THUMBNAIL_WH[1]
FACTS = tuple(field.name for field in fields(ImageFacts) if field.name != "thumbnail")
SUFFIX = ".part"


@dataclass(frozen=True)
class Part:
    """A part as it was read: tables of pyarrow over the bytes of the file.

    images: `FACTS`, `thumbnail` (raw bytes), `signature` (8 whole numbers) and `settled` of each frame; boxes and
    problems as in `Findings`, with `frame`.
    """

    images: pa.Table
    boxes: pa.Table
    problems: pa.Table

    @property
    def signatures(self) -> npt.NDArray[np.int64]:  # (n, 2, 4)
        values = self.images["signature"].combine_chunks().flatten()
        return np.asarray(values, dtype=np.int64).reshape(-1, 2, 4)

    @property
    def settled(self) -> bool:
        """Whether the signatures of all files may be trusted."""
        return bool(np.asarray(self.images["settled"]).all())

    @property
    def thumbnails(self) -> npt.NDArray[np.uint8]:  # (n, 54, 96)
        column = self.images["thumbnail"].combine_chunks()
        raw = np.frombuffer(column.buffers()[1], dtype=np.uint8)[: len(column) * _PIXELS]
        return raw.reshape(-1, *THUMBNAIL_WH[::-1])


def part_name(folder: str, classes: Sequence[str], frames: Sequence[Frame], form: LabelForm = BOXES) -> str:
    """The name of the part about `frames`: other rows of frames.csv, other classes or labels, another name."""
    rows = [(one.image, one.split, one.camera, one.clip, one.time, one.slice) for one in frames]
    told = [folder, list(classes), rows, *([] if form == BOXES else [astuple(form)])]
    text = json.dumps(told, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32] + SUFFIX


def write_part(path: Path, found: Findings) -> None:
    """Write the findings about a shard; a reader sees the old file or the new one."""
    body = _encode(found)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("wb") as stream:
            stream.write(_MAGIC + zlib.crc32(body).to_bytes(8, "little"))
            stream.write(body)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def read_part(path: Path, check: bool = True) -> Part | None:
    """The part at `path`; None where there is none or it is damaged, so that it is made anew.

    Args:
        path: Where it lies.
        check: Whether to compute the checksum, which takes most of the time; once in a pass is enough.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as stream:
            content = stream.read_buffer()
        body = content.slice(16)
        if bytes(content.slice(0, 8)) != _MAGIC:
            return None
        if check and zlib.crc32(body).to_bytes(8, "little") != bytes(content.slice(8, 8)):
            return None
        reader = pa.BufferReader(body)
        return Part(*(pa.ipc.open_stream(reader).read_all() for _ in range(3)))
    except (OSError, ValueError, pa.ArrowException, IndexError):
        return None


def _encode(found: Findings) -> pa.Buffer:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    for table in (_images(found), _boxes(found.boxes), _problems(found.problems)):
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue()


def _images(found: Findings) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, Any] = {name: [getattr(facts, name) for facts in found.images] for name in FACTS}
    thumbnails = [facts.thumbnail.tobytes() for facts in found.images]
    columns["thumbnail"] = pa.array(thumbnails, pa.binary(_PIXELS))
    columns["signature"] = pa.FixedSizeListArray.from_arrays(pa.array(found.signatures.reshape(-1)), 8)
    columns["settled"] = pa.array(found.settled)
    return pa.table(columns, schema=_images_schema())


def _images_schema() -> pa.Schema:
    import pyarrow as pa

    types = {"bool": pa.bool_(), "str": pa.string(), "int": pa.int64(), "float": pa.float64()}
    facts = [(field.name, types[str(field.type)]) for field in fields(ImageFacts) if field.name != "thumbnail"]
    own = [("thumbnail", pa.binary(_PIXELS)), ("signature", pa.list_(pa.int64(), 8)), ("settled", pa.bool_())]
    return pa.schema([*facts, *own])


def _boxes(columns: dict[str, npt.NDArray[Any]]) -> pa.Table:
    import pyarrow as pa

    return pa.table({name: pa.array(values) for name, values in columns.items()})


def _problems(rows: Iterable[tuple[int, str, int, str, str]]) -> pa.Table:
    import pyarrow as pa

    names = ("frame", "file", "line", "check", "message")
    types = (pa.int64(), pa.string(), pa.int64(), pa.string(), pa.string())
    columns = list(zip(*rows, strict=True)) or [()] * 5
    return pa.table(
        [pa.array(list(values), kind) for values, kind in zip(columns, types, strict=True)], names=list(names)
    )

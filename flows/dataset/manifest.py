"""The manifest: one row per image, per box and per problem, so that every check is a question to a table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flows.dataset.inspection import ImageFacts, inspect_image, unreadable
from flows.dataset.labels import LabelBox, LabelProblem, boxes_xyxy, read_labels
from flows.dataset.layout import IMAGE_SUFFIXES, Dataset, Frame
from flows.dataset.replacing import replaced_folder
from flows.errors import DataError
from flows.geometry import iou_xyxy, outside_px, touches_border
from flows.progress import Progress, silent

if TYPE_CHECKING:
    import pandas as pd

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


@dataclass(frozen=True)
class _Findings:
    """All that was found out about one frame."""

    facts: ImageFacts
    boxes: list[LabelBox]
    problems: list[LabelProblem]
    faults: list[tuple[str, int, str, str]]  # rows of the problems table


def build_manifest(dataset: Dataset, num_workers: int = 0, progress: Progress = silent) -> Manifest:
    """Read every image and label file once.

    Threads, not processes: decoding, hashing and array arithmetic release the interpreter lock, and threads start at
    once and stop with the process.

    Args:
        dataset: What frames.csv lists.
        num_workers: Threads; 0 takes one per core.
        progress: Told after every image.
    """
    findings: list[_Findings | None] = [None] * len(dataset.frames)
    pool = ThreadPoolExecutor(num_workers or os.cpu_count() or 1)
    try:
        jobs = {pool.submit(_inspect_frame, dataset, frame): index for index, frame in enumerate(dataset.frames)}
        for done, job in enumerate(as_completed(jobs), start=1):
            findings[jobs[job]] = job.result()
            progress(done, len(jobs), dataset.frames[jobs[job]].image)
    finally:
        pool.shutdown(cancel_futures=True)
    return _tabulate(dataset, [found for found in findings if found is not None])


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write one Parquet file per table into `folder`, which appears whole or not at all."""
    with replaced_folder(folder) as fresh:
        np.save(fresh / THUMBNAILS, manifest.thumbnails)
        for name in TABLES:
            getattr(manifest, name).to_parquet(fresh / f"{name}.parquet", index=False)


def read_manifest(folder: Path) -> Manifest:
    """Read what `write_manifest` wrote. Raises DataError if it is missing, unreadable or of another version."""
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
    return str(PurePosixPath(dataset.root.resolve().name, relative))


def _inspect_frame(dataset: Dataset, frame: Frame) -> _Findings:
    path = dataset.root / frame.image
    image_file, label_file = shown_path(dataset, frame.image), shown_path(dataset, frame.label)
    faults: list[tuple[str, int, str, str]] = []
    if path.is_file():
        facts = inspect_image(path)
    else:
        facts = unreadable("the file is missing")
    if not facts.readable:
        faults.append((image_file, 0, "image_readable", facts.error))
    try:
        boxes, problems = read_labels(dataset.root / frame.label, dataset.classes, label_file)
    except FileNotFoundError:
        message = "the label file is missing: not labelled? (an empty file means no vehicles)"
        return _Findings(facts, [], [], [*faults, (label_file, 0, "label_present", message)])
    except OSError as error:
        problem = LabelProblem(label_file, 0, f"cannot be read: {error.strerror}")
        boxes, problems = [], [problem]
    faults += [(problem.file, problem.line, problem.check, problem.message) for problem in problems]
    return _Findings(facts, boxes, problems, faults)


def _tabulate(dataset: Dataset, findings: Sequence[_Findings]) -> Manifest:
    pairs = list(zip(dataset.frames, findings, strict=True))
    images = [{**vars(frame), **vars(found.facts), "num_boxes": len(found.boxes)} for frame, found in pairs]
    thumbnails = np.stack([found.facts.thumbnail for found in findings])
    boxes = [row for frame, found in pairs if found.facts.readable for row in _box_rows(dataset.classes, frame, found)]
    problems = [fault for found in findings for fault in found.faults]
    problems += _strays(dataset)
    return Manifest(
        images=_table("images", images),
        boxes=_table("boxes", boxes),
        problems=_table("problems", [dict(zip(TABLES["problems"], row, strict=True)) for row in problems]),
        thumbnails=thumbnails,
    )


def _table(name: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    # columns by name and explicit types: an empty table has them, too
    return pd.DataFrame(rows, columns=list(TABLES[name])).astype(TABLES[name])


def _box_rows(classes: Sequence[str], frame: Frame, found: _Findings) -> Iterator[dict[str, Any]]:
    size_wh = (found.facts.width, found.facts.height)
    corners = boxes_xyxy(found.boxes, size_wh)  # (N, 4)
    overlaps = iou_xyxy(corners, corners) - np.eye(len(corners))  # (N, N)
    nearest = overlaps.argmax(axis=1) if len(corners) else np.zeros(0, dtype=np.int64)
    truncated = touches_border(corners, size_wh)
    for index, (box, xyxy, outside) in enumerate(zip(found.boxes, corners, outside_px(corners, size_wh), strict=True)):
        overlap = max(float(overlaps[index, nearest[index]]), 0.0)
        yield {
            "image": frame.image,
            "split": frame.split,
            "camera": frame.camera,
            "slice": frame.slice,
            "line": box.line,
            "class_id": box.class_id,
            "class_name": classes[box.class_id],
            **dict(zip(("x1", "y1", "x2", "y2"), xyxy, strict=True)),
            "width_px": box.w * size_wh[0],
            "height_px": box.h * size_wh[1],
            "outside_px": outside,
            "truncated": bool(truncated[index]),
            "max_iou": overlap,
            "max_iou_line": found.boxes[nearest[index]].line if overlap > 0 else 0,
        }


def _strays(dataset: Dataset) -> list[tuple[str, int, str, str]]:
    """Files without a partner: label files that no frame has, images that frames.csv does not list."""
    labels = {frame.label for frame in dataset.frames}
    images = {frame.image for frame in dataset.frames}
    rows = []
    for relative in _files(dataset.root, "labels"):
        if relative.endswith(".txt") and relative not in labels:
            rows.append((shown_path(dataset, relative), 0, "label_orphan", "belongs to no frame of frames.csv"))
    for relative in _files(dataset.root, "images"):
        if relative.lower().endswith(IMAGE_SUFFIXES) and relative not in images:
            rows.append((shown_path(dataset, relative), 0, "image_unlisted", "frames.csv does not list this image"))
    return rows


def _files(root: Path, folder: str) -> list[str]:
    found = []
    for where, folders, names in os.walk(root / folder):  # follows no links, so link loops are harmless
        folders.sort()
        found += [(Path(where) / name).relative_to(root).as_posix() for name in sorted(names) if name[:1] != "."]
    return found

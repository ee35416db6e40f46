"""Turns a user's own set into the layout."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.dataset.formats.coco import read_coco
from flows.dataset.formats.framing import frames_of
from flows.dataset.formats.mapping import Mapping, mapping_from_csv, mapping_from_regex, no_mapping
from flows.dataset.formats.sources import SourceSet
from flows.dataset.formats.voc import read_voc
from flows.dataset.formats.yolo import read_yolo
from flows.dataset.layout import DATA_YAML, FRAMES_CSV, SPLITS, Frame, write_data_yaml, write_frames
from flows.dataset.replacing import replaced_folder
from flows.errors import DataError
from flows.progress import Progress, silent

__all__ = ["ImportSummary", "Mapping", "import_dataset", "mapping_from_csv", "mapping_from_regex", "no_mapping"]

Format = Literal["yolo", "coco", "voc"]
_READERS = {"yolo": read_yolo, "coco": read_coco, "voc": read_voc}
_LISTED = 20


class ImportSummary(BaseModel):
    """What was taken over, and what a person should know about it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sentence: str = Field(description="what was imported, in one sentence")
    num_images: int = Field(description="frames now in the dataset")
    num_label_lines: int = Field(description="lines of all label files")
    num_unlabelled: int = Field(description="frames without a label file")
    images_per_split: dict[str, int] = Field(description="frames by split")
    images_per_camera: dict[str, int] = Field(description="frames by camera")
    images_per_slice: dict[str, int] = Field(description="frames by slice")
    classes: tuple[str, ...] = Field(description="class names in the order of their ids")
    num_missing_images: int = Field(description="annotations to images that are not there")
    missing_images: tuple[str, ...] = Field(description="the first of them")
    warnings: tuple[str, ...] = Field(description="what was assumed, and what to do about it")


def import_dataset(
    format: Format,
    source: Path,
    target: Path,
    mapping: Mapping = no_mapping,
    progress: Progress = silent,
    *,
    seed: int = 0,
    resplit: bool = False,
) -> ImportSummary:
    """Read a user's set and put it into the layout at `target`, replacing a dataset that lies there once all is done.

    Images keep their format and their bytes; they are copied, since links would let DVC and the user's tools change
    each other's files. Label lines of YOLO sets are copied with their faults, so that the validation can name them.

    Args:
        format: What `source` is written in.
        source: Folder with images and annotations.
        target: Folder of the dataset.
        mapping: What is known of each image besides its labels.
        progress: Told after every image.
        seed: Of the division into splits, where neither mapping nor folders nor names tell them.
        resplit: Divide into splits anew, whatever folders, names and mapping say.

    Raises:
        DataError: The set cannot be read (file and position), or the target is something else than a dataset.
    """
    source, target = Path(source), Path(target)
    _check_places(source, target)
    try:
        found = _READERS[format](source)
        frames, warnings = frames_of(found, mapping, seed, resplit)
        with replaced_folder(target) as fresh:
            _fill(fresh, found, frames, progress)
    except OSError as error:
        where = error.filename or source
        raise DataError(f"{where}: {error.strerror or error}", "It must be readable, and the disk have room") from None
    return _summary(found, frames, warnings)


def _check_places(source: Path, target: Path) -> None:
    here, there = source.resolve(), target.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise DataError(f"{source} and {target} lie in each other", "Import from a folder outside the dataset")
    if target.exists() and not target.is_dir():
        raise DataError(f"{target} is a file", "Name a folder")
    is_dataset = (target / DATA_YAML).is_file() or (target / FRAMES_CSV).is_file()
    if target.is_dir() and not is_dataset and any(target.iterdir()):
        raise DataError(
            f"{target} is not empty and is no dataset: it would be replaced", "Move it away, or name another folder"
        )


def _fill(root: Path, found: SourceSet, frames: Sequence[Frame], progress: Progress) -> None:
    for split in SPLITS:
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
    for done, (source, frame) in enumerate(zip(found.frames, frames, strict=True), start=1):
        shutil.copyfile(source.path, root / frame.image)
        if source.label_bytes is not None:
            (root / frame.label).write_bytes(source.label_bytes)
        progress(done, len(frames), source.name)
    write_data_yaml(root, found.classes, found.task_keys)
    write_frames(root, sorted(frames, key=lambda frame: (SPLITS.index(frame.split), frame.image)))


def _summary(found: SourceSet, frames: Sequence[Frame], warnings: Sequence[str]) -> ImportSummary:
    labels = [source.label_bytes for source in found.frames if source.label_bytes is not None]
    num_lines = sum(bool(line.strip()) for label in labels for line in label.splitlines())
    splits, cameras = Counter(frame.split for frame in frames), Counter(frame.camera for frame in frames)
    parts = ", ".join(f"{splits[split]:,} {split}" for split in SPLITS)
    extent = f"{num_lines:,} labels of {len(found.classes)} classes"
    return ImportSummary(
        sentence=f"{len(frames):,} frames ({parts}) with {extent} imported",
        num_images=len(frames),
        num_label_lines=num_lines,
        num_unlabelled=len(frames) - len(labels),
        images_per_split={split: splits[split] for split in SPLITS},
        images_per_camera=dict(sorted(cameras.items())),
        images_per_slice=dict(sorted(Counter(frame.slice for frame in frames).items())),
        classes=found.classes,
        num_missing_images=len(found.missing_images),
        missing_images=found.missing_images[:_LISTED],
        warnings=(*found.warnings, *warnings),
    )

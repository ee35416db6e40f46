"""One version of a dataset, read from wherever its files lie: a folder, or a store that knows them by their md5."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.dataset.labels import read_labels
from flows.dataset.layout import DATA_YAML, FRAMES_CSV, Frame, read_dataset
from flows.dataset.versions.boxes import NamedBox
from flows.errors import DataError
from flows.label_forms import BOXES, LabelForm


@dataclass(frozen=True)
class Snapshot:
    """A version: its name for people, classes, frames, md5 by file, and where the content of a file can be read."""

    name: str
    classes: tuple[str, ...]
    frames: tuple[Frame, ...]
    md5_of: Mapping[str, str]
    path_of: Callable[[str], Path]
    form: LabelForm = BOXES

    def boxes(self, frame: Frame) -> tuple[NamedBox, ...]:
        """The boxes of a frame. Lines that are no boxes are left out: the gate judges them, not a comparison."""
        if frame.label not in self.md5_of:
            return ()
        boxes, _ = read_labels(self.path_of(frame.label), self.classes, frame.label, self.form)
        return tuple(NamedBox(self.classes[box.class_id], (box.cx, box.cy, box.w, box.h)) for box in boxes)


def read_snapshot(name: str, md5_of: Mapping[str, str], path_of: Callable[[str], Path]) -> Snapshot:
    """Read classes and frames of the version `name`; label files are read when asked for, images not at all.

    Args:
        name: How messages call the version.
        md5_of: Every file of the version, relative to the dataset, with the md5 of its content.
        path_of: Where the content of one of them lies.

    Raises:
        DataError: data.yaml or frames.csv is missing or malformed.
    """
    with tempfile.TemporaryDirectory() as folder:
        for file in (DATA_YAML, FRAMES_CSV):
            if file in md5_of:
                shutil.copyfile(path_of(file), Path(folder) / file)
        try:
            read = read_dataset(Path(folder))
        except DataError as error:
            raise DataError(f"{name}: {error.message.replace(f'{folder}/', '')}", error.remedy) from None
    return Snapshot(name, read.classes, read.frames, md5_of, path_of, read.form)

"""The folder a dataset lies in: data.yaml, frames.csv, images/ and labels/ by split."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from flows.errors import DataError
from flows.label_forms import BOXES, LabelForm, form_of

SPLITS = ("train", "val", "test")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
FRAME_COLUMNS = ("image", "split", "camera", "clip", "time", "slice")
DATA_YAML = "data.yaml"
TASK_KEYS = ("task", "kpt_shape", "flip_idx", "kpt_names")
FRAMES_CSV = "frames.csv"
_NAMES_REMEDY = "Expected `names: [car, truck, ...]` or `names: {0: car, 1: truck, ...}`"
MAKE_DATA = "Draw the demo data with `tca data render`, or bring your own with `tca data import yolo PATH`"


@dataclass(frozen=True)
class Frame:
    """One row of frames.csv.

    `image` is relative to the dataset root ("images/train/cam01_c03_0004.jpg"), `time` is ISO-8601 with a zone or
    empty, `clip` is unique within its camera.
    """

    image: str
    split: str
    camera: str
    clip: str
    time: str
    slice: str

    @property
    def label(self) -> str:
        """Path of the label file, relative to the dataset root ("labels/train/cam01_c03_0004.txt")."""
        path = PurePosixPath(self.image)
        return str(PurePosixPath("labels", *path.parts[1:]).with_suffix(".txt"))


@dataclass(frozen=True)
class Dataset:
    """Where the data lie, their classes in the order of their ids, their frames, and how their labels are written."""

    root: Path
    classes: tuple[str, ...]
    frames: tuple[Frame, ...]
    form: LabelForm = BOXES

    def split(self, name: str) -> tuple[Frame, ...]:
        """The frames of one split, in the order of frames.csv."""
        return tuple(frame for frame in self.frames if frame.split == name)


def read_dataset(root: Path) -> Dataset:
    """Read data.yaml and frames.csv; images and labels are not opened.

    Raises:
        DataError: The folder, data.yaml or frames.csv is missing or malformed; the message names file and line.
    """
    if not root.is_dir():
        raise DataError(f"there is no dataset at {root}", MAKE_DATA)
    for path in (root / DATA_YAML, root / FRAMES_CSV):
        if path.is_fifo():  # reading it would wait for ever
            raise DataError(f"{path} is a named pipe", f"Expected a file. {MAKE_DATA}")
    classes = read_classes(root / DATA_YAML)
    return Dataset(root, classes, _read_frames(root / FRAMES_CSV), read_form(root / DATA_YAML))


def read_classes(path: Path) -> tuple[str, ...]:
    """Read `names` of a data.yaml, a list or a mapping of id to name. Raises DataError."""
    tree = _read_tree(path)
    names = tree.get("names") if isinstance(tree, dict) else None
    return _class_names(path, names, _NAMES_REMEDY)


def read_form(path: Path) -> LabelForm:
    """How the labels are written, by `task` and `kpt_shape` of a data.yaml; boxes without. Raises DataError."""
    return form_of(_read_tree(path), path)


def _read_tree(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, IsADirectoryError):
        raise DataError(f"{path} is missing", f"It names the classes. {MAKE_DATA}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start})", "Save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not YAML: {' '.join(str(error).split())}", _NAMES_REMEDY) from None


def _class_names(path: Path, names: Any, remedy: str) -> tuple[str, ...]:
    if isinstance(names, dict):
        if not all(isinstance(key, int) for key in names) or sorted(names) != list(range(len(names))):
            raise DataError(f"{path}: names has the ids {list(names)}, which do not count up from 0", remedy)
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{path}: names no classes", remedy)
    if logical := [name for name in names if isinstance(name, bool)]:
        raise DataError(f"{path}: YAML reads a class name as {logical[0]}", 'Put it in quotes, e.g. "no"')
    texts = ["" if name is None else str(name).strip() for name in names]
    if empty := [index for index, text in enumerate(texts) if not text]:
        raise DataError(f"{path}: the name of class {empty[0]} is empty", remedy)
    if twice := sorted({text for text in texts if texts.count(text) > 1}):
        raise DataError(f"{path}: names {twice[0]!r} twice", "Each class needs its own name")
    return tuple(texts)


def _read_frames(path: Path) -> tuple[Frame, ...]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header = next(reader, [])
            if tuple(header) != FRAME_COLUMNS:
                raise DataError(
                    f"{path}:1: the header is {','.join(header)!r}", f"Expected `{','.join(FRAME_COLUMNS)}`"
                )
            frames = tuple(_frame(path, reader.line_num, row) for row in reader if row)
    except (FileNotFoundError, IsADirectoryError):
        raise DataError(f"{path} is missing", f"It lists the frames with their cameras. {MAKE_DATA}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start})", "Save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path} is not CSV: {error}", f"Expected `{','.join(FRAME_COLUMNS)}`") from None
    return _without_repetition(path, frames)


def _frame(path: Path, line: int, row: Sequence[str]) -> Frame:
    where = f"{path}:{line}"
    if len(row) != len(FRAME_COLUMNS):
        raise DataError(f"{where}: {len(row)} columns", f"Expected {len(FRAME_COLUMNS)}: {','.join(FRAME_COLUMNS)}")
    frame = Frame(*row)
    if frame.split not in SPLITS:
        raise DataError(f"{where}: split {frame.split!r}", f"Expected one of {', '.join(SPLITS)}")
    parts = PurePosixPath(frame.image).parts
    if len(parts) < 3 or parts[:2] != ("images", frame.split) or ".." in parts or "\x00" in frame.image:
        raise DataError(f"{where}: image {frame.image!r} lies elsewhere", f"Expected images/{frame.split}/NAME.jpg")
    return frame


def _without_repetition(path: Path, frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    if not frames:
        raise DataError(f"{path} lists no frames", MAKE_DATA)
    owners: dict[str, Frame] = {}
    for frame in frames:
        if (first := owners.setdefault(frame.label, frame)) is not frame:
            raise DataError(
                f"{path}: {first.image} and {frame.image} would share the label file {frame.label}",
                "List each image once, and give images different names",
            )
    return frames


def write_frames(root: Path, frames: Iterable[Frame]) -> None:
    """Write frames.csv into `root`, replacing the file rather than writing through a link to a cache."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / FRAMES_CSV
    temporary = path.with_name(f".{path.name}.part")
    rows = [[getattr(frame, column) for column in FRAME_COLUMNS] for frame in frames]
    # The writer leaves a bare carriage return unquoted, and the reader takes it for the end of a line.
    needs_quotes = any("\r" in cell for row in rows for cell in row)
    with temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL if needs_quotes else csv.QUOTE_MINIMAL)
        writer.writerow(FRAME_COLUMNS)
        writer.writerows(rows)
    temporary.replace(path)


def write_data_yaml(root: Path, classes: Sequence[str], task_keys: Mapping[str, Any] | None = None) -> None:
    """Write data.yaml into `root`: the class names, and the split folders where Ultralytics looks for them.

    `task_keys` are further keys that say what the labels are: those of `TASK_KEYS`.
    """
    tree = {"names": list(classes), **(task_keys or {}), **{split: f"images/{split}" for split in SPLITS}}
    root.mkdir(parents=True, exist_ok=True)
    path = root / DATA_YAML
    temporary = path.with_name(f".{path.name}.part")
    readable = all(name.isprintable() for name in classes)  # others must be escaped, or YAML takes them for line ends
    temporary.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=readable), encoding="utf-8")
    temporary.replace(path)

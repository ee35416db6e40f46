"""Frames that have a class as a whole, in the folders that Ultralytics reads classification data from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import yaml

from flows.errors import DataError

_FOLDERS_ARE_IDS = ".ndjson.yaml"


def read_frame_class(label: Path, num_classes: int) -> int:
    """The class id of a frame: the one whole number of its label file.

    Raises:
        DataError: The file is missing, or holds something else than the id of a class.
    """
    expected = f"Expected one line with a class id, 0 to {num_classes - 1}. Run: tca validate"
    try:
        words = label.read_text(encoding="utf-8-sig").split()
    except FileNotFoundError:
        raise DataError(f"{label} is missing", expected) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{label} cannot be read: {error}", expected) from None
    if len(words) != 1 or not words[0].isascii() or not words[0].isdigit() or int(words[0]) >= num_classes:
        raise DataError(f"{label} holds {' '.join(words)[:40]!r}", expected)
    return int(words[0])


def place_in_class_folder(mirror: Path, split: str, image: str, class_id: int) -> Path:
    """Where the image `image` (relative to its dataset) goes: <mirror>/<split>/<class id>/<path within the split>."""
    inside = PurePosixPath(image).parts[2:]
    return mirror.joinpath(split, str(class_id), *inside)


def name_folders_by_id(mirror: Path, classes: Sequence[str] = ()) -> None:
    """Make Ultralytics take the folders' names for class ids; its validator also wants the names of the classes.

    Otherwise it looks for folders with the names of the classes, which may hold slashes, and numbers those of a split
    itself when it finds none.
    """
    mirror.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump({"names": dict(enumerate(classes))})
    (mirror / _FOLDERS_ARE_IDS).write_text(text, encoding="utf-8")

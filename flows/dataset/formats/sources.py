"""What a user's set holds, whatever its format: the common ground of the three readers."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from flows.dataset.layout import IMAGE_SUFFIXES
from flows.errors import DataError

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class SourceFrame:
    """An image of the user's set.

    `name` is its path relative to the source folder, `split` what folders or lists say about it (None: nothing), and
    `label_bytes` the content of its YOLO label file (None: not labelled).
    """

    path: Path
    name: str
    split: str | None
    label_bytes: bytes | None


@dataclass(frozen=True)
class SourceSet:
    """A user's set as read: its classes in the order of their ids, its frames, and what did not fit."""

    classes: tuple[str, ...]
    frames: tuple[SourceFrame, ...]
    missing_images: tuple[str, ...] = ()  # annotated, but not there
    warnings: tuple[str, ...] = ()
    task_keys: Mapping[str, Any] = field(default_factory=dict)  # of its data.yaml, where labels are no boxes


def split_of_words(text: str) -> str | None:
    """The split that a word of `text` names ("instances_val2017" -> "val"), or None."""
    for word in re.findall(r"[a-z]+", text.lower()):
        if word in SPLIT_WORDS:
            return SPLIT_WORDS[word]
    return None


def split_of_folders(name: str) -> str | None:
    """The split that a folder in the relative path `name` is called after, the innermost first, or None."""
    for part in reversed(PurePosixPath(name).parts[:-1]):
        if found := SPLIT_WORDS.get(re.sub(r"\d+$", "", part.lower())):
            return found
    return None


def walk_files(source: Path) -> Iterator[Path]:
    """All files below `source` in a fixed order, hidden ones left out; links to folders are not followed."""
    for where, folders, names in os.walk(source):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(where) / name


class ImageIndex:
    """The images below a folder, to be found by however much of their path an annotation tells."""

    def __init__(self, source: Path) -> None:
        """Raises DataError if the folder is missing, unreadable or holds no image."""
        if not source.is_dir():
            raise DataError(f"{source} is not a folder", "Give the folder that holds images and annotations")
        self.source = source
        self.paths = [path for path in walk_files(source) if path.suffix.lower() in IMAGE_SUFFIXES]
        if not self.paths:
            raise DataError(f"no image lies below {source}", f"Expected files ending in {' '.join(IMAGE_SUFFIXES)}")
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in self.paths:
            self._by_name[path.name].append(path)

    def name(self, path: Path) -> str:
        """Path of an image relative to the source folder."""
        return path.relative_to(self.source).as_posix()

    def find(self, told: str, annotation: Path, split: str | None, suffixes: Sequence[str] = ()) -> Path | None:
        """The image that the annotation file calls `told`; None if there is none.

        Of several, the one beside the annotation file, or the one in a folder called after `split`, is meant.

        Args:
            told: A file name or a path of which the last parts fit.
            annotation: The file that tells it.
            split: The split that the annotation file is about.
            suffixes: Endings to add, if `told` is a name without one.

        Raises:
            DataError: Several images fit equally well.
        """
        parts = PurePosixPath(told.replace("\\", "/")).parts
        last = parts[-1] if parts else ""
        names = (last, *(last + suffix for suffix in suffixes))
        named = [path for name in names for path in self._by_name.get(name, [])]
        for length in range(len(parts) - 1, 0, -1):  # the longest stretch of the told path that fits any image
            longer = [path for path in named if path.parts[-length - 1 : -1] == parts[-length - 1 : -1]]
            if longer:
                named = longer
                break
        return self._only(named, told, annotation, split)

    def _only(self, named: list[Path], told: str, annotation: Path, split: str | None) -> Path | None:
        if len(named) > 1:
            beside = [path for path in named if path.is_relative_to(annotation.parent)]
            named = beside if len(beside) == 1 else named
        if len(named) > 1 and split:
            same = [path for path in named if split_of_folders(self.name(path)) == split]
            named = same if len(same) == 1 else named
        if len(named) > 1:
            raise DataError(
                f"{annotation}: {told!r} may be {self.name(named[0])} or {self.name(named[1])}",
                "Give images different names, or write their folder into the annotation",
            )
        return named[0] if named else None

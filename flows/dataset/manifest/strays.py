"""Files without a partner: label files that no frame has, images that frames.csv does not list."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePosixPath

from flows.dataset.layout import IMAGE_SUFFIXES, Dataset
from flows.dataset.manifest.reading import printable
from flows.dataset.manifest.shards import label_path

ProblemRow = tuple[str, int, str, str]


def find_strays(dataset: Dataset, folder: str) -> list[ProblemRow]:
    """Rows of the problems table about files that belong to nothing, and folders that nobody can look into.

    Args:
        dataset: What frames.csv lists.
        folder: How people call the root.
    """
    labels = {label_path(frame) for frame in dataset.frames}
    images = {frame.image for frame in dataset.frames}
    root = str(dataset.root)
    rows = [
        *_strays(root, "labels", (".txt",), labels, "label_orphan", "belongs to no frame of frames.csv"),
        *_strays(root, "images", IMAGE_SUFFIXES, images, "image_unlisted", "frames.csv does not list this image"),
    ]
    return [(str(PurePosixPath(folder, printable(relative))), 0, check, message) for relative, check, message in rows]


def _strays(
    root: str, folder: str, suffixes: tuple[str, ...], wanted: set[str], check: str, message: str
) -> Iterator[tuple[str, str, str]]:
    for relative, error in walk_files(root, folder):
        if error:
            yield relative, check, f"this folder cannot be read: {error}"
        elif relative not in wanted and relative.lower().endswith(suffixes):
            yield relative, check, message


def walk_files(root: str, folder: str) -> Iterator[tuple[str, str]]:
    """Files below `root`/`folder` in order, relative to root; a folder that cannot be read comes with the reason.

    Links to folders are followed, each folder is entered once: a link back to a folder above ends there. Names that
    begin with a dot are no concern of ours.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            found = os.stat(f"{root}/{current}")  # noqa: PTH116
            if (found.st_dev, found.st_ino) in seen:
                continue
            seen.add((found.st_dev, found.st_ino))
            with os.scandir(f"{root}/{current}") as entries:
                listing = sorted((entry.name, _is_folder(entry)) for entry in entries if entry.name[:1] != ".")
        except FileNotFoundError:
            continue
        except OSError as error:
            yield current, error.strerror or type(error).__name__
            continue
        yield from ((f"{current}/{name}", "") for name, is_folder in listing if not is_folder)
        waiting += [f"{current}/{name}" for name, is_folder in reversed(listing) if is_folder]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False

"""Reads sets in the YOLO format: a text file per image, the class names in data.yaml or a list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from flows.dataset.formats.sources import ImageIndex, SourceFrame, SourceSet, split_of_folders, walk_files
from flows.dataset.layout import DATA_YAML, TASK_KEYS, read_classes
from flows.errors import DataError
from flows.label_forms import form_of

_NAME_LISTS = ("obj.names", "classes.names", "classes.txt")
_NO_LABELS = (*_NAME_LISTS, "train.txt", "val.txt", "valid.txt", "test.txt", "notes.txt", "readme.txt")


def read_yolo(source: Path) -> SourceSet:
    """Read a set in any of the usual YOLO layouts.

    images/train with labels/train, train/images with train/labels, images with labels, or labels beside the images.
    Label files are taken over as they are: judging their lines is the work of the validation.

    Raises:
        DataError: No images, no class names, or no label file for any image.
    """
    index = ImageIndex(source)
    classes = _classes(source)
    frames, used = [], set()
    for path in index.paths:
        label = next((place for place in label_places(path, source) if place.is_file()), None)
        content = None if label is None else label.read_bytes()
        used.add(label)
        name = index.name(path)
        frames.append(SourceFrame(path, name, split_of_folders(name), content))
    if used == {None}:
        raise DataError(
            f"none of the {len(frames):,} images below {source} has a label file",
            f"Expected e.g. {label_places(index.paths[0], source)[0].relative_to(source)}",
        )
    orphans = [path for path in walk_files(source) if _is_label(path, source) and path not in used]
    missing = tuple(path.relative_to(source).as_posix() for path in orphans)
    return SourceSet(classes, tuple(frames), missing, task_keys=_task_keys(source))


def label_places(image: Path, source: Path) -> list[Path]:
    """Where the label file of an image may lie: in the labels folder that mirrors its images folder, or beside it."""
    parts = list(image.relative_to(source).with_suffix(".txt").parts)
    places = []
    for position in range(len(parts) - 2, -1, -1):
        if parts[position].lower() == "images":
            places.append(source.joinpath(*parts[:position], "labels", *parts[position + 1 :]))
    return [*places, image.with_suffix(".txt")]


def _is_label(path: Path, source: Path) -> bool:
    """Whether a file can only be a label file: text in a folder called labels."""
    folders = path.relative_to(source).parts[:-1]
    return path.suffix == ".txt" and path.name.lower() not in _NO_LABELS and "labels" in folders


def _classes(source: Path) -> tuple[str, ...]:
    if (source / DATA_YAML).is_file():
        return read_classes(source / DATA_YAML)
    listed = [path for path in sorted(source.glob("*.y*ml")) if _has_names(path)]
    if len(listed) > 1:
        raise DataError(
            f"both {listed[0]} and {listed[1].name} name classes", f"Call the right one {source / DATA_YAML}"
        )
    if listed:
        return read_classes(listed[0])
    for path in sorted(walk_files(source), key=lambda path: (len(path.parts), str(path))):
        if path.name.lower() in _NAME_LISTS:
            return _read_list(path)
    raise DataError(
        f"{source / DATA_YAML} is missing, and so are obj.names and classes.txt",
        "It names the classes: write `names: [car, truck, ...]` in the order of their ids",
    )


def _task_keys(source: Path) -> dict[str, Any]:
    """What data.yaml says about labels that are no boxes. Raises DataError where that cannot be."""
    path = source / DATA_YAML
    if not path.is_file():
        return {}
    tree = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    form_of(tree, path)
    return {key: tree[key] for key in TASK_KEYS if key in tree}


def _has_names(path: Path) -> bool:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return False
    return isinstance(tree, dict) and "names" in tree


def _read_list(path: Path) -> tuple[str, ...]:
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start})", "Save it as UTF-8") from None
    while names and not names[-1]:
        names.pop()
    if not names or "" in names or len(set(names)) < len(names):
        raise DataError(f"{path} must name one class a line, each once and none empty", "Line 1 is class 0")
    return tuple(names)

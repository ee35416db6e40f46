"""Reads sets in the COCO format: JSON files with images, annotations and categories."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.dataset.formats.sources import (
    ImageIndex,
    SourceFrame,
    SourceSet,
    split_of_folders,
    split_of_words,
    walk_files,
)
from flows.dataset.labels import LabelBox, format_labels
from flows.errors import DataError
from flows.geometry import xyxy_to_xywhn

_EXPECTED = "Expected a COCO detection file: lists `images`, `annotations` and `categories`"


@dataclass(frozen=True)
class _CocoFile:
    path: Path
    split: str | None
    images: list[Any]
    annotations: list[Any]
    categories: dict[int, str]  # in the order of their ids


def read_coco(source: Path) -> SourceSet:
    """Read all COCO files below a folder, e.g. annotations/instances_train.json or train/_annotations.coco.json.

    Categories get contiguous ids in the order of theirs; those that nothing is annotated with are left out. Crowd
    regions are left out, too: they are no single objects. Boxes are taken over unclipped.

    Raises:
        DataError: No images, no COCO file, a malformed one (with position), or one that contradicts itself.
    """
    index = ImageIndex(source)
    files = [_parse(path) for path in walk_files(source) if path.suffix.lower() == ".json"]
    sets = [file for file in files if file is not None]
    if not sets:
        raise DataError(f"no COCO file lies below {source}", _EXPECTED)
    counts = Counter(name for file in sets for name in _annotated(file))
    classes = tuple(dict.fromkeys(name for file in sets for name in file.categories.values() if counts[name]))
    if not classes:
        raise DataError(f"the COCO files below {source} hold no annotation", "Export the set with its annotations")
    missing: list[str] = []
    frames = _frames(sets, index, classes, missing)
    unlisted = [(path, index.name(path)) for path in index.paths if path not in frames]
    unlabelled = [SourceFrame(path, name, split_of_folders(name), None) for path, name in unlisted]
    return SourceSet(classes, (*frames.values(), *unlabelled), tuple(missing), tuple(_warnings(sets, counts)))


def _frames(
    sets: list[_CocoFile], index: ImageIndex, classes: tuple[str, ...], missing: list[str]
) -> dict[Path, SourceFrame]:
    """The annotated images by their path; what is annotated but not there goes into `missing`."""
    frames: dict[Path, SourceFrame] = {}
    for file in sets:
        for path, label in _labelled_images(file, index, classes, missing):
            name = index.name(path)
            if path in frames:
                raise DataError(f"{file.path}: {name} was listed before", "Keep one annotation file for each image")
            frames[path] = SourceFrame(path, name, file.split or split_of_folders(name), label.encode())
    return frames


def _parse(path: Path) -> _CocoFile | None:
    """The content of a COCO file; None for JSON that is about something else."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}:{error.colno}: malformed JSON: {error.msg}", "Export the annotations again"
        ) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not JSON text: {error}", _EXPECTED) from None
    if not isinstance(tree, dict) or not {"images", "annotations", "categories"} <= set(tree):
        return None
    for key in ("images", "annotations", "categories"):
        if not isinstance(tree[key], list):
            raise DataError(f"{path}: {key!r} is no list", _EXPECTED)
    categories = {}
    for item in tree["categories"]:
        categories[_field(path, "category", item, "id", int)] = _field(path, "category", item, "name", str)
    if len(set(categories.values())) < len(tree["categories"]):
        raise DataError(f"{path}: two categories share an id or a name", "Give each category its own")
    split = split_of_words(path.stem) or split_of_folders(f"{path.parent.name}/x")
    return _CocoFile(path, split, tree["images"], tree["annotations"], dict(sorted(categories.items())))


def _annotated(file: _CocoFile) -> list[str]:
    """Category names of the annotations of single objects."""
    names = []
    for item in file.annotations:
        category = _field(file.path, "annotation", item, "category_id", int)
        if category not in file.categories:
            raise DataError(
                f"{file.path}: annotation {item.get('id')} has the category {category}, which is not listed",
                f"Known: {', '.join(f'{key} {name}' for key, name in file.categories.items())}",
            )
        if not item.get("iscrowd"):
            names.append(file.categories[category])
    return names


def _labelled_images(
    file: _CocoFile, index: ImageIndex, classes: tuple[str, ...], missing: list[str]
) -> list[tuple[Path, str]]:
    """Path and label text of each image that is there; the names of the others go into `missing`."""
    boxes: dict[int, list[Any]] = {_field(file.path, "image", item, "id", int): [] for item in file.images}
    for item in file.annotations:
        image_id = _field(file.path, "annotation", item, "image_id", int)
        if image_id not in boxes:
            missing.append(f"{file.path.name}: annotation {item.get('id')} of image id {image_id}, which is not listed")
        elif not item.get("iscrowd"):
            boxes[image_id].append(item)
    found = []
    for image in file.images:
        told = _field(file.path, "image", image, "file_name", str)
        path = index.find(told, file.path, file.split)
        if path is None:
            missing.append(told)
            continue
        size_wh = _size_wh(file.path, image)
        rows = [_box(file, item, classes, size_wh) for item in boxes[image["id"]]]
        found.append((path, format_labels(rows)))
    return found


def _size_wh(path: Path, image: dict[str, Any]) -> tuple[float, float]:
    width, height = (_field(path, "image", image, side, int, float) for side in ("width", "height"))
    if not min(width, height) >= 1:
        raise DataError(f"{path}: image {image['file_name']!r} has the size {width} x {height} px", _EXPECTED)
    return width, height


def _box(file: _CocoFile, item: dict[str, Any], classes: tuple[str, ...], size_wh: tuple[float, float]) -> LabelBox:
    bbox = item.get("bbox")
    numbers = bbox if isinstance(bbox, list) else []
    if len(numbers) != 4 or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in numbers):
        raise DataError(
            f"{file.path}: annotation {item.get('id')} has the bbox {bbox!r}",
            "Expected [x, y, width, height] in pixels",
        )
    x, y, width, height = (float(value) for value in numbers)
    cx, cy, w, h = xyxy_to_xywhn([[x, y, x + width, y + height]], size_wh)[0].tolist()
    return LabelBox(classes.index(file.categories[item["category_id"]]), cx, cy, w, h)


def _field(path: Path, what: str, item: Any, key: str, *kinds: type) -> Any:
    value = item.get(key) if isinstance(item, dict) else None
    if not isinstance(value, kinds) or isinstance(value, bool):
        shown = item.get("id", "without id") if isinstance(item, dict) else repr(item)[:40]
        raise DataError(f"{path}: {what} {shown} has the {key} {value!r}", _EXPECTED)
    return value


def _warnings(sets: list[_CocoFile], counts: Counter[str]) -> list[str]:
    unused = sorted({name for file in sets for name in file.categories.values() if not counts[name]})
    crowds = sum(bool(item.get("iscrowd")) for file in sets for item in file.annotations)
    warnings = []
    if unused:
        warnings.append(f"{len(unused)} categories without annotations were left out: {', '.join(unused[:10])}")
    if crowds:
        warnings.append(f"{crowds} crowd regions were left out: they are no single objects")
    return warnings

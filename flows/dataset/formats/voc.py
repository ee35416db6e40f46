"""Reads sets in the Pascal VOC format: an XML file per image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from flows.dataset.formats.sources import SPLIT_WORDS, ImageIndex, SourceFrame, SourceSet, split_of_folders, walk_files
from flows.dataset.labels import LabelBox, format_labels
from flows.dataset.layout import IMAGE_SUFFIXES
from flows.errors import DataError
from flows.geometry import xyxy_to_xywhn

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class _VocFile:
    path: Path
    told: str
    size_wh: tuple[float, float]
    objects: list[tuple[str, list[float]]]  # name, corners in pixels


def read_voc(source: Path) -> SourceSet:
    """Read all VOC files below a folder; classes are the names that occur, sorted.

    Splits come from ImageSets/Main/{train,val,test}.txt or from folders. Corners are taken as pixel coordinates from 0,
    as today's tools write them; the 2007 data count from 1, which shifts a box by one pixel.

    Raises:
        DataError: No images, no VOC file, or a malformed one, with file and position.
    """
    index = ImageIndex(source)
    parsed = [_parse(path) for path in walk_files(source) if path.suffix.lower() == ".xml"]
    files = [file for file in parsed if file is not None]
    if not files:
        raise DataError(f"no VOC file lies below {source}", "Expected XML files with the root <annotation>")
    classes = tuple(sorted({name for file in files for name, _ in file.objects}))
    if not classes:
        raise DataError(f"the VOC files below {source} hold no <object>", "Export the set with its annotations")
    listed = _image_sets(source)
    frames: dict[Path, SourceFrame] = {}
    missing = []
    for file in files:
        split = listed.get(file.path.stem) or split_of_folders(file.path.relative_to(source).as_posix())
        path = index.find(file.told, file.path, split) or index.find(file.path.stem, file.path, split, IMAGE_SUFFIXES)
        if path is None:
            missing.append(f"{file.told} (annotated by {file.path.relative_to(source).as_posix()})")
        elif path in frames:
            raise DataError(f"{file.path}: {index.name(path)} is annotated by another file, too", "Keep one of them")
        else:
            frames[path] = _frame(index, path, split, format_labels(_boxes(file, classes)).encode())
    unlabelled = [_frame(index, path, listed.get(path.stem), None) for path in index.paths if path not in frames]
    return SourceSet(classes, (*frames.values(), *unlabelled), tuple(missing))


def _frame(index: ImageIndex, path: Path, split: str | None, label: bytes | None) -> SourceFrame:
    name = index.name(path)
    return SourceFrame(path, name, split or split_of_folders(name), label)


def _parse(path: Path) -> _VocFile | None:
    """The content of a VOC file; None for XML that is about something else."""
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        line, column = error.position
        raise DataError(f"{path}:{line}:{column + 1}: malformed XML: {error}", "Export the annotations again") from None
    if root.tag != "annotation":
        return None
    told = (root.findtext("filename") or "").strip() or path.stem
    size_wh = (_number(path, root, "size/width"), _number(path, root, "size/height"))
    if min(size_wh) < 1:
        raise DataError(f"{path}: <size> is {size_wh[0]:g} x {size_wh[1]:g} px", "Write the size of the image into it")
    objects = []
    for item in root.iterfind("object"):
        name = (item.findtext("name") or "").strip()
        if not name:
            raise DataError(f"{path}: an <object> has no <name>", "Name its class")
        objects.append((name, [_number(path, item, f"bndbox/{corner}") for corner in _CORNERS]))
    return _VocFile(path, told, size_wh, objects)


def _number(path: Path, element: ElementTree.Element, tag: str) -> float:
    text = element.findtext(tag)
    try:
        return float(text or "")
    except ValueError:
        shown = "is missing" if text is None else f"is {text!r}"
        raise DataError(f"{path}: <{tag.replace('/', '><')}> {shown}", "Expected a number of pixels") from None


def _boxes(file: _VocFile, classes: tuple[str, ...]) -> list[LabelBox]:
    fractions = xyxy_to_xywhn([corners for _, corners in file.objects], file.size_wh)
    return [
        LabelBox(classes.index(name), *row) for (name, _), row in zip(file.objects, fractions.tolist(), strict=True)
    ]


def _image_sets(source: Path) -> dict[str, str]:
    """Split by image name, from the lists in ImageSets/Main."""
    splits: dict[str, str] = {}
    for path in sorted(source.rglob("ImageSets/Main/*.txt")):
        split = SPLIT_WORDS.get(path.stem.lower())
        for line in path.read_text(encoding="utf-8-sig").splitlines() if split else ():
            if (name := line.strip()) and splits.setdefault(name, str(split)) != split:
                raise DataError(f"{path}: {name!r} is in {splits[name]}, too", "An image belongs to one split")
    return splits

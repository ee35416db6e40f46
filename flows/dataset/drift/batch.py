"""A folder of images that is not imported yet, as one side of a drift measurement; with YOLO labels or without."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from flows.dataset.drift.samples import BOX_COLUMNS, CLASS_PREFIX, Sample, describe_frames
from flows.dataset.formats.framing import UNKNOWN_CAMERA, frames_of
from flows.dataset.formats.mapping import Mapping, no_mapping
from flows.dataset.formats.sources import ImageIndex, SourceFrame, SourceSet
from flows.dataset.formats.yolo import label_places
from flows.dataset.layout import DATA_YAML, Dataset, Frame, read_classes, read_form
from flows.dataset.manifest.manifest import Manifest, build_manifest
from flows.errors import DataError
from flows.label_forms import BOXES, LabelForm
from flows.progress import Progress, silent

_NO_SLICE = "-"


def batch_sample(
    folder: Path,
    classes: Sequence[str],
    cameras: Collection[str] = (),
    mapping: Mapping = no_mapping,
    progress: Progress = silent,
) -> Sample:
    """Inspect a folder of images as the manifest does, without copying any.

    Args:
        folder: Images at any depth; label files in a `labels` folder that mirrors `images`, or beside the images.
        classes: Names of the classes, unless the folder has a data.yaml of its own.
        cameras: Known cameras: one that stands in the path of an image, between other characters than letters and
            digits, is taken for its camera where the mapping names none.
        mapping: What names tell about images.
        progress: Told after every image.

    Raises:
        DataError: There is no such folder, or no readable image in it; or data.yaml or the mapping is wrong.
    """
    index, form = ImageIndex(folder), BOXES
    if (folder / DATA_YAML).is_file():
        classes, form = read_classes(folder / DATA_YAML), read_form(folder / DATA_YAML)
    sources = tuple(_source(path, index) for path in index.paths)
    rows, _ = frames_of(SourceSet(tuple(classes), sources), _facts(mapping, cameras), seed=0, resplit=True)
    manifest = _inspect(sources, rows, classes, form, progress)
    return _sample(folder, manifest, dict(zip((row.image for row in rows), sources, strict=True)))


def known_camera(name: str, cameras: Iterable[str]) -> str | None:
    """The longest of `cameras` that stands in a path, between other characters than letters and digits."""
    found = [
        camera
        for camera in cameras
        if camera and re.search(rf"(?<![A-Za-z0-9]){re.escape(camera)}(?![A-Za-z0-9])", name)
    ]
    return max(found, key=len, default=None)


def _facts(mapping: Mapping, cameras: Collection[str]) -> Mapping:
    def facts(name: str) -> dict[str, str]:
        told = mapping(name)
        camera = told.get("camera") or known_camera(name, cameras) or UNKNOWN_CAMERA
        return {**told, "camera": camera, "slice": told.get("slice") or _NO_SLICE}

    return facts


def _source(path: Path, index: ImageIndex) -> SourceFrame:
    label = next((place for place in label_places(path, index.source) if place.is_file()), None)
    return SourceFrame(path, index.name(path), None, None if label is None else label.read_bytes())


def _inspect(
    sources: Sequence[SourceFrame],
    rows: Sequence[Frame],
    classes: Sequence[str],
    form: LabelForm,
    progress: Progress,
) -> Manifest:
    """The manifest of a layout that consists of links."""
    with tempfile.TemporaryDirectory(prefix="tca-batch-") as temporary:
        root = Path(temporary)
        for source, row in zip(sources, rows, strict=True):
            for place in (root / row.image, root / row.label):
                place.parent.mkdir(parents=True, exist_ok=True)
            (root / row.image).symlink_to(source.path.resolve())
            (root / row.label).write_bytes(source.label_bytes or b"")
        return build_manifest(Dataset(root, tuple(classes), tuple(rows), form), progress=progress)


def _sample(folder: Path, manifest: Manifest, sources: dict[str, SourceFrame]) -> Sample:
    readable = manifest.images["readable"].to_numpy()
    images = manifest.images[readable]
    if not len(images):
        raise DataError(f"none of the {len(readable):,} images below {folder} can be read", "Name another folder")
    frames = describe_frames(images, manifest.boxes)
    frames["slice"] = frames["slice"].where(frames["slice"] != _NO_SLICE, "")
    unlabelled = [sources[image].label_bytes is None for image in images["image"]]
    boxes = [name for name in frames.columns if name in BOX_COLUMNS or name.startswith(CLASS_PREFIX)]
    frames.loc[unlabelled, boxes] = float("nan")
    notes = []
    if all(unlabelled):
        notes.append(f"{folder.name} has no labels: boxes were not compared")
    if len(images) < len(readable):
        notes.append(f"{len(readable) - len(images):,} images of {folder.name} cannot be read and are left out")
    if wrong := int(manifest.problems["check"].isin(("label_syntax", "label_class")).sum()):
        notes.append(f"{wrong:,} label lines of {folder.name} cannot be read and are left out")
    return Sample(
        folder.name,
        frames,
        manifest.thumbnails[readable],
        tuple(sources[image].path for image in images["image"]),
        tuple(notes),
    )

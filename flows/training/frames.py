"""The frames as Ultralytics gets them: a mirror of links that it may litter, and the shape of the network's input."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from flows.errors import DataError
from flows.params_train import Task
from flows.training.class_folders import name_folders_by_id, place_in_class_folder, read_frame_class

STRIDE = 32
TRAINING_SPLITS = ("train", "val")
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


class LabelledFrame(Protocol):
    """Paths of an image and of its labels, relative to the dataset's root."""

    @property
    def image(self) -> str: ...

    @property
    def label(self) -> str: ...


class LabelledFrames(Protocol):
    """A dataset as training needs it; the dataset room has the real one."""

    @property
    def root(self) -> Path: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    def split(self, name: str) -> Sequence[LabelledFrame]:
        """The frames of one split."""


def require_splits(dataset: LabelledFrames) -> None:
    """Raise DataError unless there are frames to train on and frames to validate on."""
    for split in TRAINING_SPLITS:
        if not dataset.split(split):
            raise DataError(f"{dataset.root.name} has no frames in {split}", "Training needs the splits train and val")


def mirror_frames(dataset: LabelledFrames, mirror: Path, task: Task = "detect") -> None:
    """Link the training and validation frames into `mirror`, in the layout that Ultralytics reads for the task.

    Ultralytics writes caches beside labels and images and rewrites JPEGs that lack their end marker in place: through
    the mirror none of that reaches the versioned data. Such JPEGs are copied, not linked.

    Raises:
        DataError: An image or label file is missing, or a frame to classify has no class.
    """
    if task == "classify":
        name_folders_by_id(mirror)
    for split in TRAINING_SPLITS:
        for frame in dataset.split(split):
            image, label = dataset.root / frame.image, dataset.root / frame.label
            if task == "classify":
                class_id = read_frame_class(label, len(dataset.classes))
                _link(image, place_in_class_folder(mirror, split, frame.image, class_id))
            else:
                _link(image, mirror / frame.image)
                _link(label, mirror / frame.label)


def input_size_wh(sizes_wh: Iterable[tuple[int, int]], image_size: int) -> tuple[int, int]:
    """Width and height of the network's input, px: no row of pixels is computed that no frame would fill.

    The long side is `image_size`. Where all frames have one shape, the short side is the least multiple of 32 that
    holds them; frames of several shapes need the square.
    """
    fitted = {_fit(size_wh, image_size) for size_wh in sizes_wh}
    return fitted.pop() if len(fitted) == 1 else (image_size, image_size)


def read_sizes_wh(dataset: LabelledFrames) -> list[tuple[int, int]]:
    """Width and height of the training and validation images, from their headers. Raises DataError."""
    from PIL import Image, UnidentifiedImageError

    sizes = []
    for path in (dataset.root / frame.image for split in TRAINING_SPLITS for frame in dataset.split(split)):
        try:
            with Image.open(path) as image:
                sizes.append(image.size)
        except (OSError, UnidentifiedImageError) as error:
            raise DataError(f"{path} cannot be read: {error}", "Run: tca validate") from None
    return sizes


def _fit(size_wh: tuple[int, int], image_size: int) -> tuple[int, int]:
    scale = image_size / max(size_wh)
    width, height = (min(math.ceil(round(side * scale, 6) / STRIDE) * STRIDE, image_size) for side in size_wh)
    return width, height


def _link(source: Path, link: Path) -> None:
    if not source.is_file():
        raise DataError(f"{source} is missing", "Run: tca validate")
    link.parent.mkdir(parents=True, exist_ok=True)
    if _would_be_rewritten(source):
        shutil.copyfile(source, link)
    else:
        link.symlink_to(source.resolve())


def _would_be_rewritten(path: Path) -> bool:
    with path.open("rb") as stream:
        if stream.read(2) != _JPEG_START:
            return False
        stream.seek(-2, os.SEEK_END)
        return stream.read(2) != _JPEG_END

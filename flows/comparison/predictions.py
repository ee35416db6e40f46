"""Frozen tables of what is true and what a model said, one row an image, so that every verdict can be recomputed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flows.errors import DataError
from flows.progress import Progress, silent

if TYPE_CHECKING:
    from bentos.detector.detector import Detector

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LOW_CONF = 0.001
"""Confidence from which on detections enter average precision; COCO wants the whole tail."""
MAX_DETECTIONS = 100
"""Detections an image may keep: COCO's maxDets."""


@dataclass(frozen=True)
class Boxes:
    """The boxes of many images, flat; those of image i lie at `offsets[i]:offsets[i + 1]`."""

    images: tuple[str, ...]
    offsets: Ints  # (num_images + 1,)
    boxes_xyxy: Floats  # (num_boxes, 4), px of the image as stored
    class_ids: Ints  # (num_boxes,)

    def __post_init__(self) -> None:
        num_boxes = len(self.boxes_xyxy)
        if len(set(self.images)) != len(self.images):
            raise DataError(f"an image occurs twice among {len(self.images)}", "Give every image once")
        ends = int(self.offsets[-1]) if len(self.offsets) == len(self.images) + 1 else -1
        if not ends == num_boxes == len(self.class_ids):
            raise DataError(
                f"{len(self.images)} images, {num_boxes} boxes, {len(self.class_ids)} class ids and "
                f"{len(self.offsets)} offsets do not belong together"
            )

    @property
    def image_index(self) -> Ints:
        """Index of the image each box belongs to, (num_boxes,)."""
        return np.repeat(np.arange(len(self.images), dtype=np.int64), np.diff(self.offsets))

    def of(self, index: int) -> slice:
        """Where the boxes of image `index` lie."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))


@dataclass(frozen=True)
class Predictions(Boxes):
    """What one model found in every image, with its confidence in [0, 1]."""

    scores: Floats  # (num_boxes,)

    def digest(self) -> str:
        """Sha256, hex, of the content (not of the file, whose bytes depend on the writer)."""
        return _digest(self.images, self.offsets, self.boxes_xyxy, self.class_ids, self.scores)

    def at_confidence(self, conf: float) -> Predictions:
        """Keep the detections that serving at threshold `conf` would have answered with."""
        kept = self.scores >= conf
        counts = np.bincount(self.image_index[kept], minlength=len(self.images))
        boxes_xyxy, class_ids = self.boxes_xyxy[kept], self.class_ids[kept]
        return Predictions(self.images, _offsets(counts), boxes_xyxy, class_ids, self.scores[kept])

    def in_classes(self, own: Sequence[str], classes: Sequence[str]) -> Predictions:
        """The detections of a model that knows the classes `own`, with the ids of `classes`, matched by name.

        Detections of a class that is none of `classes` are left out.
        """
        ids = {class_key(name): class_id for class_id, name in enumerate(classes)}
        renumbered = np.array([ids.get(class_key(name), -1) for name in own], dtype=np.int64)[self.class_ids]
        kept = renumbered >= 0
        counts = np.bincount(self.image_index[kept], minlength=len(self.images))
        return Predictions(self.images, _offsets(counts), self.boxes_xyxy[kept], renumbered[kept], self.scores[kept])


def class_key(name: str) -> str:
    """What two spellings of one class have in common, as where a training starts from a checkpoint."""
    return name.strip().lower()


@dataclass(frozen=True)
class GroundTruth(Boxes):
    """The labelled objects of the frozen frames, and where each frame comes from."""

    classes: tuple[str, ...]
    cameras: tuple[str, ...]
    clips: tuple[str, ...]
    slices: tuple[str, ...]
    times: tuple[str, ...] = ()
    """When each frame was taken, ISO 8601, "" where it is not known; () where none is."""

    def digest(self) -> str:
        """Sha256, hex, of the content."""
        names = (*self.images, "", *self.classes, "", *self.cameras, "", *self.clips, "", *self.slices)
        if any(self.times):
            names = (*names, "", *self.times)
        return _digest(names, self.offsets, self.boxes_xyxy, self.class_ids)


@dataclass(frozen=True)
class LabelledFrame:
    """One frozen frame: its name, where it was taken, and its objects."""

    image: str
    camera: str
    clip: str
    slice: str
    boxes_xyxy: npt.NDArray[Any]  # (N, 4), px
    class_ids: npt.NDArray[Any]  # (N,)
    time: str = ""  # ISO 8601; "": not known


def ground_truth(classes: Sequence[str], frames: Sequence[LabelledFrame]) -> GroundTruth:
    """Gather the frames into one table. Raises DataError if there are none or a class id is unknown."""
    if not frames:
        raise DataError("there are no frames to compare on", "Choose another evaluate.split, or label some frames")
    boxes = [np.asarray(frame.boxes_xyxy, dtype=np.float64).reshape(-1, 4) for frame in frames]
    class_ids = np.concatenate([np.asarray(frame.class_ids, dtype=np.int64).reshape(-1) for frame in frames])
    _check_class_ids("the labels: objects of", class_ids, classes)
    return GroundTruth(
        images=tuple(frame.image for frame in frames),
        offsets=_offsets([len(part) for part in boxes]),
        boxes_xyxy=np.concatenate(boxes),
        class_ids=class_ids,
        classes=tuple(classes),
        cameras=tuple(frame.camera for frame in frames),
        clips=tuple(frame.clip for frame in frames),
        slices=tuple(frame.slice for frame in frames),
        times=tuple(frame.time for frame in frames),
    )


def predictions(
    images: Sequence[str],
    boxes_xyxy: Sequence[npt.NDArray[Any]],
    scores: Sequence[npt.NDArray[Any]],
    class_ids: Sequence[npt.NDArray[Any]],
) -> Predictions:
    """Gather the detections of each image, arrays of shapes (N, 4), (N,) and (N,), into one table."""
    flat = [np.asarray(boxes, dtype=np.float64).reshape(-1, 4) for boxes in boxes_xyxy]
    ids = [np.asarray(part, dtype=np.int64) for part in class_ids]
    return Predictions(
        images=tuple(images),
        offsets=_offsets([len(boxes) for boxes in flat]),
        boxes_xyxy=np.concatenate([np.zeros((0, 4)), *flat]),
        scores=np.concatenate([np.zeros(0), *(np.asarray(part, dtype=np.float64) for part in scores)]),
        class_ids=np.concatenate([np.zeros(0, dtype=np.int64), *ids]),
    )


def detect_frames(
    detector: Detector,
    root: Path,
    images: Sequence[str],
    progress: Progress = silent,
    *,
    batch_size: int = 16,
    conf: float = LOW_CONF,
    max_det: int = MAX_DETECTIONS,
) -> Predictions:
    """Send every file `root / image` through the detector that serves, as the bytes a client would send.

    Precision and recall of the served configuration follow from the same table by thresholding, because NMS
    lets only higher scores suppress lower ones.

    Raises:
        DataError: A file cannot be read.
    """
    found = []
    for start in range(0, len(images), batch_size):
        batch = [_read_bytes(root, image) for image in images[start : start + batch_size]]
        found += detector.detect(batch, conf=conf, max_det=max_det)
        progress(len(found), len(images), f"{sum(len(one.scores) for one in found)} detections")
    return predictions(
        images, [one.boxes_xyxy for one in found], [one.scores for one in found], [one.class_ids for one in found]
    )


def check_aligned(truth: GroundTruth, found: Predictions, role: str) -> None:
    """Raise DataError unless `found` covers exactly the frames of `truth`, in their order, with their classes."""
    if found.images != truth.images:
        missing = sorted(set(truth.images) - set(found.images))
        extra = sorted(set(found.images) - set(truth.images))
        example = (missing or extra or ["the order"])[0]
        raise DataError(
            f"{role}: predictions for {len(found.images)} images, ground truth for {len(truth.images)}; they differ in "
            f"{len(missing)} missing and {len(extra)} extra, first {example}",
            "Detect on the same frozen frames again",
        )
    _check_class_ids(f"{role}: predicts", found.class_ids, truth.classes)


def _check_class_ids(where: str, class_ids: Ints, classes: Sequence[str]) -> None:
    if len(class_ids) and (class_ids.min() < 0 or class_ids.max() >= len(classes)):
        raise DataError(
            f"{where} class ids {class_ids.min()} to {class_ids.max()}, but the data has {len(classes)} classes: "
            f"{', '.join(classes)}",
            "Use models and labels of the classes in data.yaml",
        )


def _read_bytes(root: Path, image: str) -> bytes:
    try:
        return (root / image).read_bytes()
    except OSError as error:
        raise DataError(f"{image}: cannot be read ({error.strerror})", "Run: tca validate") from None


def _offsets(counts: Sequence[int] | npt.NDArray[Any]) -> Ints:
    return np.concatenate([[0], np.cumsum(np.asarray(counts, dtype=np.int64))]).astype(np.int64)


def _digest(names: Sequence[str], *arrays: npt.NDArray[Any]) -> str:
    sha256 = hashlib.sha256("\n".join(names).encode())
    for array in arrays:
        sha256.update(str(array.shape).encode())
        sha256.update(np.ascontiguousarray(array).tobytes())
    return sha256.hexdigest()

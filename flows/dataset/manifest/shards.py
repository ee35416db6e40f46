"""A shard: some hundred consecutive frames, inspected together, kept together, and all that is found out about them."""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.dataset.labels import LabelBox, parse_label_bytes
from flows.dataset.layout import Frame
from flows.dataset.manifest.inspection import ImageFacts, inspect_content, unreadable
from flows.dataset.manifest.known import KnownImages, maker
from flows.dataset.manifest.overlaps import box_columns
from flows.dataset.manifest.reading import ABSENT, Signature, namesake, printable, read_signature, read_steadily
from flows.errors import ServiceError
from flows.label_forms import BOXES, LabelForm

SHARD_FRAMES = 256
_BLOCK_FRAMES = 16  # frames whose boxes are computed at once
_ONE_AT_A_TIME = Lock()
_SETTLED_NS = 2_000_000_000  # the coarsest clock of a file system in use (FAT) ticks every two seconds

Problem = tuple[int, str, int, str, str]
"""Position of the frame, then the row of the problems table: file, line, check, message."""


@dataclass(frozen=True)
class Job:
    """Frames to inspect, from `start` on in the shard number `shard`; plain values, so that it can travel.

    `folder` is how people call the root. `cache` is where facts of images may lie that were decoded before; `maker`
    says which code and libraries made them, and `pass_id` tells the caches of one pass from those of the next.
    """

    shard: int
    start: int
    frames: tuple[Frame, ...]
    classes: tuple[str, ...]
    root: str
    folder: str
    cache: str
    maker: str
    pass_id: str
    form: LabelForm = BOXES


@dataclass(frozen=True)
class Findings:
    """What was found out about the frames of a job or of a whole shard.

    boxes: columns of `box_columns`; `frame` is the position in the shard.
    signatures: of the image and the label file of each frame, int64 (n, 2, 4); `settled` (n,) whether they tell a later
        change for sure: a file modified a moment before it was read may be modified again without a new time.
    """

    shard: int
    start: int
    images: list[ImageFacts]
    boxes: dict[str, npt.NDArray[Any]]
    problems: list[Problem]
    signatures: npt.NDArray[np.int64]
    settled: npt.NDArray[np.bool_]
    num_decoded: int


def cut_shards(frames: Sequence[Frame], size: int = SHARD_FRAMES) -> Iterator[tuple[int, int]]:
    """Ranges of positions of some `size` frames, twice that at most.

    Where a shard ends depends on the name of its last frame alone, so that after an inserted frame the later shards
    are those of before.
    """
    start = 0
    for index, frame in enumerate(frames, start=1):
        if zlib.crc32(frame.image.encode()) % size == 0 or index - start >= 2 * size or index == len(frames):
            yield start, index
            start = index


def label_path(frame: Frame) -> str:
    """The same as `frame.label`, for names without oddities several times faster."""
    stem, dot, suffix = frame.image.rpartition(".")
    if not dot or not suffix or stem.endswith(("/", ".")) or "/" in suffix or "//" in stem or "/." in stem:
        return frame.label
    return f"labels{stem[6:]}.txt"


def inspect_job(job: Job) -> Findings:
    """Read the files of a job, decode what is not known by its content, and measure.

    Raises:
        DataError: A file changes whenever it is read.
        ServiceError: Another machine has other versions, so that its figures would differ.
    """
    if maker() != job.maker:
        raise ServiceError("a worker runs another version of the code or its libraries", "Install the same everywhere")
    known = _known_images(job)
    began = time.time_ns()
    found = [_inspect_frame(job, frame, job.start + at, known) for at, frame in enumerate(job.frames)]
    signatures = np.array([one.signatures for one in found], dtype=np.int64).reshape(-1, 2, 4)
    return Findings(
        shard=job.shard,
        start=job.start,
        images=[one.facts for one in found],
        boxes=_boxes_of(found, job.start),
        problems=[problem for one in found for problem in one.problems],
        signatures=signatures,
        settled=np.asarray(signatures[:, :, 1:3].max(axis=(1, 2)) < began - _SETTLED_NS, dtype=np.bool_),
        num_decoded=sum(one.is_decoded for one in found),
    )


def join_findings(parts: Sequence[Findings]) -> Findings:
    """The findings of jobs of one shard, in the order of their frames, as those of the shard."""
    if len(parts) == 1:
        return parts[0]
    return Findings(
        shard=parts[0].shard,
        start=parts[0].start,
        images=[facts for part in parts for facts in part.images],
        boxes={name: np.concatenate([part.boxes[name] for part in parts]) for name in parts[0].boxes},
        problems=[problem for part in parts for problem in part.problems],
        signatures=np.concatenate([part.signatures for part in parts]),
        settled=np.concatenate([part.settled for part in parts]),
        num_decoded=sum(part.num_decoded for part in parts),
    )


@dataclass(frozen=True)
class _Found:
    facts: ImageFacts
    boxes: list[LabelBox]
    problems: list[Problem]
    signatures: tuple[Signature, Signature]
    is_decoded: bool


def _known_images(job: Job) -> KnownImages:
    with _ONE_AT_A_TIME:  # or each thread would read all parts
        return _read_known_images(job.cache, job.maker, job.pass_id)


@lru_cache(maxsize=1)
def _read_known_images(cache: str, made_by: str, pass_id: str) -> KnownImages:
    return KnownImages(Path(cache, made_by))


def _inspect_frame(job: Job, frame: Frame, position: int, known: KnownImages) -> _Found:
    facts, image_signature, is_decoded = _inspect_image(job, frame, known)
    problems: list[Problem] = []
    if not facts.readable:
        problems.append((position, _shown(job, frame.image), 0, "image_readable", facts.error))
    label = label_path(frame)
    boxes, faults, label_signature = _inspect_label(job, label)
    problems += [(position, _shown(job, label), line, check, message) for line, check, message in faults]
    return _Found(facts, boxes, problems, (image_signature, label_signature), is_decoded)


def _inspect_image(job: Job, frame: Frame, known: KnownImages) -> tuple[ImageFacts, Signature, bool]:
    path = f"{job.root}/{frame.image}"
    try:
        content, signature = read_steadily(path)
    except FileNotFoundError:
        other = namesake(Path(path))
        hint = f"; {printable(other)!r} beside it is another name to the computer" if other else ""
        return unreadable(f"the file is missing{hint}"), ABSENT, False
    except OSError as error:
        return unreadable(f"cannot be read: {error.strerror}"), read_signature(path), False
    sha256 = hashlib.sha256(content).hexdigest() if content else ""
    if sha256 and (facts := known.find(sha256)) is not None:
        return facts, signature, False
    return inspect_content(content, sha256), signature, True


def _inspect_label(job: Job, label: str) -> tuple[list[LabelBox], list[tuple[int, str, str]], Signature]:
    path = f"{job.root}/{label}"
    try:
        content, signature = read_steadily(path)
    except FileNotFoundError:
        message = "the label file is missing: not labelled? (an empty file means no vehicles)"
        return [], [(0, "label_present", message)], ABSENT
    except OSError as error:
        return [], [(0, "label_syntax", f"cannot be read: {error.strerror}")], read_signature(path)
    boxes, problems = parse_label_bytes(content, job.classes, label, job.form)
    return boxes, [(problem.line, problem.check, problem.message) for problem in problems], signature


def _boxes_of(found: Sequence[_Found], start: int) -> dict[str, npt.NDArray[Any]]:
    """Of readable images only: without a size there are no pixels."""
    blocks = []
    for first in range(0, len(found), _BLOCK_FRAMES):
        block = found[first : first + _BLOCK_FRAMES]
        columns = box_columns(
            [one.boxes if one.facts.readable else [] for one in block],
            [(one.facts.width, one.facts.height) for one in block],
        )
        blocks.append(columns | {"frame": columns["frame"] + start + first})
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _shown(job: Job, relative: str) -> str:
    return str(PurePosixPath(job.folder, relative))

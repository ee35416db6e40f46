"""A dataset with other splits: every file in its new place, or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from flows.dataset.layout import FRAMES_CSV, SPLITS, Dataset, Frame, write_frames
from flows.dataset.replacing import replaced_folder
from flows.errors import DataError
from flows.progress import Progress, silent


def resplit_frames(dataset: Dataset, splits: Sequence[str], clips: Sequence[str]) -> tuple[Frame, ...]:
    """The frames of `dataset` in their new splits, with new clips; names stay where no other file has them already.

    Only a frame that moves may get another name: "x.jpg" of train becomes "x_from_train.jpg" where val has an x.

    Raises:
        DataError: A folder of the dataset is a link.
    """
    files = _files(dataset.root)
    moving = [frame.split != split for frame, split in zip(dataset.frames, splits, strict=True)]
    leaving = {path for frame, goes in zip(dataset.frames, moving, strict=True) if goes for path in _paths(frame)}
    staying = {path for frame, goes in zip(dataset.frames, moving, strict=True) if not goes for path in _paths(frame)}
    taken = {_place(path) for path in (*staying, *(set(files) - leaving))}
    frames = []
    for frame, split, clip, goes in zip(dataset.frames, splits, clips, moving, strict=True):
        image = _free_image(frame, split, taken) if goes else frame.image
        taken.add(_place(image))
        frames.append(replace(frame, image=image, split=split, clip=clip))
    return tuple(frames)


def relocate(dataset: Dataset, frames: Sequence[Frame], progress: Progress = silent) -> None:
    """Put the files of `dataset` where `frames` say, in the same order, and write frames.csv; nothing is deleted.

    The new layout is built beside the old one and takes its place when it is whole. Files are hard links to the old
    ones, or copies where the file system has none: nothing is ever written into a file, which may belong to DVC's
    cache.

    Raises:
        DataError: A folder of the dataset is a link.
        OSError: The disk is full, or a file cannot be read; the dataset is as it was.
    """
    root = dataset.root
    targets = {path: path for path in _files(root) if path != FRAMES_CSV}
    for old, new in zip(dataset.frames, frames, strict=True):
        targets |= {before: after for before, after in zip(_paths(old), _paths(new), strict=True) if before in targets}
    with replaced_folder(root) as fresh:
        for split in SPLITS:
            (fresh / "images" / split).mkdir(parents=True)
            (fresh / "labels" / split).mkdir(parents=True)
        for done, (before, after) in enumerate(targets.items(), start=1):
            _link(root, root / before, fresh / after)
            progress(done, len(targets), after)
        write_frames(fresh, frames)


def _link(root: Path, source: Path, target: Path) -> None:
    """Give a file a second place; what is a link out of the dataset (into a cache) stays one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink() and not source.resolve().is_relative_to(root.resolve()):
        target.symlink_to(source.resolve())
        return
    try:
        os.link(source.resolve(), target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _files(root: Path) -> list[str]:
    """All files below `root`, relative to it."""
    found = []
    for where, folders, names in os.walk(root):
        if linked := [name for name in folders if Path(where, name).is_symlink()]:
            raise DataError(
                f"{Path(where, linked[0])} is a link to a folder, whose files cannot be moved",
                "Put a real folder in its place",
            )
        found += [Path(where, name).relative_to(root).as_posix() for name in names if Path(where, name).is_file()]
    return sorted(found)


def _paths(frame: Frame) -> tuple[str, str]:
    return frame.image, frame.label


def _place(path: str) -> str:
    """What two frames must not share: folder and name without ending, of images and labels alike."""
    parts = PurePosixPath(path).with_suffix("").parts
    return "/".join(parts[1:]).casefold() if parts[0] in ("images", "labels") else path


def _free_image(frame: Frame, split: str, taken: set[str]) -> str:
    path = PurePosixPath("images", split, *PurePosixPath(frame.image).parts[2:])
    candidate, number = path, 1
    while _place(str(candidate)) in taken:
        tail = f"_from_{frame.split}" + (f"_{number}" if number > 1 else "")
        candidate = path.with_name(path.stem + tail + path.suffix)
        number += 1
    return str(candidate)

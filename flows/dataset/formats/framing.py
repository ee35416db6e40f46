"""From what is known of a user's images to rows of frames.csv: split, camera, clip, time, slice and file name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from flows.dataset.formats.mapping import Mapping, checked_time
from flows.dataset.formats.sources import SPLIT_WORDS, SourceFrame, SourceSet
from flows.dataset.layout import SPLITS, Frame
from flows.dataset.leakage.splitting import split_groups
from flows.errors import DataError

UNKNOWN_CAMERA = "unknown"
DARK_GREY = 60.0
_PREFIX = re.compile(r"([A-Za-z]+)[_\-. ]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_COUNTER = re.compile(r"[_\-. ]*\d+$")
_WITHOUT_CAMERA = "Give a mapping with the camera: comparing models resamples cameras, and canaries are cut by camera"
_FRAME_BY_FRAME = (
    "Too few clips to keep together: frames were divided one by one, so that neighbouring frames may lie in different "
    "splits. Give a mapping with camera and clip"
)


def frames_of(found: SourceSet, mapping: Mapping, seed: int, resplit: bool) -> tuple[list[Frame], list[str]]:
    """A row of frames.csv for each image of the set, in the same order, and what had to be assumed.

    Raises:
        DataError: A split or time of the mapping cannot be read, or only some images have a split.
    """
    sources = found.frames
    facts = [mapping(source.name) for source in sources]
    cameras = [fact.get("camera", UNKNOWN_CAMERA) for fact in facts]
    clips = [fact.get("clip") or _clip_of_name(source.name) for fact, source in zip(facts, sources, strict=True)]
    told = [None] * len(sources) if resplit else _told_splits(sources, facts)
    splits = [split for split in told if split] or _new_splits(list(zip(cameras, clips, strict=True)), sources, seed)
    slices = [fact.get("slice") or slice_of_light(source.path) for fact, source in zip(facts, sources, strict=True)]
    times = [checked_time(source.name, fact.get("time", "")) for fact, source in zip(facts, sources, strict=True)]
    names = file_names([source.name for source in sources], splits)
    frames = [
        Frame(f"images/{split}/{name}", split, camera, clip, time, slice_)
        for name, split, camera, clip, time, slice_ in zip(names, splits, cameras, clips, times, slices, strict=True)
    ]
    return frames, _warnings(found, facts, frames, divided=not any(told))


def slice_of_light(path: Path) -> str:
    """Either "dark" or "light", by the mean grey of the frame; "unreadable" if it does not decode."""
    try:
        with Image.open(path) as image:
            image.draft("L", (image.width // 8 or 1, image.height // 8 or 1))
            grey = float(np.asarray(image.convert("L")).mean())
    except Exception:  # what is wrong with the file is the validation's to say
        return "unreadable"
    return "dark" if grey < DARK_GREY else "light"


def file_names(names: Sequence[str], splits: Sequence[str]) -> list[str]:
    """A file name for each image, different from the others of its split even without ending and in capitals.

    Images keep their name where it is theirs alone; the others get their folders before it, then a number after it.
    """
    bare = [PurePosixPath(_CONTROL.sub("_", name)) for name in names]
    plain = Counter((split, path.stem.casefold()) for split, path in zip(splits, bare, strict=True))
    taken: set[tuple[str, str]] = {key for key, number in plain.items() if number == 1}
    chosen: dict[int, str] = {}
    for index in sorted(range(len(names)), key=lambda index: names[index]):
        split, path = splits[index], bare[index]
        stem = path.stem
        if plain[split, stem.casefold()] > 1:
            stem = free = "_".join([*path.parts[:-1], stem])
            number = 1
            while (split, free.casefold()) in taken:
                number += 1
                free = f"{stem}_{number}"
            stem = free
            taken.add((split, stem.casefold()))
        chosen[index] = stem + path.suffix.lower()
    return [chosen[index] for index in range(len(names))]


def _clip_of_name(name: str) -> str:
    """The path without its last number: frames that are counted through come from one clip."""
    path = PurePosixPath(name).with_suffix("")
    folders = [part for part in path.parts[:-1] if part.lower() != "images" and part.lower() not in SPLIT_WORDS]
    return "/".join([*folders, _COUNTER.sub("", path.name)]).strip("/") or path.name


def _told_splits(sources: Sequence[SourceFrame], facts: Sequence[dict[str, str]]) -> list[str | None]:
    """The split of each image by mapping, folder or name, in this order; either all have one or none."""
    told: list[str | None] = []
    for source, fact in zip(sources, facts, strict=True):
        word = fact.get("split")
        if word and word.lower() not in SPLIT_WORDS:
            raise DataError(f"{source.name} has the split {word!r}", f"Known: {', '.join(SPLIT_WORDS)}")
        told.append(SPLIT_WORDS[word.lower()] if word else source.split)
    by_name = [split or _split_of_prefix(source.name) for split, source in zip(told, sources, strict=True)]
    if all(by_name) and len(set(by_name)) > 1:  # alone, a prefix like test_ may mean anything
        told = by_name
    without = [source.name for split, source in zip(told, sources, strict=True) if not split]
    if without and len(without) < len(told):
        raise DataError(
            f"{len(without):,} of {len(told):,} images say no split, the first is {without[0]}",
            "Name the split of all of them in folders or mapping, or divide anew with --resplit",
        )
    return told


def _split_of_prefix(name: str) -> str | None:
    match = _PREFIX.match(PurePosixPath(name).name)
    return SPLIT_WORDS.get(match.group(1).lower()) if match else None


def _new_splits(groups: Sequence[tuple[str, str]], sources: Sequence[SourceFrame], seed: int) -> list[str]:
    if len(set(groups)) >= len(SPLITS):
        return split_groups(groups, seed)
    return split_groups([source.name for source in sources], seed)  # no groups to keep together: frame by frame


def _warnings(found: SourceSet, facts: Sequence[dict[str, str]], frames: Sequence[Frame], divided: bool) -> list[str]:
    share = f"{{:,}} of {len(frames):,} frames"
    no_camera = sum(not fact.get("camera") for fact in facts)
    no_clip = sum(not fact.get("clip") for fact in facts)
    unlabelled = sum(source.label_bytes is None for source in found.frames)
    groups = len({(frame.camera, frame.clip) for frame in frames})
    empty = [split for split in SPLITS if split not in {frame.split for frame in frames}]
    warnings = []
    if no_camera:
        warnings.append(f'{share.format(no_camera)} have the camera "{UNKNOWN_CAMERA}". {_WITHOUT_CAMERA}')
    if no_clip:
        warnings.append(f"{share.format(no_clip)} got as clip their file name without its last number")
    if divided and groups >= len(SPLITS):
        warnings.append(f"No split was told: {groups:,} clips were divided 70/15/15")
    elif divided:
        warnings.append(_FRAME_BY_FRAME)
    if empty:
        warnings.append(f"No frame in {' and '.join(empty)}. Name splits in the mapping, or divide anew with --resplit")
    if unlabelled:
        warnings.append(f"{share.format(unlabelled)} have no label file: label them, or the validation refuses the set")
    if found.missing_images:
        shown = ", ".join(found.missing_images[:3]) + (", ..." if len(found.missing_images) > 3 else "")
        warnings.append(f"{len(found.missing_images):,} annotations belong to images that are not there: {shown}")
    return warnings

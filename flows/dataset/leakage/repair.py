"""A split without leaks: frames that belong together stay together, and each split gets its share of everything."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from flows.dataset.layout import SPLITS
from flows.dataset.leakage.duplicates import near_duplicates
from flows.dataset.leakage.groups import connected
from flows.dataset.leakage.kinship import alike_by_nature, is_named, telling_clips
from flows.dataset.leakage.scenes import NO_SCENE, find_scenes
from flows.dataset.leakage.stratification import Counts, divide_groups
from flows.dataset.manifest.manifest import Manifest
from flows.errors import DataError
from flows.params_data import LeakageParams

if TYPE_CHECKING:
    import pandas as pd

Groups = npt.NDArray[np.int64]  # (N,) number of the group of each frame
_TELL = "Give cameras and clips by `tca data import ... --regex` or --csv, or add frames of other places"


@dataclass(frozen=True)
class Proposal:
    """The split, group and clip of each frame, in the order of the manifest.

    Clips are those of frames.csv, except where a clip guessed from file names is refuted by what its frames show.
    """

    splits: tuple[str, ...]
    groups: Groups
    clips: tuple[str, ...]
    notes: tuple[str, ...]


def group_frames(manifest: Manifest, params: LeakageParams, whole_cameras: bool = False) -> Groups:
    """The group of each frame: what must not be divided between splits.

    Together are the frames of a clip (with `whole_cameras`: of a named camera), files with the same bytes,
    near-duplicates, and, where the camera is not known, the frames of a scene. See `kinship` for clips that say little
    and frames that are alike by nature.
    """
    images = manifest.images.reset_index(drop=True)
    found = near_duplicates(images, manifest.thumbnails, params.max_hash_bits, params.max_difference)
    alike = alike_by_nature(images)
    links = [(pair.first, pair.second) for pair in found.pairs if not alike(pair.first, pair.second)]
    scenes = find_scenes(images, manifest.thumbnails, params.min_scene_similarity)
    owners: dict[Hashable, int] = {}
    for index, keys in enumerate(_ties(images, scenes.tolist(), whole_cameras)):
        links += [(owners.setdefault(key, index), index) for key in keys]
    return connected(len(images), links)


def propose_split(manifest: Manifest, groups: Groups, seed: int, keep: bool = False) -> Proposal:
    """Deal the groups: shares of frames, boxes of each class and frames of each slice near 70/15/15 in each split.

    The same frames and seed give the same answer in whatever order and split they lie.

    Args:
        manifest: Of the set as it is.
        groups: What must stay together, see `group_frames`.
        seed: Of the division.
        keep: Move few frames: groups stay where most of them lie unless a split would lack a class.

    Raises:
        DataError: There are fewer groups than splits.
    """
    images = manifest.images.reset_index(drop=True)
    if len(set(groups.tolist())) < len(SPLITS):
        raise DataError(
            f"the {len(images):,} frames form only {len(set(groups.tolist()))} groups that must stay together, "
            f"too few for {len(SPLITS)} splits",
            _TELL,
        )
    order = _in_order_of_content(images, groups)
    counts, required, names = _counts(manifest, order)
    moved = _moved(images, order) if keep else None
    division = divide_groups(counts, required, seed, moved)
    splits = tuple(SPLITS[split] for split in division[order])
    return Proposal(splits, groups, _clips(images, groups), _notes(counts, division, names, required))


def straddling(groups: Groups, splits: tuple[str, ...]) -> int:
    """How many groups lie in more than one split."""
    places = Counter(group for group, _ in set(zip(groups.tolist(), splits, strict=True)))
    return sum(number > 1 for number in places.values())


def _ties(images: pd.DataFrame, scenes: list[int], whole_cameras: bool) -> Iterator[list[Hashable]]:
    """What each frame shares with others, as keys."""
    telling = telling_clips(images)
    columns = (images[name].tolist() for name in ("camera", "clip", "sha256"))
    for camera, clip, content, scene in zip(*columns, scenes, strict=True):
        named = is_named(camera)
        keys: list[Hashable] = [("content", content)] if content else []
        if (camera, clip) in telling:
            keys.append(("clip", camera, clip))
        if named and whole_cameras:
            keys.append(("camera", camera))
        if not named and scene != NO_SCENE:
            keys.append(("scene", scene))
        yield keys


def _in_order_of_content(images: pd.DataFrame, groups: Groups) -> Groups:
    """The groups numbered by the hashes of their contents, which neither order nor present split of frames change."""
    keys: dict[int, bytes] = {}
    for group, content, image in zip(groups.tolist(), images["sha256"], images["image"], strict=True):
        key = hashlib.sha256((content or PurePosixPath(image).name).encode()).digest()
        keys[group] = min(key, keys.get(group, key))
    numbers = {group: number for number, group in enumerate(sorted(keys, key=lambda group: (keys[group], group)))}
    return np.array([numbers[group] for group in groups.tolist()], dtype=np.int64)


def _counts(manifest: Manifest, order: Groups) -> tuple[Counts, npt.NDArray[np.bool_], list[str]]:
    """Frames, boxes of each class and frames of each slice per group; which of these every split needs; their names."""
    import pandas as pd

    images = manifest.images.reset_index(drop=True)
    of_image = dict(zip(images["image"], order.tolist(), strict=True))
    boxes = manifest.boxes
    by_class = pd.crosstab(boxes["image"].map(of_image).astype("int64"), boxes["class_name"].astype(str))
    by_slice = pd.crosstab(pd.Series(order), images["slice"].astype(str))
    num_groups = int(order.max()) + 1
    tables = [pd.DataFrame({"frames": np.bincount(order, minlength=num_groups)}), by_class, by_slice]
    tables = [table.reindex(range(num_groups), fill_value=0) for table in tables]
    counts = np.concatenate([table.to_numpy(dtype=np.float64) for table in tables], axis=1)
    required = np.array([True] * (1 + by_class.shape[1]) + [False] * by_slice.shape[1])
    return counts, required, ["frames", *map(str, by_class.columns), *map(str, by_slice.columns)]


def _moved(images: pd.DataFrame, order: Groups) -> Counts:  # (G, S)
    """How many frames of each group would have to move to each split."""
    present = np.zeros((int(order.max()) + 1, len(SPLITS)))
    places = np.array([SPLITS.index(split) for split in images["split"]])
    np.add.at(present, (order, places), 1)
    moved: Counts = present.sum(axis=1, keepdims=True) - present
    return moved


def _clips(images: pd.DataFrame, groups: Groups) -> tuple[str, ...]:
    """Clips guessed from names get the number of the group added where their frames are of several groups."""
    telling = telling_clips(images)
    keys = list(zip(images["camera"], images["clip"], strict=True))
    places = Counter(key for key, _ in set(zip(keys, groups.tolist(), strict=True)))
    return tuple(
        f"{clip}-group{group + 1}" if clip and (camera, clip) not in telling and places[camera, clip] > 1 else clip
        for (camera, clip), group in zip(keys, groups.tolist(), strict=True)
    )


def _notes(
    counts: Counts, division: npt.NDArray[np.int64], names: list[str], required: npt.NDArray[np.bool_]
) -> tuple[str, ...]:
    notes = []
    largest = counts[:, 0].max() / counts[:, 0].sum()
    if largest > 0.5:
        notes.append(f"One group holds {largest:.0%} of the frames, so that the shares cannot be even. {_TELL}")
    for column in np.flatnonzero(required).tolist():
        lacking = [split for place, split in enumerate(SPLITS) if not counts[division == place, column].any()]
        holding = int((counts[:, column] > 0).sum())
        if lacking and counts[:, column].any():
            what = f"{names[column]} lies in {holding} group{'s' * (holding != 1)} only" if column else "Too few groups"
            notes.append(f"{what}: none in {' and '.join(lacking)}. {_TELL}")
    return tuple(notes)

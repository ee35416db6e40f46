"""Frames that show the same moment, in whatever encoding, size, brightness or flip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from flows.dataset.leakage.hash_search import Positions, near_hashes
from flows.dataset.leakage.same_moment import flipped, has_structure, moment_difference

if TYPE_CHECKING:
    import pandas as pd

FLIPS = ("", "mirrored", "upside down", "turned by 180 degrees")
CROWD = 1024  # candidates of one frame; a fixed camera's frames nearly share their hash
NEAREST_IN_CROWD = 4
_KEY_RADIUS = 0.07  # standard deviations of grey; re-encoded, scaled, brighter or evenly cropped copies lie within
_KEY_SIDE = 8
_CROP = 0.98


@dataclass(frozen=True)
class Pair:
    """Positions of two frames of one moment (first < second), and how one becomes the other.

    `flip` is one of FLIPS; `difference` is that of `same_moment.moment_difference`.
    """

    first: int
    second: int
    flip: str
    difference: float


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of frames of one moment, the most alike first, and how much work it was to find them."""

    pairs: tuple[Pair, ...]
    num_hashes_compared: int
    num_pictures_compared: int
    num_crowded: int


def near_duplicates(
    images: pd.DataFrame,
    thumbnails: npt.NDArray[np.uint8],  # (N, 54, 96)
    max_hash_bits: int,
    max_difference: float,
) -> NearDuplicates:
    """Find the frames that show the same moment; flips, other sizes, encodings and brightness and small crops included.

    Hashes propose, pictures decide. Every pair within `max_hash_bits` is compared if one of the two has at most `CROWD`
    candidates. Frames of a crowd (thousands from one fixed camera) are compared with those `NEAREST_IN_CROWD` frames of
    each split that are nearest by the low frequencies that the hash is the signs of, flips and a crop of two hundredths
    included. So the work grows in proportion to the number of frames, and what a crowd may hide is a copy that more
    than that number of other frames of the same split resemble more: of many copies of one moment, some pairs, not all.
    Frames that are not readable or show nothing (black, white) are left out.

    Args:
        images: The table of a manifest: `split`, `readable` and `phash` are asked.
        thumbnails: Grey, in the order of `images`.
        max_hash_bits: Bits in which the hashes of two copies may differ.
        max_difference: Largest `difference` of copies.
    """
    known = [bool(ok) and has_structure(small) for ok, small in zip(images["readable"], thumbnails, strict=True)]
    frames = np.flatnonzero(known)
    hashes = np.array([int(images["phash"].iloc[frame], 16) for frame in frames], dtype=np.uint64)
    found = near_hashes(hashes, max_hash_bits, flip_masks(), crowd=CROWD)
    candidates = set(zip(found.first.tolist(), found.second.tolist(), found.mask.tolist(), strict=True))
    crowd = np.flatnonzero(found.crowded)
    splits = images["split"].iloc[frames[crowd]].tolist()
    for first, second, flip in _nearest(thumbnails[frames[crowd]], splits) if len(crowd) else ():
        candidates.add((int(crowd[first]), int(crowd[second]), flip))
    ordered = [(int(frames[first]), int(frames[second]), flip) for first, second, flip in sorted(candidates)]
    return NearDuplicates(_verified(thumbnails, ordered, max_difference), found.num_compared, len(ordered), len(crowd))


def flip_masks() -> tuple[int, int, int, int]:
    """The bits of `perceptual_hash` that each of FLIPS turns: those of odd horizontal or vertical frequency."""
    vertical, horizontal = np.mgrid[0:8, 0:8] % 2
    return (0, _packed(horizontal), _packed(vertical), _packed(horizontal ^ vertical))


def _packed(bits: npt.NDArray[np.int64]) -> int:
    return int(np.packbits(bits.astype(bool)).tobytes().hex(), 16)


def _verified(
    thumbnails: npt.NDArray[np.uint8], candidates: Sequence[tuple[int, int, int]], max_difference: float
) -> tuple[Pair, ...]:
    best: dict[tuple[int, int], Pair] = {}
    for first, second, flip in candidates:
        difference = moment_difference(thumbnails[first], flipped(thumbnails[second], flip))
        known = best.get((first, second))
        if difference <= max_difference and (known is None or difference < known.difference):
            best[first, second] = Pair(first, second, FLIPS[flip], difference)
    return tuple(sorted(best.values(), key=lambda pair: (pair.difference, pair.first, pair.second)))


def _nearest(thumbnails: npt.NDArray[np.uint8], splits: Sequence[str]) -> list[tuple[int, int, int]]:
    """Pairs (first < second) with their flip: for each frame the nearest few of each split."""
    from scipy.spatial import cKDTree

    keys, zoomed, names = _keys(thumbnails), _keys(_zoomed(thumbnails)), np.array(splits)
    pairs: set[tuple[int, int, int]] = set()
    for split in sorted(set(splits)):
        members = np.flatnonzero(names == split)
        tree = cKDTree(keys[members])
        for (flip, signs), asked in product(enumerate(_flip_signs()), (keys, zoomed)):
            distances, places = tree.query(asked * signs, NEAREST_IN_CROWD + 1, distance_upper_bound=_KEY_RADIUS)
            rows, columns = np.nonzero(np.isfinite(distances))
            partners = members[places[rows, columns]]
            pairs |= {
                (min(row, partner), max(row, partner), flip)
                for row, partner in zip(rows.tolist(), partners.tolist(), strict=True)
                if row != partner
            }
    return sorted(pairs)


def _zoomed(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The pictures as they would be after a crop of two hundredths."""
    _, height, width = thumbnails.shape
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    shrink = np.hstack([np.eye(2) * _CROP, ((1 - _CROP) * centre)[:, None]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.stack([cv2.warpAffine(picture, shrink, (width, height), flags=flags) for picture in thumbnails])


def _keys(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:  # (N, 63)
    """Low cosine coefficients of each picture at unit contrast: no two keys are farther apart than the pictures are."""
    _, height, width = thumbnails.shape
    down, across = _cosines(height), _cosines(width)
    keys = np.empty((len(thumbnails), _KEY_SIDE, _KEY_SIDE))
    for index, picture in enumerate(thumbnails):
        level = picture - picture.mean(dtype=np.float64)
        keys[index] = down @ (level / max(float(level.std()), 1.0)) @ across.T
    scaled: npt.NDArray[np.float64] = keys.reshape(len(thumbnails), _KEY_SIDE**2)[:, 1:] / np.sqrt(height * width)
    return scaled


def _cosines(size: int) -> npt.NDArray[np.float64]:  # (8, size), orthonormal rows
    places = np.outer(np.arange(_KEY_SIDE), np.arange(size) + 0.5)
    rows: npt.NDArray[np.float64] = np.cos(np.pi * places / size) * np.sqrt(2 / size)
    rows[0] /= np.sqrt(2)
    return rows


def _flip_signs() -> Sequence[Positions]:  # each (63,)
    down, across = np.mgrid[0:_KEY_SIDE, 0:_KEY_SIDE]
    mirrored, inverted = (-1) ** across, (-1) ** down
    plain = np.ones_like(mirrored)
    return [signs.reshape(-1)[1:] for signs in (plain, mirrored, inverted, mirrored * inverted)]

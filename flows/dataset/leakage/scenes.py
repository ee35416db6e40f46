"""Which frames show the same scene: the same place from the same point, whatever drives through it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from flows.dataset.leakage.groups import connected
from flows.dataset.leakage.same_moment import has_structure

if TYPE_CHECKING:
    import pandas as pd

NO_SCENE = -1
_CELL_PX = 3
_ORIENTATIONS = 8  # signed: a kerb that is brighter on its left stays so when cars pass
_SPREAD_PX = 1.2  # how far an edge may lie from its place, px of the thumbnail
_DARKEST = 8.0  # grey; darker differences than this are noise
_COVERED = 0.7  # a frame this much like an example adds nothing to it
_BLOCK = 256


def find_scenes(
    images: pd.DataFrame,
    thumbnails: npt.NDArray[np.uint8],  # (N, 54, 96)
    min_similarity: float,
) -> npt.NDArray[np.int64]:  # (N,)
    """The number of the scene of each frame, counted from 0; NO_SCENE for frames that show nothing or do not decode.

    A frame is described by its edges: the strengths of eight directions in each cell of 3 x 3 px, each cell at the same
    contrast as the others (histograms of oriented gradients, Dalal and Triggs 2005). Roads, kerbs and horizons keep
    theirs while vehicles pass and the light changes; one place by day and by night may still be two scenes. Two frames
    whose descriptions have a cosine of `min_similarity` or more show one scene, and so do those linked by others.

    Frames are compared with examples only: with those frames that no earlier example resembles much. So time grows
    with frames times scenes, and memory with the number of scenes. The order of the frames does not matter: they are
    taken in the order of the hashes of their contents.

    Args:
        images: The table of a manifest: `readable` and `sha256` are asked.
        thumbnails: Grey, in the order of `images`.
        min_similarity: Cosine, 0 to 1.
    """
    known = [bool(ok) and has_structure(small) for ok, small in zip(images["readable"], thumbnails, strict=True)]
    content = images["sha256"].tolist()
    frames = sorted(np.flatnonzero(known).tolist(), key=lambda frame: content[frame])
    links = list(_links(thumbnails, frames, min_similarity))
    groups = connected(len(images), links)
    scenes = np.full(len(images), NO_SCENE, dtype=np.int64)
    _, scenes[known] = np.unique(groups[known], return_inverse=True)
    return scenes


def describe_view(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:  # (54, 96) -> (18 * 32 * 8,)
    """The edges of a frame by cell and direction, as a vector of length 1; see `find_scenes`."""
    light = np.log(picture.astype(np.float32) + _DARKEST)  # exposure becomes an offset, which has no edges
    slope_x, slope_y = cv2.Sobel(light, cv2.CV_32F, 1, 0), cv2.Sobel(light, cv2.CV_32F, 0, 1)
    strength, angle = cv2.cartToPolar(slope_x, slope_y)
    direction = angle * (_ORIENTATIONS / (2 * np.pi))
    height, width = picture.shape
    cells = np.stack([
        cv2.resize(
            cv2.GaussianBlur(strength * _share(direction, index), (0, 0), _SPREAD_PX),
            (width // _CELL_PX, height // _CELL_PX),
            interpolation=cv2.INTER_AREA,
        )
        for index in range(_ORIENTATIONS)
    ], axis=-1)  # fmt: skip
    lengths = np.linalg.norm(cells, axis=2, keepdims=True)
    cells /= np.sqrt(lengths**2 + (0.5 * np.median(lengths)) ** 2 + 1e-6)
    cells -= cells.mean(axis=2, keepdims=True)
    vector = cells.reshape(-1)
    return (vector / max(float(np.linalg.norm(vector)), 1e-6)).astype(np.float32)


def _share(direction: npt.NDArray[np.float32], index: int) -> npt.NDArray[np.float32]:
    """How much of each pixel's edge points in direction `index`: 1 there, 0 at the neighbouring directions."""
    apart = np.abs((direction - index + _ORIENTATIONS / 2) % _ORIENTATIONS - _ORIENTATIONS / 2)
    share: npt.NDArray[np.float32] = np.maximum(1 - apart, 0).astype(np.float32)
    return share


def _links(thumbnails: npt.NDArray[np.uint8], frames: list[int], min_similarity: float) -> Iterator[tuple[int, int]]:
    """Pairs of a frame and an example that it resembles."""
    examples: list[int] = []
    views = np.zeros((_BLOCK, 0), dtype=np.float32)
    for start in range(0, len(frames), _BLOCK):
        block = frames[start : start + _BLOCK]
        own = np.stack([describe_view(thumbnails[frame]) for frame in block])
        if not examples:
            views = np.zeros((_BLOCK, own.shape[1]), dtype=np.float32)
        with_examples, within = own @ views[: len(examples)].T, own @ own.T
        fresh: list[int] = []  # rows of the block that become examples
        for row, frame in enumerate(block):
            yield from ((frame, examples[place]) for place in np.flatnonzero(with_examples[row] >= min_similarity))
            yield from ((frame, block[other]) for other in fresh if within[row, other] >= min_similarity)
            nearest = max(with_examples[row].max(initial=-1.0), within[row, fresh].max(initial=-1.0))
            if nearest < max(_COVERED, min_similarity):
                fresh.append(row)
        while len(views) < len(examples) + len(fresh):
            views = np.concatenate([views, np.zeros_like(views)])
        views[len(examples) : len(examples) + len(fresh)] = own[fresh]
        examples += [block[row] for row in fresh]

"""Faults planted in every frame of a dataset, each measured once, so that trials need only pick rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from flows.dataset.drift.backbone import embed_images
from flows.dataset.drift.samples import Sample, describe_frames
from flows.dataset.layout import Dataset
from flows.dataset.manifest.inspection import decode_rgb
from flows.dataset.manifest.manifest import Manifest, build_manifest
from flows.machine import count_cores

Frames = npt.NDArray[np.uint8]
SHIFT = 0.05  # of the width
_DARKER = 0.7
BLUR_SIGMA_PX = 2.0  # at 640 px width
RELABELLED = 0.3  # share of the most frequent class that becomes the next one


def darker(rgb: Frames) -> Frames:
    """30 % less light."""
    return (rgb * _DARKER).astype(np.uint8)


def blurred(rgb: Frames) -> Frames:
    """Out of focus."""
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), BLUR_SIGMA_PX * rgb.shape[1] / 640), dtype=np.uint8)


def shifted(rgb: Frames) -> Frames:
    """What the camera sees, moved to the right; the rim repeats."""
    moved = np.array([[1, 0, SHIFT * rgb.shape[1]], [0, 1, 0]], dtype=np.float32)
    return np.asarray(
        cv2.warpAffine(rgb, moved, (rgb.shape[1], rgb.shape[0]), borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8
    )


def covered(rgb: Frames) -> Frames:
    """A lens cap that lets a little light through."""
    noise = np.random.default_rng(int(rgb[:, :, 0].sum())).integers(-2, 3, rgb.shape)
    return np.asarray(np.clip(20 + noise + rgb // 64, 0, 255), dtype=np.uint8)


PIXEL_FAULTS: dict[str, Callable[[Frames], Frames]] = {
    "darker": darker,
    "blurred": blurred,
    "shifted": shifted,
    "covered": covered,
}


@dataclass(frozen=True)
class Variants:
    """The same frames as they are and with each fault: tables, thumbnails and embeddings, in the same order."""

    frames: dict[str, Any]  # pandas tables, see Sample
    thumbnails: dict[str, Frames]  # (N, 54, 96)
    vectors: dict[str, npt.NDArray[np.float32]]  # (N, D); empty without weights

    def sample(self, name: str, rows: npt.NDArray[np.int64], fault: str, affected: npt.NDArray[np.bool_]) -> Sample:
        """The frames at `rows`; those that are `affected` show the fault."""
        import pandas as pd

        sound, broken = rows[~affected[rows]], rows[affected[rows]]
        parts = [("sound", sound), (fault, broken)]
        frames = pd.concat([self.frames[variant].iloc[part] for variant, part in parts], ignore_index=True)
        pictures = np.concatenate([self.thumbnails[variant][part] for variant, part in parts])
        return Sample(name, frames, pictures)

    def embeddings(self, rows: npt.NDArray[np.int64], fault: str, affected: npt.NDArray[np.bool_]) -> Any:
        """Embeddings in the order of `sample`."""
        sound, broken = rows[~affected[rows]], rows[affected[rows]]
        return np.concatenate([self.vectors["sound"][sound], self.vectors[fault][broken]])


def prepare(dataset: Dataset, weights: Path | None, folder: Path) -> Variants:
    """Plant every fault into every frame, and measure all of them once."""
    manifests = {"sound": build_manifest(dataset, count_cores())}
    roots = {"sound": dataset.root}
    for name, fault in PIXEL_FAULTS.items():
        roots[name] = folder / name
        _plant(dataset, roots[name], fault)
        manifests[name] = build_manifest(replace(dataset, root=roots[name]), count_cores())
    frames = {name: describe_frames(one.images, one.boxes) for name, one in manifests.items()}
    sound = manifests["sound"]
    frames["relabelled"] = describe_frames(sound.images, _relabelled(sound))
    frames["swapped"] = frames["sound"]
    thumbnails = {name: np.asarray(one.thumbnails) for name, one in manifests.items()}
    vectors = {} if weights is None else {name: _embed(manifests[name], roots[name], weights, folder) for name in roots}
    for name in ("relabelled", "swapped"):  # faults that no pixel shows
        thumbnails[name] = thumbnails["sound"]
        if vectors:
            vectors[name] = vectors["sound"]
    return Variants(frames, thumbnails, vectors)


def _plant(dataset: Dataset, root: Path, fault: Callable[[Frames], Frames]) -> None:
    for frame in dataset.frames:
        for place in (root / frame.image, root / frame.label):
            place.parent.mkdir(parents=True, exist_ok=True)
        rgb, _, _ = decode_rgb((dataset.root / frame.image).read_bytes())
        Image.fromarray(fault(rgb)).save(root / frame.image, quality=95)
        (root / frame.label).write_bytes((dataset.root / frame.label).read_bytes())


def _relabelled(manifest: Manifest) -> Any:
    """Boxes in which a share of the most frequent class has the name of the second."""
    names = manifest.boxes["class_name"].value_counts().index
    chosen = (manifest.boxes["class_name"] == names[0]) & (
        np.random.default_rng(0).random(len(manifest.boxes)) < RELABELLED
    )
    return manifest.boxes.assign(class_name=manifest.boxes["class_name"].where(~chosen, names[1]))


def _embed(manifest: Manifest, root: Path, weights: Path, folder: Path) -> npt.NDArray[np.float32]:
    paths = [root / image for image in manifest.images["image"]]
    return embed_images(weights, paths, list(manifest.images["sha256"]), folder / "embeddings.db")

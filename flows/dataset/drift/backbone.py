"""What the detector itself sees in a frame: the mean activations of the last layer of its backbone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bentos.detector.contract import file_sha256
from flows.dataset.manifest.inspection import decode_rgb
from flows.errors import CheckpointError, DataError
from flows.progress import Progress, silent
from flows.weights import read_weights, threads

if TYPE_CHECKING:
    from torch import nn

INPUT_PX = 320
"""Long side of the input; the short one is filled up with grey to a multiple of the stride."""
_STRIDE = 32
_BATCH = 16
_GREY = 114
_FORMAT = 1  # part of what vectors are remembered by: raise it when their making changes

Floats = npt.NDArray[np.float32]


def embed_images(
    weights: Path, paths: Sequence[Path], sha256: Sequence[str], store: Path, progress: Progress = silent
) -> Floats:  # (N, D)
    """A vector per image. Vectors are remembered in `store` by the digests of weights and image.

    Args:
        weights: Checkpoint of the detector (.pt).
        paths: Image files.
        sha256: Their digests, in the same order.
        store: SQLite file, made when it is not there.
        progress: Told after every batch.

    Raises:
        CheckpointError: The checkpoint cannot be read, or its backbone is no chain of layers.
        DataError: An image cannot be read.
    """
    key = f"{_FORMAT}:{INPUT_PX}:{file_sha256(weights)}" if weights.is_file() else ""
    with _opened(store) as database:
        known = _remembered(database, key, sha256)
        missing = [index for index, digest in enumerate(sha256) if digest not in known]
        if missing:
            backbone = read_backbone(weights)
            for start in range(0, len(missing), _BATCH):
                batch = missing[start : start + _BATCH]
                fresh = _embed(backbone, [paths[index] for index in batch])
                rows = [(key, sha256[index], vector.tobytes()) for index, vector in zip(batch, fresh, strict=True)]
                known |= {sha256[index]: vector for index, vector in zip(batch, fresh, strict=True)}
                with database:
                    database.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?)", rows)
                progress(start + len(batch), len(missing), f"{len(sha256) - len(missing):,} known already")
    return np.stack([known[digest] for digest in sha256]) if len(sha256) else np.zeros((0, 0), dtype=np.float32)


def read_backbone(weights: Path) -> nn.Sequential:
    """The layers of a checkpoint's backbone. Raises CheckpointError."""
    from torch import nn

    model: Any = read_weights(weights).model
    layers = list(model.model)[: len(model.yaml["backbone"])]
    if not layers or any(layer.f != -1 for layer in layers):
        raise CheckpointError(f"the backbone of {weights} is no chain of layers", "Give a YOLO11 checkpoint")
    return nn.Sequential(*layers).eval()


def embed_arrays(backbone: nn.Sequential, frames: Sequence[npt.NDArray[np.uint8]]) -> Floats:  # (N, D)
    """Vectors of RGB frames (H, W, 3); frames of one shape go through the network together."""
    import torch

    inputs = [_letterbox(frame) for frame in frames]
    vectors: list[Floats] = [np.zeros(0, dtype=np.float32)] * len(inputs)
    for shape in sorted({one.shape for one in inputs}):
        chosen = [index for index, one in enumerate(inputs) if one.shape == shape]
        batch = torch.from_numpy(np.stack([inputs[index] for index in chosen])).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode(), threads(1):  # more lose far more on busy cores than they win on idle ones
            found = backbone(batch).mean(dim=(2, 3)).numpy()
        for index, vector in zip(chosen, found, strict=True):
            vectors[index] = vector
    return np.stack(vectors)


def _embed(backbone: nn.Sequential, paths: Sequence[Path]) -> Floats:
    frames = []
    for path in paths:
        try:
            frames.append(decode_rgb(path.read_bytes())[0])
        except Exception as error:  # decoders raise whatever they like
            raise DataError(f"{path} can no longer be read: {error}", "Run `tca validate` again") from None
    return embed_arrays(backbone, frames)


def _letterbox(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    import cv2

    height, width = rgb.shape[:2]
    scale = INPUT_PX / max(height, width)
    size_wh = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = cv2.resize(rgb, size_wh, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    down, right = -size_wh[1] % _STRIDE, -size_wh[0] % _STRIDE
    return np.asarray(np.pad(small, ((0, down), (0, right), (0, 0)), constant_values=_GREY), dtype=np.uint8)


@contextmanager
def _opened(store: Path) -> Iterator[sqlite3.Connection]:
    store.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(store, timeout=30)) as database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS embeddings"
            " (weights TEXT, image TEXT, vector BLOB, PRIMARY KEY (weights, image)) WITHOUT ROWID"
        )
        yield database


def _remembered(database: sqlite3.Connection, key: str, sha256: Sequence[str]) -> dict[str, Floats]:
    query = "SELECT vector FROM embeddings WHERE weights = ? AND image = ?"
    found = {digest: database.execute(query, (key, digest)).fetchone() for digest in set(sha256)}
    return {digest: np.frombuffer(row[0], dtype=np.float32) for digest, row in found.items() if row is not None}

"""Embeddings as columns of a drift measurement: frames along the directions in which they differ most."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flows.dataset.drift.backbone import embed_images
from flows.dataset.drift.samples import Sample
from flows.progress import Progress, silent

NUM_COMPONENTS = 5

Floats = npt.NDArray[np.float32]


def embed_samples(
    reference: Sample, current: Sample, weights: Path, store: Path, max_frames: int, progress: Progress = silent
) -> tuple[Sample, Sample]:
    """Both samples with the columns of `join_embeddings`; as they are, if one of them has no images.

    Args:
        reference: What is compared with.
        current: What is judged.
        weights: Checkpoint of the detector (.pt).
        store: SQLite file in which vectors are remembered.
        max_frames: Of each sample, evenly spread; the others have no embedding.
        progress: Told after every batch.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        DataError: An image cannot be read.
    """
    if not max_frames or not all(sample.paths and len(sample.frames) for sample in (reference, current)):
        return reference, current
    vectors = [_vectors(sample, weights, store, max_frames, progress) for sample in (reference, current)]
    return join_embeddings(reference, current, vectors[0], vectors[1])


def join_embeddings(
    reference: Sample, current: Sample, reference_vectors: Floats, current_vectors: Floats
) -> tuple[Sample, Sample]:
    """Add `embedding_1` ... : projections on the leading principal components of both samples together.

    Together, since components that were fitted to one sample would spread it more than the other, which is drift where
    there is none.

    Args:
        reference: What is compared with.
        current: What is judged.
        reference_vectors: (num_frames, D), rows of NaN where a frame was not embedded.
        current_vectors: The same of the current sample.
    """
    import pandas as pd

    pooled = np.concatenate([reference_vectors, current_vectors]).astype(np.float64)
    known = np.isfinite(pooled).all(axis=1)
    centred = pooled - pooled[known].mean(axis=0)
    _, _, directions = np.linalg.svd(centred[known], full_matrices=False)
    leading = directions[:NUM_COMPONENTS]
    leading = leading * np.sign(leading[np.arange(len(leading)), np.abs(leading).argmax(axis=1)])[:, None]
    columns = pd.DataFrame(centred @ leading.T, columns=[f"embedding_{at + 1}" for at in range(len(leading))])
    cut = len(reference_vectors)
    return reference.with_columns(columns[:cut]), current.with_columns(columns[cut:])


def _vectors(sample: Sample, weights: Path, store: Path, max_frames: int, progress: Progress) -> Floats:
    number = len(sample.frames)
    rows = np.unique(np.linspace(0, number - 1, min(max_frames, number)).round().astype(np.int64))
    assert sample.paths is not None
    paths, digests = sample.paths, sample.frames["sha256"].tolist()
    found = embed_images(weights, [paths[row] for row in rows], [digests[row] for row in rows], store, progress)
    vectors = np.full((number, found.shape[1]), np.nan, dtype=np.float32)
    vectors[rows] = found
    return vectors


def without_embeddings(sample: Sample, reason: str) -> Sample:
    """The same with a note on why there are none."""
    return replace(sample, notes=(*sample.notes, f"embeddings were not compared: {reason}"))

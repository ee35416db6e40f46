"""Small samples of frames, drawn: cameras with their own scene, clips with their own light, vehicles, labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from bentos.detector.features import image_features
from flows.dataset.drift.samples import CLASS_PREFIX, FACTS, Sample

SIZE_WH = (96, 54)
CLASSES = ("car", "truck")


def scenes(num_cameras: int, seed: int = 0) -> dict[str, npt.NDArray[np.float64]]:
    """A street of rectangles for each camera."""
    streets = {}
    for number in range(num_cameras):
        generator = np.random.default_rng([seed, number])
        street = np.full((SIZE_WH[1], SIZE_WH[0]), 110.0)
        for _ in range(50):
            top, left = generator.integers(0, SIZE_WH[1] - 4), generator.integers(0, SIZE_WH[0] - 4)
            high, wide = generator.integers(3, 20, 2)
            street[top : top + high, left : left + wide] = generator.uniform(50, 170)
        streets[f"cam{number + 1:02d}"] = street
    return streets


def draw(
    street: npt.NDArray[np.float64], light: float, generator: np.random.Generator
) -> npt.NDArray[np.uint8]:  # (54, 96)
    """A frame of the street with a vehicle and noise."""
    frame = street.copy()
    y, x = generator.integers(0, SIZE_WH[1] - 8), generator.integers(0, SIZE_WH[0] - 12)
    frame[y : y + 8, x : x + 12] = generator.uniform(0, 255)
    return np.clip(frame * light + generator.normal(0, 3, frame.shape), 0, 255).astype(np.uint8)


def make_sample(
    name: str,
    streets: dict[str, npt.NDArray[np.float64]],
    seed: int,
    *,
    num_clips: int = 6,
    num_frames: int = 4,
    share_of_trucks: float = 0.2,
) -> Sample:
    """`num_clips` clips of `num_frames` frames of each camera, by turns by day and by night."""
    generator = np.random.default_rng([seed, 77])
    rows, pictures = [], []
    for camera, street in streets.items():
        for clip in range(num_clips):
            slice_ = ("day", "night")[clip % 2]
            light = generator.uniform(0.95, 1.05) * (1.0 if slice_ == "day" else 0.6)
            for number in range(num_frames):
                pictures.append(draw(street, light, generator))
                facts = (f"{camera}_{clip}_{number}.jpg", f"{seed}{camera}{clip}{number}", camera, f"{camera}/{clip}")
                rows.append({**dict(zip(FACTS, (*facts, slice_), strict=True)), **_figures(generator, share_of_trucks)})
    return refreshed(Sample(name, pd.DataFrame(rows), np.stack(pictures)))


def refreshed(sample: Sample) -> Sample:
    """The sample with the image figures of its thumbnails, which a test has changed."""
    assert sample.thumbnails is not None
    rgb = np.repeat(sample.thumbnails[..., None], 3, axis=3)
    figures = pd.DataFrame([image_features(frame) for frame in rgb])
    figures["underexposed"] = (sample.thumbnails < 16).mean(axis=(1, 2))
    figures["overexposed"] = (sample.thumbnails > 239).mean(axis=(1, 2))
    return sample.with_columns(figures)


def _figures(generator: np.random.Generator, share_of_trucks: float) -> dict[str, float]:
    num_boxes = int(generator.poisson(8)) + 1
    trucks = generator.binomial(num_boxes, share_of_trucks) / num_boxes
    return {
        "num_boxes": float(num_boxes),
        "mean_box_share": generator.uniform(0.01, 0.05),
        "box_centre_y": generator.uniform(0.4, 0.6),
        "box_aspect": generator.uniform(1.0, 2.0),
        f"{CLASS_PREFIX}car": 1 - trucks,
        f"{CLASS_PREFIX}truck": trucks,
    }

"""Frames with random objects, and models of a chosen quality on them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from flows.comparison.predictions import GroundTruth, LabelledFrame, Predictions, ground_truth, predictions
from flows.params import EvaluateParams

SLICES = ("day", "dusk", "night", "rain")


def draw_truth(
    rng: np.random.Generator, cameras: int = 8, clips: int = 2, frames: int = 8, classes: int = 4, most: int = 8
) -> GroundTruth:
    labelled = []
    for camera in range(cameras):
        for clip in range(clips):
            for frame in range(frames):
                num_objects = int(rng.integers(0, most + 1))
                low = rng.uniform(0, 400, (num_objects, 2))
                boxes = np.hstack([low, low + rng.uniform(6, 140, (num_objects, 2))])
                labelled.append(
                    LabelledFrame(
                        image=f"images/test/cam{camera:02d}_c{clip}_{frame}.jpg",
                        camera=f"cam{camera:02d}",
                        clip=f"c{clip}",
                        slice=SLICES[camera % len(SLICES)],
                        boxes_xyxy=boxes,
                        class_ids=rng.integers(0, classes, num_objects),
                    )
                )
    return ground_truth([f"class{number}" for number in range(classes)], labelled)


def draw_predictions(
    rng: np.random.Generator, truth: GroundTruth, found: float = 0.8, jitter: float = 0.05, most_false: int = 6
) -> Predictions:
    """Find a share `found` of the objects, some twice or as another class, displaced; and things that are not there."""
    boxes, scores, class_ids = [], [], []
    num_classes = len(truth.classes)
    for index in range(len(truth.images)):
        here = truth.of(index)
        copies = np.where(
            rng.random(len(truth.class_ids[here])) < found, rng.integers(1, 3, len(truth.class_ids[here])), 0
        )
        real = np.repeat(truth.boxes_xyxy[here], copies, axis=0)
        size = np.tile(real[:, 2:] - real[:, :2], 2)
        real = real + rng.normal(0, jitter, real.shape) * size
        real[:, 2:] = np.maximum(real[:, 2:], real[:, :2] + 1)
        classes = np.repeat(truth.class_ids[here], copies)
        classes = np.where(rng.random(len(classes)) < 0.05, rng.integers(0, num_classes, len(classes)), classes)
        num_false = int(rng.integers(0, most_false + 1))
        low = rng.uniform(0, 400, (num_false, 2))
        boxes.append(np.vstack([real, np.hstack([low, low + rng.uniform(6, 140, (num_false, 2))])]))
        scores.append(np.concatenate([rng.uniform(0.1, 1.0, len(real)), rng.uniform(0.0, 0.6, num_false)]))
        class_ids.append(np.concatenate([classes, rng.integers(0, num_classes, num_false)]))
    return predictions(truth.images, boxes, scores, class_ids)


@pytest.fixture
def make_truth() -> Callable[..., GroundTruth]:
    return draw_truth


@pytest.fixture
def make_predictions() -> Callable[..., Predictions]:
    return draw_predictions


@pytest.fixture
def params() -> EvaluateParams:
    return EvaluateParams(
        split="test",
        unit="camera",
        block_s=60.0,
        min_units=6,
        alpha=0.05,
        replicates=200,
        min_map50_95=0.10,
        margin=0.005,
        goal="non-inferior",
        slice_margin=0.05,
        slice_rule="not-worse",
        min_objects_per_slice=50,
        insufficient="report",
        precision_margin=0.05,
        recall_margin=0.05,
        calibration_margin=0.05,
        max_latency_ms=100.0,
        max_slowdown=1.5,
    )

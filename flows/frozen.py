"""The frozen frames with their labels, for every stage that judges on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from flows.comparison.predictions import GroundTruth, LabelledFrame, ground_truth
from flows.dataset.labels import boxes_xyxy, read_labels
from flows.dataset.layout import Dataset, Frame
from flows.errors import DataError


def frozen_frames(dataset: Dataset, split: str) -> GroundTruth:
    """The labelled frames of `split`. Raises DataError where a label does not parse."""
    return ground_truth(dataset.classes, [_labelled(dataset, frame) for frame in dataset.split(split)])


def check_classes(known: Sequence[str], dataset: Dataset) -> None:
    """Raises DataError unless the model knows the classes of the data."""
    if tuple(known) != dataset.classes:
        raise DataError(
            f"the model knows {', '.join(known)}, the data {', '.join(dataset.classes)}",
            "Compare on data with the classes that the model was trained on",
        )


def _labelled(dataset: Dataset, frame: Frame) -> LabelledFrame:
    with Image.open(dataset.root / frame.image) as image:
        size_wh = image.size
    boxes, problems = read_labels(dataset.root / frame.label, dataset.classes, frame.label, dataset.form)
    if problems:
        raise DataError(f"{problems[0].file}:{problems[0].line}: {problems[0].message}", "Run: tca validate")
    class_ids = [box.class_id for box in boxes]
    return LabelledFrame(
        frame.image,
        frame.camera,
        frame.clip,
        frame.slice,
        boxes_xyxy(boxes, size_wh),
        np.array(class_ids, dtype=np.int64),
        time=frame.time,
    )

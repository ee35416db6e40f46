"""Labelling tasks: the frames that would teach most, with what each model sees drawn in.

A frame is worth labelling where two models disagree and are sure of it. Neighbours of one clip show nearly the same, so
the most doubtful frame of every clip comes before the second of any.

The JSON is Label Studio's format of pre-annotated tasks; its images are paths below the data folder, which Label Studio
serves as local files: LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=<data>.
Source: labelstud.io/guide/predictions.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from flows.comparison.predictions import Boxes, Floats, GroundTruth, Predictions
from flows.comparison.served import unpartnered
from flows.page import PALETTE

SizeOf = Callable[[str], tuple[int, int]]
"""Gives width and height of a frame, px, by its name in the ground truth."""

LABELS = "labels"
_CSV_HEADER = ("rank", "image", "camera", "clip", "slice", "doubt", "challenger_alone", "other", "other_alone")


@dataclass(frozen=True)
class Doubt:
    """A frame and how much its two sides contradict each other."""

    index: int  # of the frame in the ground truth
    doubt: float  # sum of the confidences of served boxes without a partner on the other side; a label counts 1
    challenger_alone: int  # boxes that only the challenger has
    other_alone: int  # boxes that only the champion has; without one, only the labels


def most_doubtful(truth: GroundTruth, challenger: Predictions, champion: Predictions | None, num: int) -> list[Doubt]:
    """Choose `num` frames to label, most doubtful first; without a champion the labels are the other side.

    The predictions are those served. Frames on which both sides agree are none, so there may be fewer.
    """
    other: Boxes = truth if champion is None else champion
    doubts = [_doubt(challenger, other, index) for index in range(len(truth.images))]
    ranked = sorted((one for one in doubts if one.doubt > 0), key=lambda one: (-one.doubt, truth.images[one.index]))
    seen: Counter[tuple[str, str]] = Counter()
    rounds: list[tuple[int, Doubt]] = []
    for one in ranked:
        clip = truth.cameras[one.index], truth.clips[one.index]
        rounds.append((seen[clip], one))
        seen[clip] += 1
    return [one for _, one in sorted(rounds, key=lambda entry: entry[0])][:num]


def label_studio_tasks(
    chosen: Sequence[Doubt], truth: GroundTruth, models: Mapping[str, Predictions], size_of: SizeOf
) -> list[dict[str, Any]]:
    """Write each frame as a task of Label Studio, with the boxes of each model and the labels as predictions.

    Args:
        models: What Label Studio shall call each model (`model_version`), to the detections that it serves.
    """
    layers: dict[str, Boxes] = {**models, LABELS: truth}
    return [_task(rank, one, truth, layers, size_of) for rank, one in enumerate(chosen, start=1)]


def label_config(classes: Sequence[str]) -> str:
    """Write the labelling interface that the tasks are made for, to be pasted into Label Studio's settings."""
    labels = "".join(
        f"    <Label value={quoteattr(name)} background={quoteattr(PALETTE[number % len(PALETTE)])}/>\n"
        for number, name in enumerate(classes)
    )
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <RectangleLabels name="label" toName="image">\n{labels}  </RectangleLabels>\n</View>\n'
    )


def tasks_csv(chosen: Sequence[Doubt], truth: GroundTruth, has_champion: bool) -> str:
    """Write the list as CSV with a header, one frame a line, for tools that take a list of files."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_HEADER)
    other = "champion" if has_champion else LABELS
    for rank, one in enumerate(chosen, start=1):
        places = (truth.images[one.index], truth.cameras[one.index], truth.clips[one.index], truth.slices[one.index])
        writer.writerow((rank, *places, f"{one.doubt:.3f}", one.challenger_alone, other, one.other_alone))
    return text.getvalue()


def _doubt(new: Predictions, other: Boxes, index: int) -> Doubt:
    alone, other_alone = unpartnered(new, other, index)
    certain = other.scores[other.of(index)] if isinstance(other, Predictions) else np.ones(len(other_alone))
    doubt = float(new.scores[new.of(index)][alone].sum() + certain[other_alone].sum())
    return Doubt(index, doubt, int(alone.sum()), int(other_alone.sum()))


def _task(rank: int, one: Doubt, truth: GroundTruth, layers: Mapping[str, Boxes], size_of: SizeOf) -> dict[str, Any]:
    image = truth.images[one.index]
    size_wh = size_of(image)
    data = {
        "image": f"/data/local-files/?d={quote(image)}",
        "file": image,
        "camera": truth.cameras[one.index],
        "clip": truth.clips[one.index],
        "slice": truth.slices[one.index],
        "rank": rank,
        "doubt": round(one.doubt, 3),
    }
    predictions = [_prediction(name, boxes, one.index, truth.classes, size_wh) for name, boxes in layers.items()]
    return {"data": data, "predictions": predictions}


def _prediction(
    name: str, boxes: Boxes, index: int, classes: Sequence[str], size_wh: tuple[int, int]
) -> dict[str, Any]:
    here = boxes.of(index)
    scores: Floats | None = boxes.scores[here] if isinstance(boxes, Predictions) else None
    regions = [
        _region(f"{name}-{number}", corners, classes[class_id], size_wh)
        for number, (corners, class_id) in enumerate(zip(boxes.boxes_xyxy[here], boxes.class_ids[here], strict=True))
    ]
    if scores is None:
        return {"model_version": name, "result": regions}
    for region, score in zip(regions, scores, strict=True):
        region["score"] = round(float(score), 4)
    mean = round(float(scores.mean()), 4) if len(scores) else 0.0
    return {"model_version": name, "score": mean, "result": regions}


def _region(region_id: str, corners: Floats, label: str, size_wh: tuple[int, int]) -> dict[str, Any]:
    """A box in Label Studio's percent of the frame, cut off at its border."""
    percent = 100 * np.clip(corners / np.array([*size_wh, *size_wh]), 0.0, 1.0)
    x, y, right, bottom = (round(float(value), 4) for value in percent)
    value = {"x": x, "y": y, "width": round(right - x, 4), "height": round(bottom - y, 4), "rotation": 0}
    return {
        "id": region_id,
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": size_wh[0],
        "original_height": size_wh[1],
        "image_rotation": 0,
        "value": {**value, "rectanglelabels": [label]},
    }

"""Labelled frames that exist as tables only, a stand-in for a reference model, and faults planted in the labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flows.dataset.layout import Dataset, Frame
from flows.dataset.manifest.manifest import TABLES, Manifest
from flows.dataset.review.classes import ClassMap
from flows.dataset.review.objects import Detected
from flows.dataset.review.review import Witness
from flows.params_data import ReviewParams

CLASSES = ("car", "truck", "bus")
SIZE_WH = (640, 384)
Corners = tuple[float, float, float, float]
Label = tuple[int, Corners]  # class id, corners


@dataclass
class Scenes:
    """What is true, what is labelled and what the stand-in finds, frame by frame."""

    truth: list[list[Label]]
    labels: list[list[Label]]
    detections: dict[str, Detected]
    planted: dict[str, set[tuple[str, int]]] = field(default_factory=dict)  # kind to image and line (0: none)
    dropped: list[tuple[str, Corners]] = field(default_factory=list)  # image and place of labels that are gone

    def name(self, index: int) -> str:
        return f"images/train/f{index:04}.jpg"

    @property
    def dataset(self) -> Dataset:
        frames = tuple(Frame(self.name(i), "train", "cam1", "", "", "day") for i in range(len(self.labels)))
        return Dataset(Path("data"), CLASSES, frames)

    @property
    def manifest(self) -> Manifest:
        images = [_image(self.name(i), len(labels)) for i, labels in enumerate(self.labels)]
        boxes = [
            _box(self.name(i), line, label)
            for i, labels in enumerate(self.labels)
            for line, label in enumerate(labels, start=1)
        ]
        tables = {"images": images, "boxes": boxes, "problems": []}
        made = {
            name: pd.DataFrame(rows, columns=list(TABLES[name])).astype(TABLES[name]) for name, rows in tables.items()
        }
        return Manifest(**made, thumbnails=np.zeros((len(images), 54, 96), dtype=np.uint8))


def draw_scenes(seed: int, num_images: int = 120) -> Scenes:
    """Frames with up to 12 vehicles that do not overlap, all labelled, and a good but imperfect reference."""
    dice = np.random.default_rng(seed)
    truth = [_vehicles(dice) for _ in range(num_images)]
    scenes = Scenes(truth, [list(one) for one in truth], {})
    scenes.detections = {scenes.name(i): _found(one, dice) for i, one in enumerate(truth)}
    return scenes


def plant_faults(scenes: Scenes, seed: int, share: float = 0.03) -> None:
    """Drop, swap and shift `share` of the labels each, add as many of nothing, and empty two label files."""
    dice = np.random.default_rng(seed)
    kinds = ("wrong_class", "badly_located", "spurious", "empty_frame")
    scenes.planted = {kind: set() for kind in kinds}
    for index in range(len(scenes.labels)):
        name = scenes.name(index)
        if index < 2:
            scenes.labels[index] = []
            scenes.planted["empty_frame"].add((name, 0))
            continue
        kept: list[Label] = []
        for class_id, corners in scenes.labels[index]:
            fate = dice.random() / share
            if fate < 1:
                scenes.dropped.append((name, corners))
                continue
            if fate < 2:
                kept.append(((class_id + 1 + int(dice.integers(2))) % 3, corners))
                scenes.planted["wrong_class"].add((name, len(kept)))
            elif fate < 3:
                kept.append((class_id, _shifted(corners)))
                scenes.planted["badly_located"].add((name, len(kept)))
            else:
                kept.append((class_id, corners))
        if dice.random() < share * 12 and (place := _free_place(dice, scenes.truth[index])) is not None:
            kept.append((0, place))
            scenes.planted["spurious"].add((name, len(kept)))
        scenes.labels[index] = kept


def make_params(**changes: Any) -> ReviewParams:
    """The parameters of params.yaml, with some replaced."""
    values: dict[str, Any] = {
        "reference": "",
        "classes": {},
        "image_size": 640,
        "min_conf": 0.4,
        "min_score": 0.3,
        "min_sure_share": 0.85,
        "min_labels": 30,
        "top": 20,
    }
    return ReviewParams.model_validate({**values, **changes})


def witness(**changes: Any) -> Witness:
    """A stand-in with the classes of the data."""
    same = ClassMap({0: 0, 1: 1, 2: 2}, {name: (name,) for name in CLASSES}, ())
    return Witness(**{"name": "stand-in", "key": "0" * 64, "input_side_px": 640, "class_map": same, **changes})


def detected(*rows: tuple[int, float, Corners]) -> Detected:
    """Detections from class id, score and corners."""
    return Detected(
        np.array([row[2] for row in rows], dtype=np.float64).reshape(-1, 4),
        np.array([row[1] for row in rows], dtype=np.float64),
        np.array([row[0] for row in rows], dtype=np.int64),
    )


def _vehicles(dice: np.random.Generator) -> list[Label]:
    vehicles: list[Label] = []
    for cell in dice.permutation(24)[: int(dice.integers(4, 13))]:
        left, top = cell % 6 * 106, cell // 6 * 96
        width, height = dice.uniform(26, 90), dice.uniform(26, 80)
        x, y = left + dice.uniform(2, 104 - width), top + dice.uniform(2, 94 - height)
        vehicles.append((int(dice.choice(3, p=[0.6, 0.2, 0.2])), (x, y, x + width, y + height)))
    return vehicles


def _found(vehicles: list[Label], dice: np.random.Generator) -> Detected:
    """Surer of the large than of the small; sometimes unsure of the class; a little noise everywhere."""
    rows = []
    for class_id, corners in vehicles:
        score = float(np.clip(dice.normal(0.75, 0.12), 0.02, 0.97))
        if score >= 0.05:
            rows.append((class_id, score, _jittered(corners, dice)))
        if dice.random() < 0.3:  # looks a little like another class, too
            rows.append(((class_id + 1) % 3, score * float(dice.uniform(0.1, 0.6)), _jittered(corners, dice, 0.01)))
    for _ in range(int(dice.integers(4))):
        x, y = dice.uniform(0, 560), dice.uniform(0, 320)
        rows.append((int(dice.integers(3)), float(dice.uniform(0.05, 0.3)), (x, y, x + 40, y + 30)))
    return detected(*rows)


def _jittered(corners: Corners, dice: np.random.Generator, reach: float = 0.03) -> Corners:
    x1, y1, x2, y2 = corners
    moves = dice.normal(0, reach, 4) * [x2 - x1, y2 - y1, x2 - x1, y2 - y1]
    return x1 + moves[0], y1 + moves[1], x2 + moves[2], y2 + moves[3]


def _shifted(corners: Corners) -> Corners:
    """Moved so far that about 45 % of overlap is left."""
    x1, y1, x2, y2 = corners
    step = (x2 - x1) * 0.38 * (1 if x1 < 320 else -1)
    return x1 + step, y1, x2 + step, y2


def _free_place(dice: np.random.Generator, vehicles: list[Label]) -> Corners | None:
    for _ in range(50):
        x, y = dice.uniform(0, 590), dice.uniform(0, 340)
        box = (x, y, x + 45, y + 40)
        if all(
            box[2] < a - 30 or box[0] > c + 30 or box[3] < b - 30 or box[1] > d + 30 for _, (a, b, c, d) in vehicles
        ):
            return box
    return None


def _image(name: str, num_boxes: int) -> dict[str, Any]:
    values: dict[str, Any] = {column: _default(kind) for column, kind in TABLES["images"].items()}
    known = {"image": name, "split": "train", "camera": "cam1", "slice": "day", "readable": True}
    return {**values, **known, "width": SIZE_WH[0], "height": SIZE_WH[1], "num_boxes": num_boxes, "sha256": name}


def _box(name: str, line: int, label: Label) -> dict[str, Any]:
    class_id, (x1, y1, x2, y2) = label
    values: dict[str, Any] = {column: _default(kind) for column, kind in TABLES["boxes"].items()}
    known = {"image": name, "split": "train", "camera": "cam1", "slice": "day", "line": line, "class_id": class_id}
    corners = {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "width_px": x2 - x1, "height_px": y2 - y1}
    return {**values, **known, "class_name": CLASSES[class_id], **corners}


def _default(kind: str) -> Any:
    defaults: dict[str, Callable[[], Any]] = {"str": str, "bool": bool, "int64": int, "float64": float}
    return defaults[kind]()

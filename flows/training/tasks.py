"""The five tasks of YOLO11: which trainer of Ultralytics learns them, and how well it did.

How their labels are written: `flows.label_forms`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows.errors import DataError
from flows.label_forms import LabelForm, are_counts, form_of
from flows.params_train import Task, TrainParams

SIZES = ("n", "s", "m", "l", "x")


@dataclass(frozen=True)
class TaskFacts:
    """What differs between the tasks.

    `suffix` follows the size in the name of an architecture ("-seg": yolo11n-seg.yaml); `trainer` is the class in
    `ultralytics.models.yolo.<task>`; `letter` marks the metrics the task is judged by ("M": metrics/mAP50(M)), empty
    where it is top-1 accuracy; `num_layers` is what `train.freeze` counts, the head included.
    """

    task: Task
    suffix: str
    trainer: str
    letter: str
    num_layers: int = 24

    @property
    def has_boxes(self) -> bool:
        """Whether objects are found in a frame; if not (classify), the frame as a whole has a class.

        Without boxes frames are mirrored in folders of classes (`flows.training.class_folders`), the input is the
        square of `image_size`, and mosaics and rectangles do not exist.
        """
        return self.task != "classify"


TASKS: dict[Task, TaskFacts] = {
    "detect": TaskFacts("detect", "", "DetectionTrainer", "B"),
    "segment": TaskFacts("segment", "-seg", "SegmentationTrainer", "M"),
    "classify": TaskFacts("classify", "-cls", "ClassificationTrainer", "", num_layers=11),
    "pose": TaskFacts("pose", "-pose", "PoseTrainer", "P"),
    "obb": TaskFacts("obb", "-obb", "OBBTrainer", "B"),
}


@dataclass(frozen=True)
class TaskMetrics:
    """How good a model is at its task. NaN is a figure that the task does not have.

    score: What the best epoch is chosen by: mAP50-95 of boxes (detect, obb), masks (segment) or points (pose), or
        top-1 accuracy (classify).
    """

    score: float
    map50: float
    map50_95: float
    precision: float
    recall: float


def architectures(task: Task) -> tuple[str, ...]:
    """The names that `train.model` may take for a task, smallest first: yolo11n-seg.yaml, ..."""
    return tuple(f"yolo11{size}{TASKS[task].suffix}.yaml" for size in SIZES)


def load_trainer(task: Task) -> type[Any]:
    """Ultralytics' trainer class for a task. Call `load_ultralytics` before."""
    from importlib import import_module

    module = import_module(f"ultralytics.models.yolo.{task}")
    found: type[Any] = getattr(module, TASKS[task].trainer)
    return found


def read_metrics(task: Task, metrics: Mapping[str, float]) -> TaskMetrics:
    """The figures of a task from those of Ultralytics' validator (`metrics/mAP50-95(B)` and so on).

    Its own `fitness` is another one: of segment and pose the sum over boxes and masks or points, of classify the mean
    of top-1 and top-5. Who chooses the best epoch by `score` must not take that.
    """
    facts = TASKS[task]
    if not facts.has_boxes:
        return TaskMetrics(float(metrics["metrics/accuracy_top1"]), math.nan, math.nan, math.nan, math.nan)
    found = {
        key: float(metrics[f"metrics/{key}({facts.letter})"]) for key in ("mAP50", "mAP50-95", "precision", "recall")
    }
    return TaskMetrics(found["mAP50-95"], found["mAP50"], found["mAP50-95"], found["precision"], found["recall"])


def task_data(task: Task, root: Path, mirror: Path, classes: tuple[str, ...]) -> dict[str, Any]:
    """What a trainer's `get_dataset` returns: the mirrored splits, the names, and where labels have points their shape.

    Args:
        root: Folder of the dataset, for its data.yaml.
        mirror: Folder that the frames are mirrored in.

    Raises:
        DataError: data.yaml does not say how many points an object has.
    """
    images = mirror / "images" if TASKS[task].has_boxes else mirror
    splits = {split: str(images / split) for split in ("train", "val")}
    names = dict(enumerate(classes))
    return {"path": mirror, **splits, "names": names, "nc": len(names), "channels": 3, **point_keys(root)}


def labelled_form(root: Path) -> LabelForm:
    """How the labels of a dataset are written, by its data.yaml; boxes where there is none.

    Raises:
        DataError: data.yaml is unreadable, or names an unknown task or no shape of points.
    """
    return form_of(_read_data_yaml(root), root / "data.yaml")


def point_keys(root: Path) -> dict[str, list[int]]:
    """`kpt_shape` (points, 2 or 3 numbers each) of a data.yaml, and `flip_idx` if it has one; empty without points.

    `flip_idx` says which point each one becomes in a mirror; without it frames are not mirrored.

    Raises:
        DataError: kpt_shape is not of that form, or flip_idx does not fit it.
    """
    path, form = root / "data.yaml", labelled_form(root)
    if form.task != "pose":
        return {}
    shape = {"kpt_shape": [form.points, form.point_size]}
    flip = _read_data_yaml(root).get("flip_idx")
    if flip is None:
        return shape
    if not are_counts(flip, form.points) or sorted(flip) != list(range(form.points)):
        raise DataError(f"{path}: flip_idx is {flip!r}", f"Expected each of 0 to {form.points - 1} once")
    return {**shape, "flip_idx": flip}


def _read_data_yaml(root: Path) -> dict[str, Any]:
    path = root / "data.yaml"
    if not path.is_file():
        return {}
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read: {error}", "Run: tca validate") from None
    return tree if isinstance(tree, dict) else {}


def settings_without_effect(params: TrainParams) -> list[str]:
    """Sentences about what is set in `train` and changes nothing for its task."""
    idle = []
    if not TASKS[params.task].has_boxes and params.mosaic > 0:
        idle.append(f"train.mosaic {params.mosaic:g} has no effect: classify knows no mosaics")
    if params.optimizer == "auto":
        idle.append(f"train.learning_rate {params.learning_rate:g} has no effect: optimizer auto picks the rate")
    return idle

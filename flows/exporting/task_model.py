"""Models of segment, classify, pose and oriented boxes: Ultralytics' exporter builds them, its validator judges them.

The detector has a graph, engines and proofs of its own; these tasks have what Ultralytics offers, on square input.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from flows.errors import CheckpointError, DataError, EngineUnavailable
from flows.params_train import Task
from flows.weights import load_ultralytics, read_weights

TaskEngine = Literal["pytorch", "onnxruntime", "openvino"]
TASK_ENGINES: tuple[TaskEngine, ...] = ("onnxruntime", "openvino")
TASK_MODEL = "task_model.json"
_FORMATS = {"onnxruntime": "onnx", "openvino": "openvino"}
_VALIDATORS: dict[Task, str] = {
    "segment": "SegmentationValidator",
    "classify": "ClassificationValidator",
    "pose": "PoseValidator",
    "obb": "OBBValidator",
}


class TaskModel(BaseModel):
    """What lies in a model directory of such a task: task_model.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Task = Field(description="segment, classify, pose or obb")
    engine: TaskEngine = Field(description="what runs the model")
    file: str = Field(description="file or folder that the engine loads")
    image_size: int = Field(description="side of the square input, px")
    classes: tuple[str, ...] = Field(description="class names, by class id")
    model_sha256: str = Field(description="of the weights that it was made from, hex")


@dataclass(frozen=True)
class JudgedFrames:
    """A mirror of labelled frames that Ultralytics may litter.

    `data` is what its trainer's `get_dataset` returns; its key `val` is the split that judges.
    """

    mirror: Path
    data: dict[str, Any]


@dataclass(frozen=True)
class Judgement:
    """Ultralytics' figures of a model on frames, and the time its network takes for one, ms."""

    figures: dict[str, float]
    ms_per_image: float


def read_task_model(folder: Path) -> TaskModel:
    """The model in `folder`. Raises CheckpointError when none lies there."""
    path = folder / TASK_MODEL
    try:
        return TaskModel.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise CheckpointError(f"{path} is missing or damaged", "Run: tca export") from None


def build_task_model(checkpoint: Path, task: Task, engine: TaskEngine, image_size: int, folder: Path) -> str:
    """Export `checkpoint` into `folder` and return the name of the file or folder that the engine loads.

    Raises:
        CheckpointError: The file is no checkpoint of the task.
        EngineUnavailable: Ultralytics cannot build the engine here.
    """
    weights = read_weights(checkpoint)
    if weights.task != task:
        raise CheckpointError(f"{checkpoint} was made to {weights.task}, not to {task}", "Run: tca train")
    if engine == "pytorch":
        return "weights.pt"
    load_ultralytics()
    from ultralytics.engine.exporter import Exporter

    model: Any = weights.model
    model.task = task  # what Ultralytics' own loader would set
    model.args = {**dict(getattr(model, "args", None) or {}), "data": ""}
    model.pt_path = str(folder / "weights.pt")  # the name and place of what is written come from here
    arguments = {"format": _FORMATS[engine], "imgsz": image_size, "batch": 1, "device": "cpu"}
    arguments |= {"simplify": False} if engine == "onnxruntime" else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = Exporter(overrides=arguments)(model=model)
    except (RuntimeError, ImportError, AssertionError, ValueError) as error:
        told = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise EngineUnavailable(f"{engine} cannot be built for {task}: {told}") from error
    return Path(str(made)).name


def judge_task_model(folder: Path, model: TaskModel, frames: JudgedFrames) -> Judgement:
    """Run Ultralytics' validator of the task over the split `val` of `frames`, one frame at a time, on the CPU.

    Raises:
        DataError: Ultralytics found no usable frame.
    """
    from importlib import import_module

    load_ultralytics()
    validator_class = getattr(import_module(f"ultralytics.models.yolo.{model.task}"), _VALIDATORS[model.task])
    place = folder / model.file
    # A checkpoint is read restricted, as everywhere; Ultralytics itself would run what is in it.
    subject: Any = read_weights(place).model if model.engine == "pytorch" else str(place)
    arguments = {
        **{"task": model.task, "mode": "val", "split": "val", "data": str(_data_of(model.task, frames))},
        **{"imgsz": model.image_size, "batch": 1, "workers": 0, "device": "cpu"},
        **{"rect": False, "plots": False, "verbose": False, "save_json": False},
    }
    validator = validator_class(save_dir=frames.mirror / "judged", args=arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            figures = validator(model=subject)
    except (RuntimeError, FileNotFoundError) as error:
        raise DataError(
            f"Ultralytics cannot judge these frames: {str(error).splitlines()[0]}", "Run: tca validate"
        ) from error
    return Judgement({key: float(value) for key, value in figures.items()}, float(validator.speed["inference"]))


def _data_of(task: Task, frames: JudgedFrames) -> Path:
    """What the validator is given: the folder of a set to classify, else a data.yaml in the mirror."""
    if task == "classify":
        return frames.mirror
    path = frames.mirror / "data.yaml"
    tree = {key: str(value) if isinstance(value, Path) else value for key, value in frames.data.items()}
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def publish_task_model(draft: Path, folder: Path, model: TaskModel, keep: Sequence[str]) -> None:
    """Replace `folder` by what `keep` names of `draft`, and task_model.json."""
    for one in draft.iterdir():
        if one.name not in keep:
            shutil.rmtree(one) if one.is_dir() else one.unlink()
    (draft / TASK_MODEL).write_text(model.model_dump_json(indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)

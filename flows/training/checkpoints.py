"""What a checkpoint is, before anything is built on it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from bentos.detector.contract import file_sha256
from flows.errors import CheckpointError
from flows.params_train import Task
from flows.training.tasks import TASKS, architectures
from flows.weights import Weights, read_weights
from flows.weights_kinds import check_kind

_MADE_TO = {"pose": "find poses", "obb": "find turned boxes"}


class CheckpointInfo(BaseModel):
    """What a checkpoint says about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(description="detect, segment, classify, pose or obb")
    scale: str = Field(description="n, s, m, l or x; empty when unknown")
    classes: tuple[str, ...] = Field(description="class names, by class id")
    num_parameters: int = Field(description="parameters of the model")
    sha256: str = Field(description="of the file, hex")
    unfinished_epoch: int | None = Field(default=None, description="last epoch of a training that was not finished")


def inspect_checkpoint(path: Path, task: Task = "detect") -> CheckpointInfo:
    """Read a checkpoint and say what it is.

    Raises:
        CheckpointError: It is missing, is no checkpoint, was made for another task, or is no YOLO11.
    """
    weights = read_yolo11(path, task)
    epoch = weights.content.get("epoch", -1)
    is_finished = weights.content.get("optimizer") is None or not isinstance(epoch, int) or epoch < 0
    return CheckpointInfo(
        task=weights.task,
        scale=str(getattr(weights.model, "yaml", {}).get("scale", "")),
        classes=weights.classes,
        num_parameters=sum(parameter.numel() for parameter in weights.model.parameters()),
        sha256=file_sha256(path),
        unfinished_epoch=None if is_finished else epoch + 1,
    )


def read_yolo11(path: Path, task: Task = "detect") -> Weights:
    """`read_weights`, of a YOLO11 made for `task` only. Raises CheckpointError, which says what it is instead."""
    weights = read_weights(path)
    other = _other_architecture(weights)
    if weights.task != task and weights.task in TASKS:
        raise CheckpointError(
            f"{path} was made to {_made_to(weights.task)}, not to {_made_to(task)}",
            f"Give a checkpoint made to {task}, or set train.task={weights.task}",
        )
    if other:
        raise CheckpointError(
            f"{path} is {other}, not a YOLO11 made to {_made_to(task)}", "Give a checkpoint of a YOLO11 model"
        )
    return weights


def find_start(model: str, task: Task | None = None) -> str | Path:
    """Resolve `train.model`: the name of an architecture (yolo11n.yaml) or the path of a checkpoint.

    Light: a checkpoint is not opened, only looked at from outside. Without `task` architectures of all tasks are known.

    Raises:
        CheckpointError: It is neither, it is an architecture for another task, or the file is no checkpoint.
    """
    if any(model in architectures(one) for one in ([task] if task else TASKS)):
        return model
    known = architectures(task or "detect")
    if model.endswith((".yaml", ".yml")):
        raise _unknown_architecture(model, task or "detect")
    path = Path(model)
    if not path.exists():
        what = "architecture" if path.suffix == "" else "checkpoint"
        nothing = "" if path.suffix == "" or path.parent.name else "; nothing is downloaded"
        raise CheckpointError(f"train.model: there is no {what} {model}{nothing}{_meant(model, known)}", _known(known))
    try:
        check_kind(path)
    except CheckpointError as error:
        raise CheckpointError(f"train.model: {error.message}", error.remedy) from None
    return path


def _unknown_architecture(model: str, task: Task) -> CheckpointError:
    for other in TASKS:
        if model in architectures(other):
            own = model.replace(TASKS[other].suffix + ".yaml", TASKS[task].suffix + ".yaml")
            return CheckpointError(
                f"train.model: {model} is made to {_made_to(other)}, but train.task is {task}",
                f"Set train.task={other}, or train.model={own}",
            )
    known = architectures(task)
    return CheckpointError(f"train.model: there is no architecture {model}{_meant(model, known)}", _known(known))


def _meant(model: str, known: Sequence[str]) -> str:
    """The architecture that a wrong name probably means: of another generation or suffix, or misspelt."""
    name = Path(model).name.lower()
    stem = name.rpartition(".")[0] or name
    sized = re.fullmatch(r"yolo-?v?\d+-?([nsmlx])(-\w+)?", stem)
    if sized:
        near = [one for one in known if one.startswith(f"yolo11{sized[1]}")]
    else:
        near = difflib.get_close_matches(f"{stem}.yaml", known, n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near and near[0] != model else ""


def _known(names: Sequence[str]) -> str:
    return f"Known: {', '.join(names)}; or the path of a .pt file"


def _made_to(task: str) -> str:
    return _MADE_TO.get(task, task)


def _other_architecture(weights: Weights) -> str:
    """What the model is, if not a YOLO11 of its task: layer for layer the one that Ultralytics describes."""
    import ultralytics
    from ultralytics.utils import YAML

    own: dict[str, Any] = getattr(weights.model, "yaml", None) or {}
    name = Path(str(own.get("yaml_file", ""))).stem or type(weights.model).__name__
    if weights.task not in TASKS or not own:
        return f"a {name}"
    suffix = next(facts.suffix for task, facts in TASKS.items() if task == weights.task)
    file = Path(ultralytics.__file__).parent / "cfg" / "models" / "11" / f"yolo11{suffix}.yaml"
    described: dict[str, Any] = YAML.load(file)  # type: ignore[no-untyped-call]
    if own.get("end2end") or [own.get("backbone"), own.get("head")] != [described["backbone"], described["head"]]:
        return f"a {name}" if "yolo11" not in name else f"a changed {name}"
    return ""

"""What a checkpoint is before anything is built on it, and how a finished one is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from bentos.detector.contract import file_sha256
from flows.errors import CheckpointError
from flows.weights import Weights, load_ultralytics, read_weights

ARCHITECTURES = tuple(f"yolo11{scale}" for scale in "nsmlx")
_PRIVATE_ARGUMENTS = ("save_dir", "data", "project", "name", "model", "resume", "exist_ok")


class CheckpointInfo(BaseModel):
    """What a checkpoint says about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(description="detect, segment, classify, pose or obb")
    scale: str = Field(description="n, s, m, l or x; empty when unknown")
    classes: tuple[str, ...] = Field(description="class names, by class id")
    num_parameters: int = Field(description="parameters of the model")
    sha256: str = Field(description="of the file, hex")


def inspect_checkpoint(path: Path) -> CheckpointInfo:
    """Read a checkpoint and say what it is.

    Raises:
        CheckpointError: It is missing, is no checkpoint, or was made for another task than detection.
    """
    weights = read_detector(path)
    return CheckpointInfo(
        task=weights.task,
        scale=str(getattr(weights.model, "yaml", {}).get("scale", "")),
        classes=weights.classes,
        num_parameters=sum(parameter.numel() for parameter in weights.model.parameters()),
        sha256=file_sha256(path),
    )


def read_detector(path: Path) -> Weights:
    """`read_weights`, for detection only. Raises CheckpointError."""
    weights = read_weights(path)
    if weights.task != "detect":
        raise CheckpointError(f"{path} was made to {weights.task}, not to detect", "Give a detection checkpoint")
    return weights


def find_start(model: str) -> str | Path:
    """Resolve `train.model`: the name of an architecture (yolo11n.yaml) or the path of a checkpoint.

    Raises:
        CheckpointError: It is neither.
    """
    known = f"Known: {', '.join(f'{name}.yaml' for name in ARCHITECTURES)}; or the path of a .pt file"
    if model.endswith((".yaml", ".yml")):
        if model.removesuffix(".yaml") not in ARCHITECTURES:
            raise CheckpointError(f"train.model: there is no architecture {model}", known)
        return model
    path = Path(model)
    if not path.is_file():
        what = "architecture" if path.suffix == "" else "checkpoint"
        raise CheckpointError(f"train.model: there is no {what} {model}", known)
    return path


def seal_checkpoint(source: Path, target: Path, notes: dict[str, Any]) -> None:
    """Write the checkpoint that Ultralytics left at `source` as a finished one: half precision, no optimiser, no paths.

    `notes` (plain values only, so that reading stays restricted) are kept under the key "detector".
    """
    load_ultralytics()
    import torch

    content = torch.load(source, map_location="cpu", weights_only=False)  # written by this process a moment ago
    model = (content["ema"] or content["model"]).half()
    arguments = {key: value for key, value in content["train_args"].items() if key not in _PRIVATE_ARGUMENTS}
    model.args, model.criterion = arguments, None
    for parameter in model.parameters():
        parameter.requires_grad = False
    sealed = {
        "epoch": -1,
        "model": model,
        "ema": None,
        "optimizer": None,
        "train_args": arguments,
        "train_metrics": content["train_metrics"],
        "version": content["version"],
        "license": content["license"],
        "detector": notes,
    }
    draft = target.with_name(f"{target.name}.part")
    with draft.open("wb") as stream:
        torch.save(sealed, stream)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(target)

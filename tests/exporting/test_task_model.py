"""A model of another task: built by Ultralytics' exporter, judged by its validator, the same in every engine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from flows.errors import CheckpointError
from flows.exporting.task_model import (
    JudgedFrames,
    TaskEngine,
    TaskModel,
    build_task_model,
    judge_task_model,
    publish_task_model,
    read_task_model,
)

NAMES = ("car", "bus")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier whose answers differ from picture to picture, though nobody trained it."""
    import torch

    from flows.weights import load_ultralytics

    load_ultralytics()
    from ultralytics.nn.tasks import ClassificationModel

    torch.manual_seed(4)
    model = ClassificationModel("yolo11n-cls.yaml", nc=2, verbose=False)
    model.names = dict(enumerate(NAMES))
    path = tmp_path_factory.mktemp("checkpoint") / "best.pt"
    torch.save({"model": model}, path)
    return path


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> JudgedFrames:
    mirror = tmp_path_factory.mktemp("judged")
    for number in range(6):
        folder = mirror / "val" / NAMES[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.new("RGB", (64, 64), (90, 90, 90))
        ImageDraw.Draw(picture).rectangle((number, 9, 40, 50), fill=((200, 30, 30), (30, 30, 220))[number % 2])
        picture.save(folder / f"{number}.png")
    shutil.copytree(mirror / "val", mirror / "train")
    return JudgedFrames(mirror, {})


def task_model(engine: TaskEngine, file: str) -> TaskModel:
    return TaskModel(task="classify", engine=engine, file=file, image_size=64, classes=NAMES, model_sha256="0")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_answers_as_pytorch_does(
    checkpoint: Path, frames: JudgedFrames, tmp_path: Path, engine: TaskEngine
) -> None:
    shutil.copyfile(checkpoint, tmp_path / "weights.pt")
    file = build_task_model(checkpoint, "classify", engine, 64, tmp_path)
    assert (tmp_path / file).exists()
    built = judge_task_model(tmp_path, task_model(engine, file), frames)
    reference = judge_task_model(tmp_path, task_model("pytorch", "weights.pt"), frames)
    assert built.figures == pytest.approx(reference.figures)
    assert "metrics/accuracy_top1" in built.figures
    assert built.ms_per_image > 0


def test_a_model_of_another_task_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="was made to classify, not to segment"):
        build_task_model(checkpoint, "segment", "onnxruntime", 64, tmp_path)


def test_only_what_is_taken_is_kept(tmp_path: Path) -> None:
    draft = tmp_path / "draft"
    (draft / "weights_openvino_model").mkdir(parents=True)
    for name in ("weights.pt", "weights.onnx"):
        (draft / name).write_text(name)
    publish_task_model(
        draft, tmp_path / "model", task_model("onnxruntime", "weights.onnx"), ["weights.pt", "weights.onnx"]
    )
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"weights.pt", "weights.onnx", "task_model.json"}
    assert read_task_model(tmp_path / "model").file == "weights.onnx"


def test_a_missing_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="task_model.json is missing or damaged. Run: tca export"):
        read_task_model(tmp_path)

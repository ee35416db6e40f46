"""What is a checkpoint, what is not, and what each answer says."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flows.errors import CheckpointError
from flows.training.checkpoints import find_start, inspect_checkpoint
from flows.training.reproducibility import weights_digest
from flows.training.tasks import TASKS, architectures


class Bomb:
    """Runs code when it is unpickled without care."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.touched,))


def test_a_checkpoint_says_what_it_is(trained: Any) -> None:
    info = inspect_checkpoint(trained.out_dir / "best.pt")
    assert (info.task, info.scale, info.classes) == ("detect", "n", ("car", "bus"))
    assert info.num_parameters == trained.report.num_parameters
    assert len(info.sha256) == 64


def _write_text(path: Path) -> None:
    path.write_text("these are not weights\n")


def _write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def _write_noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 20)


def _write_tensor(path: Path) -> None:
    import torch

    torch.save({"weights": torch.zeros(3)}, path)


def _write_state(path: Path) -> None:
    import torch

    torch.save({"model.0.conv.weight": torch.zeros(3)}, path)


def _write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "nothing")


def _write_picture(path: Path) -> None:
    Image.new("RGB", (8, 8)).save(path, format="JPEG")


def _write_torchscript(path: Path) -> None:
    import torch

    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(path))


def _write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"model": "yolo"}))


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (_write_nothing, "the file is empty"),
        (_write_text, "it is a text file"),
        (_write_noise, "it is not a PyTorch archive"),
        (_write_tensor, "holds no model, only tensors: was the state_dict"),
        (_write_state, "holds no model, only tensors: was the state_dict"),
        (_write_zip, "a ZIP archive of something else"),
        (_write_picture, "it is a JPEG image"),
        (_write_torchscript, "it is a TorchScript export"),
        (_write_pickle, "damaged|no model"),
    ],
)
def test_what_is_no_checkpoint(tmp_path: Path, write: Callable[[Path], None], reason: str) -> None:
    path = tmp_path / "weights.pt"
    write(path)
    with pytest.raises(CheckpointError, match=reason) as caught:
        inspect_checkpoint(path)
    assert caught.value.exit_code == 2


def test_a_truncated_checkpoint_is_refused(trained: Any, tmp_path: Path) -> None:
    path = tmp_path / "cut.pt"
    content = (trained.out_dir / "best.pt").read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        inspect_checkpoint(path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "evil.pt"
    torch.save({"model": Bomb(tmp_path / "touched")}, path)
    with pytest.raises(CheckpointError, match=r"code that is not Ultralytics': .*nothing of it was run"):
        inspect_checkpoint(path)
    assert not (tmp_path / "touched").exists()


def test_a_classifier_is_no_detector(tmp_path: Path) -> None:
    import torch

    from flows.weights import load_ultralytics

    load_ultralytics()
    from ultralytics.nn.tasks import ClassificationModel

    path = tmp_path / "classifier.pt"
    torch.save({"model": ClassificationModel("yolo11n-cls.yaml", nc=2, verbose=False)}, path)
    with pytest.raises(CheckpointError, match="made to classify, not to detect"):
        inspect_checkpoint(path)


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        inspect_checkpoint(tmp_path / "none.pt")


@pytest.mark.parametrize("task", TASKS)
def test_every_size_of_every_task_is_known(task: Any) -> None:
    for name in architectures(task):
        assert find_start(name, task) == find_start(name) == name


@pytest.mark.parametrize("model", ["yolo11q.yaml", "yolov8n.yaml", "yolo11n", "nowhere/best.pt", "yolo11n.yml"])
def test_an_unknown_start_names_the_known_ones(model: str) -> None:
    with pytest.raises(CheckpointError, match=r"yolo11n\.yaml.*yolo11x\.yaml"):
        find_start(model)


@pytest.mark.parametrize(
    ("model", "task", "meant"),
    [
        ("yolov8s.yaml", "detect", "yolo11s.yaml"),
        ("yolo26m.yaml", "detect", "yolo11m.yaml"),
        ("YOLO11n.yaml", "detect", "yolo11n.yaml"),
        ("y0lo11n.yaml", "detect", "yolo11n.yaml"),
        ("yolo11n", "detect", "yolo11n.yaml"),
        ("yolov8l-seg.yaml", "segment", "yolo11l-seg.yaml"),
        ("yolo11n.pt", "detect", "yolo11n.yaml"),
        ("yolov8x-pose.pt", "pose", "yolo11x-pose.yaml"),
    ],
)
def test_the_nearest_architecture_is_suggested(model: str, task: Any, meant: str) -> None:
    with pytest.raises(CheckpointError, match=rf"did you mean {meant}\?"):
        find_start(model, task)


def test_a_weights_file_of_ultralytics_that_is_not_there_is_not_downloaded() -> None:
    with pytest.raises(CheckpointError, match=r"there is no checkpoint yolo11n\.pt; nothing is downloaded"):
        find_start("yolo11n.pt")


def test_an_architecture_of_another_task_names_both_ways_out() -> None:
    with pytest.raises(
        CheckpointError, match=r"yolo11s-seg\.yaml is made to segment, but train\.task is detect"
    ) as caught:
        find_start("yolo11s-seg.yaml", "detect")
    assert caught.value.remedy == "Set train.task=segment, or train.model=yolo11s.yaml"


def test_a_folder_or_an_export_is_no_start(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="train.model: .* is a folder"):
        find_start(str(tmp_path))
    (tmp_path / "best.onnx").write_bytes(b"\x08\x08")
    with pytest.raises(CheckpointError, match=r"an ONNX export, .*Give the \.pt file"):
        find_start(str(tmp_path / "best.onnx"))


def _save(path: Path, name: str, **more: Any) -> Path:
    import torch

    from flows.weights import load_ultralytics

    load_ultralytics()
    from ultralytics.nn import tasks

    kinds = {"seg": "SegmentationModel", "cls": "ClassificationModel", "pose": "PoseModel", "obb": "OBBModel"}
    kind = "RTDETRDetectionModel" if name.startswith("rtdetr") else kinds.get(name.partition("-")[2], "DetectionModel")
    model = getattr(tasks, kind)(f"{name}.yaml", nc=2, verbose=False)
    torch.save({"model": model, **more}, path)
    return path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("yolov8n", "is a yolov8n, not a YOLO11 made to detect"),
        ("yolo26n", "is a yolo26n, not a YOLO11"),
        ("rtdetr-l", "is a rtdetr-l, not a YOLO11"),
        ("yolo11n-seg", "was made to segment, not to detect"),
        ("yolo11n-pose", "was made to find poses, not to detect"),
        ("yolo11n-obb", "was made to find turned boxes, not to detect"),
    ],
)
def test_another_model_says_which_it_is(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        inspect_checkpoint(_save(tmp_path / "weights.pt", name))


def test_a_checkpoint_of_another_task_fits_its_own(tmp_path: Path) -> None:
    path = _save(tmp_path / "weights.pt", "yolo11s-cls")
    info = inspect_checkpoint(path, "classify")
    assert (info.task, info.scale, info.unfinished_epoch) == ("classify", "s", None)


def test_an_unfinished_training_is_told(tmp_path: Path) -> None:
    path = _save(tmp_path / "last.pt", "yolo11n", epoch=2, optimizer={"state": {}})
    assert inspect_checkpoint(path).unfinished_epoch == 3


def test_the_digest_is_of_the_tensors_not_of_the_file(trained: Any, tmp_path: Path) -> None:
    import torch

    from flows.weights import read_weights

    model = read_weights(trained.out_dir / "best.pt").model
    torch.save({"model": model.half(), "note": "another file"}, tmp_path / "same.pt")
    assert weights_digest(tmp_path / "same.pt") == trained.report.weights_sha256
    next(model.parameters()).data[0] += 1
    torch.save({"model": model}, tmp_path / "other.pt")
    assert weights_digest(tmp_path / "other.pt") != trained.report.weights_sha256

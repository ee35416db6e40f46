"""What is a checkpoint, what is not, and what each answer says."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.errors import CheckpointError
from flows.training.checkpoints import ARCHITECTURES, find_start, inspect_checkpoint
from flows.training.reproducibility import weights_digest


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


def test_a_finished_checkpoint_names_no_path_and_holds_no_optimiser(trained: Any) -> None:
    with zipfile.ZipFile(trained.out_dir / "best.pt") as archive:
        pickled = b"".join(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    assert str(trained.out_dir.parent).encode() not in pickled
    assert b"exp_avg" not in pickled


def _write_text(path: Path) -> None:
    path.write_text("these are not weights\n")


def _write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def _write_noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 20)


def _write_tensor(path: Path) -> None:
    import torch

    torch.save({"weights": torch.zeros(3)}, path)


def _write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"model": "yolo"}))


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (_write_nothing, "the file is empty"),
        (_write_text, "it is a text file"),
        (_write_noise, "it is not a PyTorch archive"),
        (_write_tensor, "holds no model"),
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
    with pytest.raises(CheckpointError):
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


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_size_is_known(name: str) -> None:
    assert find_start(f"{name}.yaml") == f"{name}.yaml"


@pytest.mark.parametrize("model", ["yolo11q.yaml", "yolov8n.yaml", "yolo11n", "nowhere/best.pt", "yolo11n.yml"])
def test_an_unknown_start_names_the_known_ones(model: str) -> None:
    with pytest.raises(CheckpointError, match=r"yolo11n\.yaml.*yolo11x\.yaml"):
        find_start(model)


def test_the_digest_is_of_the_tensors_not_of_the_file(trained: Any, tmp_path: Path) -> None:
    import torch

    from flows.weights import read_weights

    model = read_weights(trained.out_dir / "best.pt").model
    torch.save({"model": model.half(), "note": "another file"}, tmp_path / "same.pt")
    assert weights_digest(tmp_path / "same.pt") == trained.report.weights_sha256
    next(model.parameters()).data[0] += 1
    torch.save({"model": model}, tmp_path / "other.pt")
    assert weights_digest(tmp_path / "other.pt") != trained.report.weights_sha256

"""Which engine of another task is taken, and which frames judge it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flows import task_stages
from flows.dataset.layout import Frame, read_dataset, write_data_yaml, write_frames
from flows.errors import DataError, ParamsError
from flows.exporting.task_model import TaskEngine, TaskModel
from flows.task_stages import mirrored, wanted_engines


def judged(engine: TaskEngine, score: float, ms: float) -> tuple[TaskModel, float, float]:
    model = TaskModel(task="pose", engine=engine, file="f", image_size=64, classes=("car",), model_sha256="0")
    return model, score, ms


def choose(*rows: Any) -> Any:
    return task_stages._choose([judged("pytorch", 0.5, 9.0), *rows], 0.01, 4, {})


def test_the_fastest_that_loses_little_is_taken() -> None:
    report, chosen = choose(judged("onnxruntime", 0.495, 5.0), judged("openvino", 0.5, 4.0))
    assert (report.passed, chosen.engine) == (True, "openvino")
    assert [one.state for one in report.engines] == ["reference", "admitted", "chosen"]
    assert report.sentence == "openvino, pose: 0.500 on 4 frames of val where PyTorch has 0.500"


def test_a_faster_one_that_loses_too_much_is_refused() -> None:
    report, chosen = choose(judged("onnxruntime", 0.5, 5.0), judged("openvino", 0.48, 4.0))
    assert chosen.engine == "onnxruntime"
    assert [one.state for one in report.engines] == ["reference", "chosen", "refused"]
    assert report.engines[2].loss == pytest.approx(0.02)


def test_where_none_may_be_taken_pytorch_stays() -> None:
    report, chosen = choose(judged("onnxruntime", 0.3, 5.0))
    assert (report.passed, chosen.engine) == (False, "pytorch")
    assert "no engine of pose loses 0.01 or less" in report.sentence


def test_engines_and_precisions_of_detectors_are_refused() -> None:
    assert wanted_engines("auto", "auto", "pose") == ("onnxruntime", "openvino")
    assert wanted_engines("openvino", "fp32", "pose") == ("openvino",)
    with pytest.raises(ParamsError, match="export.engine tensorrt is for detectors"):
        wanted_engines("tensorrt", "auto", "pose")
    with pytest.raises(ParamsError, match="export.precision int8 is for detectors; pose is exported in fp32"):
        wanted_engines("auto", "int8", "pose")


def draw(root: Path, task: str) -> Any:
    frames = [Frame(f"images/{split}/{split}.png", split, "c", "k", "", "day") for split in ("train", "val", "test")]
    for frame in frames:
        for path in (root / frame.image, root / frame.label):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64)).save(root / frame.image)
        (root / frame.label).write_text("0\n" if task == "classify" else "0 0.1 0.1 0.5 0.1 0.5 0.6\n")
    write_data_yaml(root, ("car",), {"task": task})
    write_frames(root, frames)
    return read_dataset(root)


def test_the_frozen_frames_stand_where_validation_looks(tmp_path: Path) -> None:
    with mirrored(draw(tmp_path / "data", "segment"), "segment", "test") as frames:
        place = Path(frames.data["val"])
        assert [path.name for path in place.iterdir()] == ["test.png"]
        mirror = frames.mirror
    assert not mirror.exists()


def test_frames_to_classify_stand_in_folders_of_their_class(tmp_path: Path) -> None:
    with mirrored(draw(tmp_path / "data", "classify"), "classify", "test") as frames:
        assert [path.name for path in (frames.mirror / "val" / "0").rglob("*.png")] == ["test.png"]


def test_a_split_without_frames_is_said(tmp_path: Path) -> None:
    dataset = draw(tmp_path / "data", "segment")
    with pytest.raises(DataError, match="has no frames in other"), mirrored(dataset, "segment", "other"):
        pass

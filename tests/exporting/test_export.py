"""A model directory from a checkpoint: loadable, equal to PyTorch, and refused when it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bentos.detector.contract import read_spec, verify_files
from bentos.detector.detector import Detector
from flows.errors import CheckpointError, DataError, EngineUnavailable
from flows.exporting import export as export_module
from flows.exporting.export import ExportReport, export_model, list_engines

Make = Callable[..., Any]


def without_gpu(*_: object) -> None:
    raise EngineUnavailable("TensorRT is not installed", "Install it")


@pytest.fixture(autouse=True)
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that runs the tests may have a GPU."""
    monkeypatch.setattr(export_module, "require_tensorrt", without_gpu)


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, frames: list[bytes], make_params: Make
) -> tuple[Path, ExportReport, list[tuple[int, int, str]]]:
    folder = tmp_path_factory.mktemp("export") / "model"
    told: list[tuple[int, int, str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_module, "require_tensorrt", without_gpu)
        report = export_model(
            checkpoint,
            folder,
            make_params(),
            "demo",
            640,
            frames,
            lambda done, total, note: told.append((done, total, note)),
        )
    return folder, report, told


def test_the_directory_is_a_model_that_serving_accepts(exported: Any) -> None:
    folder, report, _ = exported
    spec = read_spec(folder)
    verify_files(folder, spec)
    assert spec.digest == report.model_digest
    assert spec.classes == ("car", "bus")
    assert spec.input.size_wh == (96, 64)
    assert spec.top_k == 96 // 8 * 8 + 6 * 4 + 3 * 2  # fewer anchors than top_k asks for
    assert sorted(spec.files) == ["model.bin", "model.onnx", "model.xml"]
    assert sorted(report.file_bytes) == ["model.bin", "model.json", "model.onnx", "model.xml", "weights.pt"]
    assert not folder.with_name("model.partial").exists()


def test_the_engine_agrees_with_pytorch(exported: Any, frames: list[bytes]) -> None:
    parity = exported[1].parity
    assert exported[1].passed
    assert parity.passed
    assert parity.num_frames == len(frames)
    assert parity.num_boxes > 20 * len(frames)
    assert parity.matched_share == 1.0
    assert parity.mean_iou > 0.999
    assert parity.max_score_diff < 0.001


def test_the_report_says_what_was_built_and_what_not_and_why(exported: Any) -> None:
    engines = {state.kind: state for state in exported[1].engines}
    assert [kind for kind, state in engines.items() if state.built] == ["openvino"]
    assert not engines["tensorrt"].available
    assert "TensorRT is not installed" in engines["tensorrt"].reason
    assert engines["onnxruntime"].available
    assert [row.batch for row in exported[1].latency] == [1, 2, 4]
    assert exported[2][-1][:2] == (5, 5)


def test_no_file_names_a_path_of_this_machine(exported: Any) -> None:
    folder, report, _ = exported
    for path in folder.iterdir():
        assert str(folder.parent).encode() not in path.read_bytes()
    assert str(folder.parent) not in json.dumps(report.model_dump(mode="json"))


def test_the_same_checkpoint_gives_the_same_digest(
    exported: Any, checkpoint: Path, frames: list[bytes], make_params: Make, tmp_path: Path
) -> None:
    again = export_model(checkpoint, tmp_path / "model", make_params(), "demo", 640, frames)
    assert again.model_digest == exported[1].model_digest


def test_onnx_runtime_and_openvino_find_the_same(
    exported: Any, checkpoint: Path, frames: list[bytes], make_params: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "left_over.txt").write_text("of the model before")
    report = export_model(
        checkpoint, folder, make_params(engine="onnxruntime", top_k=20, max_det=50), "demo", 640, frames
    )
    assert report.passed
    assert (report.engine, report.top_k) == ("onnxruntime", 20)
    assert not (folder / "left_over.txt").exists()
    one, other = Detector.load(folder), Detector.load(exported[0])
    for ours, theirs in zip(one.detect(frames, max_det=5), other.detect(frames, max_det=5), strict=True):
        np.testing.assert_allclose(ours.boxes_xyxy, theirs.boxes_xyxy, atol=0.01)
        np.testing.assert_array_equal(ours.class_ids, theirs.class_ids)


def test_an_engine_that_differs_does_not_pass(
    checkpoint: Path, frames: list[bytes], make_params: Make, tmp_path: Path
) -> None:
    strict = make_params(engine="onnxruntime", parity_max_score_diff=0.0, parity_min_iou=1.0)
    report = export_model(checkpoint, tmp_path / "model", strict, "demo", 640, frames)
    assert not report.passed
    assert "differs from PyTorch" in report.sentence
    assert (tmp_path / "model" / "model.json").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": "tensorrt"}, "TensorRT is not installed"),
        ({"engine": "onnxruntime", "precision": "bf16"}, "in fp32, not in bf16"),
    ],
)
def test_an_engine_asked_for_is_never_replaced(
    checkpoint: Path, frames: list[bytes], make_params: Make, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(EngineUnavailable, match=message):
        export_model(checkpoint, tmp_path / "model", make_params(**changes), "demo", 640, frames)
    assert list(tmp_path.iterdir()) == []


def test_auto_takes_tensorrt_where_it_is(monkeypatch: pytest.MonkeyPatch, make_params: Make) -> None:
    monkeypatch.setattr(export_module, "require_tensorrt", lambda: None)
    built = [state.kind for state in list_engines(make_params()) if state.built]
    assert built == ["tensorrt"]


def test_without_frames_there_is_no_proof(checkpoint: Path, make_params: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no frames"):
        export_model(checkpoint, tmp_path / "model", make_params(), "demo", 640, [])


def test_what_is_no_checkpoint_is_refused(frames: list[bytes], make_params: Make, tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_text("not weights")
    with pytest.raises(CheckpointError, match="text file"):
        export_model(tmp_path / "best.pt", tmp_path / "model", make_params(), "demo", 640, frames)
    assert not (tmp_path / "model").exists()


def test_the_report_is_documented() -> None:
    schema = ExportReport.model_json_schema()
    for model in (schema, *schema["$defs"].values()):
        assert all("description" in field for field in model["properties"].values())

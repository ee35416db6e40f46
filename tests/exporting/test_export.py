"""A model directory from a checkpoint: loadable, equal to PyTorch, chosen by what it loses and how fast it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bentos.detector.contract import read_spec, verify_files
from bentos.detector.detector import Detector
from bentos.detector.errors import EngineFailed
from flows.errors import CheckpointError, DataError, EngineUnavailable
from flows.exporting import candidates, contest, decoding, int8
from flows.exporting import export as export_module
from flows.exporting.accuracy import Loss
from flows.exporting.contest import Evidence
from flows.exporting.export import export_model
from flows.exporting.graph import DetectorGraph
from flows.exporting.report import ExportReport

Make = Callable[..., Any]


def without_gpu(*_: object) -> None:
    raise EngineUnavailable("TensorRT is not installed", "Install it")


@pytest.fixture(autouse=True)
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that runs the tests may have a GPU."""
    monkeypatch.setattr(candidates, "require_tensorrt", without_gpu)


@pytest.fixture
def export(checkpoint: Path, evidence: Evidence, make_params: Make, tmp_path: Path) -> Callable[..., ExportReport]:
    """Export to tmp_path/model with some parameters replaced."""

    def run(**changes: Any) -> ExportReport:
        return export_model(checkpoint, tmp_path / "model", make_params(**changes), "demo", 640, evidence)

    return run


@pytest.fixture
def cpu_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend a CPU with two precisions, so that the same compete everywhere."""
    competing = {"openvino": ("fp32", "int8"), "onnxruntime": ("fp32",), "tensorrt": ("fp16",)}
    monkeypatch.setattr(candidates, "COMPETING", competing)


@pytest.fixture
def quick_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the network as it is: what NNCF makes of it is tested elsewhere, in seconds for each time."""
    monkeypatch.setattr(int8, "quantise", lambda model, *_: model)
    monkeypatch.setattr(int8, "rank_blocks", lambda *_: ["model.23.cv3", "model.8", "model.16", "model.2", "model.10"])


@pytest.fixture(autouse=True)
def quick_onnx(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Write ONNX once for each number of candidates, which is all that differs between these exports."""
    real, kept = export_module.write_onnx, tmp_path_factory.getbasetemp()

    def write(graph: DetectorGraph, path: Path) -> None:
        written = kept / f"top{graph.top_k}.onnx"
        if not written.exists():
            real(graph, written)
        shutil.copyfile(written, path)

    monkeypatch.setattr(export_module, "write_onnx", write)


def rows(report: ExportReport) -> dict[str, Any]:
    return {one.name: one for one in report.candidates}


def test_the_directory_is_a_model_that_serving_accepts(
    export: Callable[..., ExportReport], told_speeds: dict[str, float], tmp_path: Path
) -> None:
    report, folder = export(), tmp_path / "model"
    spec = read_spec(folder)
    verify_files(folder, spec)
    assert spec.digest == report.model_digest
    assert spec.classes == ("car", "bus")
    assert spec.input.size_wh == (96, 64)
    assert spec.top_k == 96 // 8 * 8 + 6 * 4 + 3 * 2  # fewer anchors than top_k asks for
    assert sorted(spec.files) == ["model.bin", "model.onnx", "model.xml"]
    assert sorted(report.file_bytes) == ["model.bin", "model.json", "model.onnx", "model.xml", "weights.pt"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    for path in folder.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()
    assert str(tmp_path) not in report.model_dump_json()


def test_fp32_agrees_with_pytorch(
    export: Callable[..., ExportReport], told_speeds: dict[str, float], frames: list[bytes]
) -> None:
    report = export()
    assert report.passed
    assert report.parity.num_frames == len(frames)
    assert report.parity.num_boxes > 20 * len(frames)
    assert report.parity.matched_share == 1.0
    assert report.parity.mean_iou > 0.999
    assert report.parity.max_score_diff < 0.001
    figures = "100 images/s, loses .000 [-.001, .001] of .500 mAP50-95"
    assert report.sentence == f"openvino fp32 at 96 x 64 px: {figures}; the only engine tried"
    assert report.calibration is None


def test_the_same_checkpoint_gives_the_same_digest(
    exported_fp32: Path, export: Callable[..., ExportReport], told_speeds: dict[str, float]
) -> None:
    assert export().model_digest == read_spec(exported_fp32).digest


def test_all_compete_and_the_fastest_that_loses_little_is_taken(
    export: Callable[..., ExportReport],
    cpu_precisions: None,
    told_speeds: dict[str, float],
    judge: Any,
    loss: Callable[..., Loss],
    tmp_path: Path,
) -> None:
    told_speeds |= {"openvino-fp32": 100.0, "openvino-int8": 300.0, "onnxruntime-fp32": 80.0}
    judge.losses["int8"] = [loss(0.001, 0.002)]
    report = export(engine="auto", precision="auto")
    assert report.passed
    assert (report.engine, report.precision) == ("openvino", "int8")
    assert [one.name for one in report.candidates] == ["openvino int8", "openvino fp32", "onnxruntime fp32"]
    assert [one.state for one in report.candidates] == ["chosen", "admitted", "admitted"]
    assert rows(report)["openvino fp32"].reason.endswith("100 images/s at batches of 1, openvino int8 does 300")
    assert report.sentence.endswith("best of 3 engines")
    assert [(one.engine, one.precision) for one in report.not_built] == [("tensorrt", "fp16")]
    assert "TensorRT is not installed" in report.not_built[0].reason
    assert report.calibration is not None
    assert report.calibration.num_frames == 4
    spec = read_spec(tmp_path / "model")
    assert spec.engine.precision == "int8"
    assert sorted(spec.files) == ["model.bin", "model.onnx", "model.xml"]
    detector = Detector.load(tmp_path / "model")
    assert detector.new_frames(2).shape == (2, 64, 96, 3)
    assert detector.infer(detector.new_frames(2)).shape == (2, spec.top_k, 6)


@pytest.mark.usefixtures("quick_int8")
def test_a_little_faster_is_not_worth_being_less_exact(
    export: Callable[..., ExportReport], cpu_precisions: None, told_speeds: dict[str, float]
) -> None:
    told_speeds["openvino-int8"] = 104.0
    report = export(precision="auto")
    assert report.precision == "fp32"
    assert "104 images/s at batches of 1, less than 1.05 x the 100 of openvino fp32" in report.candidates[0].reason


@pytest.mark.usefixtures("quick_int8")
def test_int8_that_loses_too_much_is_refused_with_the_figures(
    export: Callable[..., ExportReport],
    cpu_precisions: None,
    told_speeds: dict[str, float],
    judge: Any,
    loss: Callable[..., Loss],
) -> None:
    told_speeds["openvino-int8"] = 300.0
    judge.losses["int8"] = [loss(0.012, 0.006)]
    report = export(engine="auto", precision="auto")
    assert report.passed
    assert report.precision == "fp32"
    refused = rows(report)["openvino int8"]
    assert refused.state == "refused"
    assert refused.reason == "openvino int8 refused: loses .012 [.006, .018] mAP50-95, allowed 0.005 at the upper end"
    assert refused.images_per_s == 300.0  # its figures are kept


@pytest.mark.usefixtures("quick_int8")
def test_with_too_few_units_only_fp32_is_taken(
    export: Callable[..., ExportReport],
    cpu_precisions: None,
    told_speeds: dict[str, float],
    judge: Any,
    loss: Callable[..., Loss],
) -> None:
    told_speeds["openvino-int8"] = 300.0
    judge.num_units = 2
    judge.losses = {"int8": [loss(0.0, None)], "fp32": [loss(0.0, None)]}
    report = export(engine="auto", precision="auto", scaled_decode="auto")
    assert report.passed
    assert report.precision == "fp32"
    assert "too few to bound what it loses" in rows(report)["openvino int8"].reason
    assert "too few units for an interval" in report.sentence


@pytest.mark.usefixtures("quick_int8")
def test_a_precision_that_was_asked_for_is_refused_all_the_same(
    export: Callable[..., ExportReport],
    told_speeds: dict[str, float],
    judge: Any,
    loss: Callable[..., Loss],
    tmp_path: Path,
) -> None:
    judge.losses["int8"] = [loss(0.03)]
    report = export(precision="int8")
    assert not report.passed
    figures = "loses .030 [.029, .031] mAP50-95, allowed 0.005 at the upper end"
    assert report.sentence == f"no engine may be taken: openvino int8 refused: {figures}"
    assert read_spec(tmp_path / "model").engine.precision == "int8"  # to be looked at
    assert not report.decoding.scaled


@pytest.mark.usefixtures("quick_int8")
def test_harmful_blocks_go_back_to_float_until_the_loss_is_small(
    export: Callable[..., ExportReport], told_speeds: dict[str, float], judge: Any, loss: Callable[..., Loss]
) -> None:
    judge.losses["int8"] = [loss(0.02), loss(0.01), loss(0.0)]
    report = export(precision="int8", int8_repairs=2)
    assert report.passed
    mended = report.candidates[0]
    assert mended.float_blocks == ("model.23.cv3", "model.8", "model.16", "model.2")
    assert [text.split("loses ")[1][:4] for text in mended.tried] == [".020", ".010"]
    assert judge.measured == ["int8"] * 3


@pytest.mark.usefixtures("quick_int8")
def test_blocks_are_put_back_only_as_often_as_allowed(
    export: Callable[..., ExportReport], told_speeds: dict[str, float], judge: Any, loss: Callable[..., Loss]
) -> None:
    judge.losses["int8"] = [loss(0.02)]
    report = export(precision="int8", int8_repairs=1)
    assert not report.passed
    assert judge.measured == ["int8"] * 2
    judge.measured.clear()
    assert export(precision="int8", int8_repairs=2, int8_repair_s=0.0).candidates[0].float_blocks == ()
    assert judge.measured == ["int8"]


@pytest.mark.usefixtures("quick_int8")
def test_int8_that_would_not_win_is_not_mended(
    export: Callable[..., ExportReport],
    cpu_precisions: None,
    told_speeds: dict[str, float],
    judge: Any,
    loss: Callable[..., Loss],
) -> None:
    told_speeds |= {"openvino-fp32": 300.0, "openvino-int8": 200.0}
    judge.losses["int8"] = [loss(0.02)]
    report = export(engine="auto", precision="auto", int8_repairs=2)
    assert rows(report)["openvino int8"].tried == (
        "no block put back to float: it would not be chosen even without a loss",
    )
    assert judge.measured.count("int8") == 1


@pytest.mark.usefixtures("quick_int8")
def test_an_engine_that_fails_while_it_is_built_leaves_the_others(
    export: Callable[..., ExportReport],
    cpu_precisions: None,
    told_speeds: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = contest.build_candidate

    def build(candidate: Any, *arguments: Any) -> Any:
        if candidate.engine == "openvino":
            raise EngineUnavailable(f"{candidate.name} broke")
        return real(candidate, *arguments)

    monkeypatch.setattr(contest, "build_candidate", build)
    report = export(engine="auto", precision="auto")
    assert report.engine == "onnxruntime"
    assert {"openvino fp32 broke", "openvino int8 broke"} <= {one.reason for one in report.not_built}
    with pytest.raises(EngineUnavailable, match="openvino fp32 broke"):
        export()


@pytest.mark.usefixtures("quick_int8")
def test_an_engine_that_does_not_run_by_itself_leaves_the_others(
    export: Callable[..., ExportReport],
    cpu_precisions: None,
    told_speeds: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = contest.run_probe

    def run_probe(folder: Path, images: Any) -> Any:
        if folder.name == "openvino-int8":
            raise EngineUnavailable("killed")
        return told(folder, images)

    monkeypatch.setattr(contest, "run_probe", run_probe)
    report = export(engine="auto", precision="auto")
    assert report.passed
    assert [one.reason for one in report.not_built if one.precision == "int8"] == ["killed"]
    assert "openvino int8" not in rows(report)


def test_an_engine_that_fails_on_the_frames_is_not_taken(
    export: Callable[..., ExportReport], told_speeds: dict[str, float], judge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise EngineFailed("out of memory")

    monkeypatch.setattr(judge, "measure", fail)
    with pytest.raises(EngineUnavailable, match="openvino fp32 was built, but fails: out of memory"):
        export()


def test_scaled_decoding_is_written_into_the_model(
    export: Callable[..., ExportReport],
    told_speeds: dict[str, float],
    evidence: Evidence,
    checkpoint: Path,
    make_params: Make,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    sink = BytesIO()
    Image.new("RGB", (384, 256), (90, 120, 60)).save(sink, "JPEG")
    large = replace(evidence, images=[*evidence.images, sink.getvalue()])
    monkeypatch.setattr(decoding, "_time_both", lambda *_: (4.0, 1.5))
    report = export_model(checkpoint, tmp_path / "model", make_params(scaled_decode="auto"), "demo", 640, large)
    spec = read_spec(tmp_path / "model")
    assert report.decoding.scaled
    assert spec.input.scaled_decode
    assert spec.digest == report.model_digest
    assert Detector.load(tmp_path / "model").decode(sink.getvalue()).rgb.shape[0] < 256
    assert not export(scaled_decode="never").decoding.scaled


def test_onnx_runtime_and_openvino_find_the_same(
    exported_fp32: Path,
    export: Callable[..., ExportReport],
    told_speeds: dict[str, float],
    frames: list[bytes],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "left_over.txt").write_text("of the model before")
    report = export(engine="onnxruntime", top_k=20, max_det=50)
    assert report.passed
    assert (report.engine, report.top_k) == ("onnxruntime", 20)
    assert not (folder / "left_over.txt").exists()
    one, other = Detector.load(folder), Detector.load(exported_fp32)
    for ours, theirs in zip(one.detect(frames, max_det=5), other.detect(frames, max_det=5), strict=True):
        np.testing.assert_allclose(ours.boxes_xyxy, theirs.boxes_xyxy, atol=0.01)
        np.testing.assert_array_equal(ours.class_ids, theirs.class_ids)


def test_an_engine_that_differs_does_not_pass(
    export: Callable[..., ExportReport], told_speeds: dict[str, float], tmp_path: Path
) -> None:
    report = export(engine="onnxruntime", parity_max_score_diff=0.0, parity_min_iou=1.0)
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
    export: Callable[..., ExportReport], changes: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(EngineUnavailable, match=message):
        export(**changes)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_model_before(
    export: Callable[..., ExportReport], told_speeds: dict[str, float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    digest = export().model_digest

    def fail(*_: object) -> None:
        raise EngineUnavailable("no memory")

    monkeypatch.setattr(contest, "run_probe", fail)
    with pytest.raises(EngineUnavailable, match="no memory"):
        export()
    assert read_spec(tmp_path / "model").digest == digest
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_without_frames_there_is_no_proof(
    checkpoint: Path, make_params: Make, evidence: Evidence, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no frames"):
        export_model(checkpoint, tmp_path / "model", make_params(), "demo", 640, replace(evidence, images=[]))


def test_what_is_no_checkpoint_is_refused(make_params: Make, evidence: Evidence, tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_text("not weights")
    with pytest.raises(CheckpointError, match="text file"):
        export_model(tmp_path / "best.pt", tmp_path / "model", make_params(), "demo", 640, evidence)
    assert not (tmp_path / "model").exists()


@pytest.mark.usefixtures("quick_int8")
def test_the_report_comes_back_from_its_file(
    export: Callable[..., ExportReport], cpu_precisions: None, told_speeds: dict[str, float]
) -> None:
    report = export(engine="auto", precision="auto")
    assert ExportReport.model_validate(json.loads(report.model_dump_json())) == report


def test_the_report_is_documented() -> None:
    schema = ExportReport.model_json_schema()
    for model in (schema, *schema["$defs"].values()):
        assert all("description" in field for field in model["properties"].values())

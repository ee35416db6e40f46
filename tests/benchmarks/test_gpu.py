"""The GPU benchmark without a GPU: what it prepares, what it compares, and a dry run on the CPU."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.gpu import __main__ as script
from benchmarks.gpu.bundle import BundleError, Notes, prepare, read_bundle
from benchmarks.gpu.cases import infer_all, measure
from benchmarks.gpu.contenders import Absent, run_onnxruntime, run_tensorrt
from benchmarks.gpu.facts import read_facts
from benchmarks.gpu.parity import compare
from benchmarks.gpu.torch_runs import TorchEngine, TorchLane, load_program

NOTES = Notes("tiny", ("car", "bus"), (64, 32), 3, 0.001, {"torch": "any"})


class Tiny(torch.nn.Module):
    """Three candidates a frame: a box of one class each, its score from the frame's mean."""

    def __init__(self) -> None:
        super().__init__()
        boxes = [[1.0, 1.0, 7.0, 7.0, 0.0, 0.0], [8.0, 1.0, 15.0, 7.0, 0.4, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
        self.register_buffer("boxes", torch.tensor(boxes))
        self.register_buffer("first", torch.tensor([[0.0] * 4 + [1.0, 0.0], [0.0] * 6, [0.0] * 6]))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        means = frames.to(torch.float32).mean(dim=(1, 2, 3)) / 255
        return self.boxes[None] + means[:, None, None] * self.first[None]


def jpeg(size_wh: tuple[int, int], seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (size_wh[1] // 8, size_wh[0] // 8, 3), dtype=np.uint8)
    sink = BytesIO()
    Image.fromarray(coarse).resize(size_wh, Image.Resampling.NEAREST).save(sink, "JPEG")
    return sink.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle of the tiny network, without ONNX."""
    module, inputs = Tiny(), np.random.default_rng(0).integers(0, 256, (5, 32, 64, 3), dtype=np.uint8)
    folder = tmp_path / "bundle"
    (folder / "frames").mkdir(parents=True)
    example = torch.from_numpy(inputs)
    for precision in ("fp32", "fp16", "bf16"):
        torch.jit.trace(module, (example,)).save(str(folder / f"{precision}.ts"))
    np.savez_compressed(folder / "inputs.npz", inputs=inputs, reference=module(example).numpy())
    for index in range(2):
        (folder / "frames" / f"{index}.jpg").write_bytes(jpeg((32, 16), index))
    (folder / "bundle.json").write_text(json.dumps(asdict(NOTES)))
    return folder


def test_a_dry_run_measures_compares_and_keeps_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    given = ["--from", str(folder), "--device", "cpu", "--batches", "1,4", "--seconds", "0.01"]
    assert script.main([*given, "--results", str(results)]) == 0
    told = capsys.readouterr().out
    for line in (
        "PyTorch fp32, kernel by kernel",
        "PyTorch fp16, CUDA graph",
        "On the CPU (a dry run)",
        "nothing is kept",
    ):
        assert line in told
    assert "DIFFERS" not in told
    assert "not run: TensorRT fp16: TensorRT needs a GPU" in told
    assert "not run: ONNX Runtime fp32: " in told  # this bundle has no ONNX: one failure does not cost the rest
    assert "simplejpeg, threads 1" in told
    assert not results.exists()


def test_without_a_gpu_it_ends_with_its_own_exit_code(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert script.main(["--from", str(folder)]) == script.NO_GPU == 3
    assert "no NVIDIA GPU" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "torch", None)
    assert script.main(["--from", str(folder)]) == 3
    assert "PyTorch is not installed" in capsys.readouterr().err


def test_a_folder_that_is_no_bundle_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (folder / "inputs.npz").read_bytes()
    for content in (b"", b"PK", whole[:-9], b"not an archive"):
        (folder / "inputs.npz").write_bytes(content)
        assert script.main(["--from", str(folder), "--device", "cpu"]) == 2
        assert "is no bundle" in capsys.readouterr().err
    assert script.main(["--from", str(folder), "--prepare", str(folder)]) == 2


@pytest.mark.parametrize("text", ["", "0,1", "1;2", "two"])
def test_batch_sizes_that_are_none_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script.main(["--from", "x", "--batches", text])
    assert "no list of batch sizes" in capsys.readouterr().err


def test_a_lane_computes_what_lies_in_its_memory(folder: Path) -> None:
    bundle = read_bundle(folder)
    lane = TorchLane(load_program(bundle, "fp32", "cpu"), (5, 32, 64, 3), "graph", "cpu")
    lane.host_in[:] = bundle.inputs
    lane.launch()
    np.testing.assert_allclose(lane.wait(), bundle.reference, rtol=1e-5)
    assert lane.gpu_ms(3) is None


def test_an_engine_pads_and_cuts_back(folder: Path) -> None:
    bundle = read_bundle(folder)
    engine = TorchEngine(load_program(bundle, "fp32", "cpu"), NOTES.size_wh, (1, 2, 4), "kernels", "cpu")
    for size in (1, 2, 3, 4):
        np.testing.assert_allclose(engine.infer(bundle.inputs[:size]), bundle.reference[:size], rtol=1e-5)
    engine.close()


class Wrong:
    """Finds what it is told, whatever the frames."""

    max_batch, num_parallel = 8, 1

    def __init__(self, found: np.ndarray) -> None:
        self.found, self.asked = found, []

    def infer(self, frames: np.ndarray) -> np.ndarray:
        self.asked.append(len(frames))
        return np.repeat(self.found[None], len(frames), axis=0)

    def close(self) -> None:
        pass


def test_a_contender_that_finds_something_else_is_marked(folder: Path) -> None:
    bundle = read_bundle(folder)
    elsewhere = bundle.reference[0].copy()
    elsewhere[:, [0, 2]] += 4
    case = measure("moved", Wrong(elsewhere), bundle, 2, 0.001)
    assert not case.parity.passed
    assert case.row()[-1].endswith("DIFFERS")
    assert case.figures()["parity"]["passed"] is False
    assert "nothing ran" in script._sentence(bundle, [case], {"gpus": [{"name": "G"}]}, "cuda")


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8])
def test_all_inputs_are_compared_in_full_batches(folder: Path, batch: int) -> None:
    bundle = read_bundle(folder)
    contender = Wrong(bundle.reference[0])
    assert infer_all(contender, bundle.inputs, batch).shape == bundle.reference.shape
    assert set(contender.asked) == {batch}


def test_parity_of_equal_shifted_missing_and_no_boxes() -> None:
    wanted = np.array([[[10, 10, 30, 30, 0.9, 0], [50, 10, 70, 30, 0.5, 1]]], dtype=np.float32)
    same = compare(wanted, wanted)
    assert (same.num_boxes, same.matched_share, same.mean_iou, same.max_score_diff) == (4, 1.0, 1.0, 0.0)
    assert same.passed
    moved = wanted.copy()
    moved[0, 0, [0, 2]] += 1
    assert compare(moved, wanted).mean_iou == pytest.approx((1 + 19 / 21) / 2)
    missing = wanted.copy()
    missing[0, 1, 5] = 0  # of another class
    assert compare(missing, wanted).matched_share == 0.5
    nothing = np.zeros_like(wanted)
    assert not compare(nothing, nothing).passed
    assert compare(nothing, nothing).num_boxes == 0


def test_tensorrt_and_cuda_are_absent_with_a_reason(folder: Path) -> None:
    bundle = read_bundle(folder)
    (folder / "model.onnx").write_bytes(b"none")
    with pytest.raises(Absent, match="needs a GPU"):
        next(run_tensorrt(bundle, "fp16", (1,), 0.01, "cpu"))
    with pytest.raises(Absent, match="refuses model.onnx"):
        next(run_onnxruntime(bundle, (1,), 0.01, "cpu"))
    with pytest.raises(Absent, match="no CUDA provider"):
        next(run_onnxruntime(bundle, (1,), 0.01, "cuda"))


def test_facts_do_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_facts()
    monkeypatch.setitem(sys.modules, "psutil", None)
    bare = read_facts()
    assert bare.keys() == whole.keys()
    assert bare["cores"] == whole["cores"]
    assert 0 <= bare["busy_before_percent"] <= 100


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """yolo11n that nobody trained, noted as trained at 64 px."""
    from flows.weights import load_ultralytics

    load_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(1)
    model = DetectionModel("yolo11n.yaml", nc=2, verbose=False)
    model.names = {0: "car", 1: "bus"}
    for branch in model.model[-1].cv3:
        torch.nn.init.normal_(branch[-1].weight, std=0.1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # statistics of what it sees: without them an untrained net is the same everywhere
    with torch.no_grad():
        model.train()(torch.rand(8, 3, 64, 64))
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    torch.save({"model": model.half(), "train_args": {"imgsz": 64}}, path)
    return path


def test_what_is_prepared_computes_the_same_in_every_form(weights: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for index in range(4):
        (images / f"{index}.jpg").write_bytes(jpeg((96, 64), index))
    folder = tmp_path / "bundle"
    notes = prepare(weights, folder, 640, images)
    bundle = read_bundle(folder)
    assert bundle.notes == notes
    assert (notes.size_wh, notes.classes, bundle.inputs.shape) == ((64, 64), ("car", "bus"), (4, 64, 64, 3))
    assert 0.05 < notes.gflop_per_frame < 0.2  # 6.5 at 640 px, a hundredth of the pixels
    assert len(bundle.frames) == 4
    for precision, apart in (("fp32", 1e-3), ("fp16", 0.02), ("bf16", 0.05)):
        program = load_program(bundle, precision, "cpu")
        with torch.inference_mode():
            found = program(torch.from_numpy(bundle.inputs)).numpy()
        assert found.dtype == np.float32
        scores, wanted = np.sort(found[..., 4]), np.sort(bundle.reference[..., 4])
        assert np.abs(scores - wanted).mean() < apart, precision
    (case,) = run_onnxruntime(bundle, (2,), 0.01, "cpu")
    assert case.parity.passed, case.parity


def test_a_bundle_too_large_to_travel_is_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0.jpg").write_bytes(jpeg((96, 64), 0))
    monkeypatch.setattr("benchmarks.gpu.bundle.MAX_BYTES", 1000)
    with pytest.raises(BundleError, match="more than"):
        prepare(weights, tmp_path / "bundle", 64, tmp_path)


def test_prepare_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flows.exporting.graph", None)
    with pytest.raises(BundleError, match="is missing; run --prepare where"):
        prepare(tmp_path / "w.pt", tmp_path / "bundle", 64, None)


def test_the_best_sound_case_makes_the_sentence(folder: Path) -> None:
    bundle = read_bundle(folder)
    sound = measure(
        "good",
        TorchEngine(load_program(bundle, "fp32", "cpu"), NOTES.size_wh, (1,), "kernels", "cpu"),
        bundle,
        1,
        0.001,
    )
    fast = replace(sound, contender="fast but wrong", frames_per_s=1e9, parity=replace(sound.parity, matched_share=0.0))
    machine: dict[str, Any] = {"gpus": [{"name": "NVIDIA H200"}]}
    sentence = script._sentence(bundle, [sound, fast], machine, "cuda")
    assert sentence.startswith("On NVIDIA H200, at 64 x 32: good computes")

"""Real engines on a tiny graph, and refusals that say what to do."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from bentos.detector.contract import EngineSpec, read_spec
from bentos.detector.engines import load_engine, openvino, require_library, usable_cores
from bentos.detector.errors import EngineUnavailable, ModelRefused

KINDS = ["openvino", "onnxruntime"]


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (4, 32, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("hint", ["latency", "throughput", "adaptive"])
@pytest.mark.parametrize("kind", KINDS)
def test_real_engines_compute_the_graph(kind, hint, make_onnx_dir, frames) -> None:
    folder = make_onnx_dir(kind)
    engine = load_engine(folder, read_spec(folder), num_threads=1, hint=hint)
    for size in (1, 3, 4, 2):
        found = engine.infer(frames[:size])
        assert found.shape == (size, 8, 6)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found[:, 0, 4], frames[:size].mean(axis=(1, 2, 3)) / 255, rtol=1e-5)
        np.testing.assert_allclose(found[:, 0, :4], [[10, 5, 30, 25]] * size)
    assert engine.max_batch >= 1
    assert engine.num_parallel >= 1
    engine.close()


@pytest.mark.parametrize("kind", KINDS)
def test_answers_do_not_share_memory_with_the_next_run(kind, make_onnx_dir, frames) -> None:
    folder = make_onnx_dir(kind)
    engine = load_engine(folder, read_spec(folder), num_threads=1)
    first = engine.infer(frames[:1])
    before = first.copy()
    engine.infer(np.zeros_like(frames[:1]))
    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize("kind", KINDS)
def test_the_adaptive_hint_shares_the_cores_and_keeps_an_engine_for_who_is_alone(kind, make_onnx_dir, frames) -> None:
    folder = make_onnx_dir(kind)
    engine = load_engine(folder, read_spec(folder), num_threads=2, hint="adaptive")
    assert engine.num_parallel == 2
    assert engine.solo is not None
    assert engine.solo.num_parallel == 1
    np.testing.assert_allclose(engine.solo.infer(frames[:1]), engine.infer(frames[:1]), rtol=1e-5)
    assert load_engine(folder, read_spec(folder), num_threads=1, hint="adaptive").solo is None
    engine.close()


def test_openvino_gives_slow_frames_more_cores_and_no_company(make_onnx_dir, monkeypatch, frames) -> None:
    folder = make_onnx_dir("openvino")
    monkeypatch.setattr(openvino, "_cpu_seconds", lambda compiled, frame: 0.1)  # in all, however many cores share it
    engine = load_engine(folder, read_spec(folder), num_threads=4, hint="throughput")
    assert engine.num_parallel == 1  # 0.1 s with one core, 0.05 s with two, 0.025 s with four
    assert engine.max_batch == 1
    assert engine.infer(frames[:3]).shape == (3, 8, 6)


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 8), ("150000 100000", 2), ("10000 100000", 1), ("", 8)])
def test_a_quota_limits_the_cores(tmp_path, monkeypatch, quota, cores) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    (tmp_path / "cpu.max").write_text(quota)
    assert usable_cores(tmp_path / "cpu.max") == cores


def test_openvino_computes_in_the_stated_precision(make_onnx_dir) -> None:
    folder = make_onnx_dir("openvino")
    engine = load_engine(folder, read_spec(folder), num_threads=1)
    assert engine._compiled[1].precision == "f32"  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_no_model_is_refused(kind, make_onnx_dir) -> None:
    folder = make_onnx_dir(kind)
    spec = read_spec(folder)
    (folder / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ModelRefused, match="refuses model.onnx: .*Re-export: tca export"):
        load_engine(folder, spec)


@pytest.mark.parametrize("kind", KINDS)
def test_another_version_is_refused(kind, make_onnx_dir) -> None:
    folder = make_onnx_dir(kind, versions={kind: "1.2.3"})
    with pytest.raises(
        EngineUnavailable, match=rf"built with {kind} 1.2.3; this machine has .*tca export --engine {kind}"
    ):
        load_engine(folder, read_spec(folder))


def test_the_same_release_with_a_build_number_is_accepted(make_onnx_dir) -> None:
    from importlib import metadata

    folder = make_onnx_dir("openvino", versions={"openvino": metadata.version("openvino") + "-12345-abc", "torch": "1"})
    require_library(read_spec(folder))


def test_cuda_is_not_replaced_by_the_cpu(make_onnx_dir) -> None:
    folder = make_onnx_dir("onnxruntime", device="NVIDIA H200 (compute capability 9.0)")
    with pytest.raises(EngineUnavailable, match="exported for NVIDIA H200"):
        load_engine(folder, read_spec(folder))


def test_a_missing_library_is_named(make_onnx_dir, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    folder = make_onnx_dir("tensorrt", versions={"tensorrt": "10.13.2"})
    with pytest.raises(EngineUnavailable, match=r"needs tensorrt.*pip install tensorrt==10.13.2"):
        load_engine(folder, read_spec(folder))


def test_the_fake_finds_colours(fake_dir, paint) -> None:
    engine = load_engine(fake_dir, read_spec(fake_dir))
    frames = np.stack([paint({}, (64, 32)), paint({0: (2, 3, 12, 13), 2: (20, 5, 30, 25)}, (64, 32))])
    found = engine.infer(frames)
    assert found.shape == (2, 8, 6)
    assert not found[0].any()
    np.testing.assert_allclose(found[1, :2], [[2, 3, 12, 13, 0.9, 0], [20, 5, 30, 25, 0.9, 2]])


def test_a_spec_for_another_kind_is_not_loaded_silently() -> None:
    with pytest.raises(ValueError, match="kind"):
        EngineSpec(kind="coreml", file="x")  # type: ignore[arg-type]

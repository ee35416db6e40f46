# ruff: noqa: N801, N815 -- the stand-ins bear the names that CUDA gave
"""Real engines on a tiny graph, and refusals that say what to do."""

from __future__ import annotations

import ctypes
import sys
import types
from typing import Any

import numpy as np
import pytest

from bentos.detector.contract import EngineSpec, read_spec
from bentos.detector.engines import load_engine, require_library
from bentos.detector.errors import EngineFailed, EngineUnavailable, ModelRefused

KINDS = ["openvino", "onnxruntime"]


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (4, 32, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("hint", ["latency", "throughput"])
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


def test_openvino_computes_in_the_stated_precision(make_onnx_dir) -> None:
    folder = make_onnx_dir("openvino")
    engine = load_engine(folder, read_spec(folder), num_threads=1)
    assert str(engine._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()) == "f32"  # type: ignore[attr-defined]


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


class StandInCuda(types.ModuleType):
    """The calls of cuda.bindings.runtime that are used, on ordinary memory."""

    cudaHostAllocDefault = 0

    class cudaMemcpyKind:
        cudaMemcpyHostToDevice = 1
        cudaMemcpyDeviceToHost = 2

    def __init__(self, error: int = 0) -> None:
        super().__init__("runtime")
        self.memory: dict[int, Any] = {}
        self.freed: list[int] = []
        self.error = error

    def cudaGetDeviceProperties(self, device: int) -> tuple[int, Any]:
        return self.error, types.SimpleNamespace(name=b"NVIDIA H200", major=9, minor=0)

    def cudaMalloc(self, num_bytes: int) -> tuple[int, int]:
        buffer = ctypes.create_string_buffer(num_bytes)
        self.memory[ctypes.addressof(buffer)] = buffer
        return 0, ctypes.addressof(buffer)

    def cudaHostAlloc(self, num_bytes: int, flags: int) -> tuple[int, int]:
        return self.cudaMalloc(num_bytes)

    def cudaStreamCreate(self) -> tuple[int, int]:
        return 0, 77

    def cudaMemcpyAsync(self, target: int, source: int, num_bytes: int, kind: int, stream: int) -> tuple[int]:
        ctypes.memmove(target, source, num_bytes)
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        return (0,)

    def cudaFree(self, address: int) -> tuple[int]:
        self.freed.append(address)
        return (0,)

    cudaFreeHost = cudaFree

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        return (0,)


class StandInContext:
    """Writes the mean of each frame as the score of its first candidate."""

    def __init__(self) -> None:
        self.addresses: dict[str, int] = {}
        self.runs = True

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        assert name == "frames"
        self.shape = shape

    def execute_async_v3(self, stream: int) -> bool:
        size = int(np.prod(self.shape))
        frames = np.frombuffer((ctypes.c_byte * size).from_address(self.addresses["frames"]), np.uint8).reshape(
            self.shape
        )
        count = self.shape[0] * 8 * 6
        memory = (ctypes.c_byte * (count * 4)).from_address(self.addresses["detections"])
        found = np.frombuffer(memory, np.float32).reshape(self.shape[0], 8, 6)
        found[:] = 0
        found[:, 0, 4] = frames.mean(axis=(1, 2, 3))
        return self.runs


def stand_in_tensorrt(engine: Any) -> types.ModuleType:
    module = types.ModuleType("tensorrt")
    runtime = types.SimpleNamespace(deserialize_cuda_engine=lambda data: engine)
    vars(module).update(
        __version__="10.13.2",
        Logger=type("Logger", (), {"WARNING": 1, "__init__": lambda self, level: None}),
        Runtime=lambda logger: runtime,
    )
    return module


@pytest.fixture
def load_tensorrt(make_onnx_dir, monkeypatch):
    def load(engine: Any, cuda: StandInCuda, device: str = "NVIDIA H200 (compute capability 9.0)") -> Any:
        from bentos.detector.engines.tensorrt import TensorRtEngine

        bindings = types.ModuleType("cuda.bindings")
        bindings.runtime = cuda  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "tensorrt", stand_in_tensorrt(engine))
        monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
        folder = make_onnx_dir("tensorrt", device=device)
        return TensorRtEngine(folder, read_spec(folder))

    return load


@pytest.fixture
def built() -> Any:
    contexts: list[StandInContext] = []

    def create() -> StandInContext:
        contexts.append(StandInContext())
        return contexts[-1]

    shapes = [(batch, 32, 64, 3) for batch in (1, 4, 8)]
    return types.SimpleNamespace(
        get_tensor_profile_shape=lambda name, profile: shapes, create_execution_context=create, contexts=contexts
    )


def test_tensorrt_copies_in_runs_and_copies_out(load_tensorrt, built, frames) -> None:
    cuda = StandInCuda()
    engine = load_tensorrt(built, cuda)
    assert (engine.max_batch, engine.num_parallel) == (8, 2)
    for size in (4, 1, 3):
        found = engine.infer(frames[:size])
        assert found.shape == (size, 8, 6)
        np.testing.assert_allclose(found[:, 0, 4], frames[:size].mean(axis=(1, 2, 3)), rtol=1e-5)
    engine.close()
    assert sorted(cuda.freed) == sorted(cuda.memory)


def test_tensorrt_says_what_to_re_export(load_tensorrt, built) -> None:
    with pytest.raises(
        EngineUnavailable, match=r"built for NVIDIA L4 \(compute capability 8.9\); this machine has NVIDIA H200"
    ):
        load_tensorrt(built, StandInCuda(), device="NVIDIA L4 (compute capability 8.9)")


def test_tensorrt_refuses_an_engine_of_another_version(load_tensorrt) -> None:
    with pytest.raises(ModelRefused, match="TensorRT 10.13.2 refuses model.onnx"):
        load_tensorrt(None, StandInCuda())


def test_tensorrt_needs_a_gpu(load_tensorrt, built) -> None:
    with pytest.raises(EngineUnavailable, match="needs an NVIDIA GPU: cudaGetDeviceProperties failed with 35"):
        load_tensorrt(built, StandInCuda(error=35))


def test_tensorrt_failure_of_a_batch_gives_the_lane_back(load_tensorrt, built, frames) -> None:
    engine = load_tensorrt(built, StandInCuda())
    for context in built.contexts:
        context.runs = False
    for _ in range(3):
        with pytest.raises(EngineFailed, match="refused the batch"):
            engine.infer(frames)


def test_a_spec_for_another_kind_is_not_loaded_silently() -> None:
    with pytest.raises(ValueError, match="kind"):
        EngineSpec(kind="coreml", file="x")  # type: ignore[arg-type]

"""ONNX Runtime: how it shares a CPU, for real; with CUDA, the real graph behind stand-ins of the GPU's calls."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bentos.detector.contract import read_spec
from bentos.detector.engines import onnxruntime as module
from bentos.detector.engines.onnxruntime import OnnxRuntimeEngine
from bentos.detector.engines.quiet import import_onnxruntime
from bentos.detector.errors import EngineFailed, EngineUnavailable
from tests.detector.gpu_stand_ins import GPU, StandInCuda, StandInSession, install_cuda

Load = Callable[..., Any]


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (20, 32, 64, 3), dtype=np.uint8)


class StandInLibrary(types.ModuleType):
    """onnxruntime-gpu: `providers` are those that start."""

    def __init__(self, cuda: StandInCuda, providers: tuple[str, ...] = ("CUDAExecutionProvider",)) -> None:
        super().__init__("onnxruntime")
        self.cuda, self.providers = cuda, providers
        self.sessions: list[StandInSession] = []
        self.preloaded = 0
        self.SessionOptions = import_onnxruntime().SessionOptions

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def preload_dlls(self) -> None:
        self.preloaded += 1

    def InferenceSession(self, path: Path, options: Any, providers: list[Any]) -> StandInSession:
        real = import_onnxruntime().InferenceSession(path, options, providers=["CPUExecutionProvider"])
        kept = [provider for provider in providers if provider[0] in self.providers]
        self.sessions.append(StandInSession(real, self.cuda, kept))
        self.given = providers
        return self.sessions[-1]


@pytest.fixture
def load(make_onnx_dir: Any, monkeypatch: pytest.MonkeyPatch) -> Load:
    folders: list[Path] = []

    def make(library: StandInLibrary, device: str = GPU) -> Any:
        install_cuda(monkeypatch, library.cuda)
        monkeypatch.setattr(module, "import_onnxruntime", lambda: library)
        if not folders:
            folders.append(make_onnx_dir("onnxruntime", device=device))
        return OnnxRuntimeEngine(folders[0], read_spec(folders[0]))

    return make


def assert_right(found: np.ndarray, frames: np.ndarray) -> None:
    assert found.shape == (len(frames), 8, 6)
    np.testing.assert_allclose(found[:, 0, 4], frames.mean(axis=(1, 2, 3)) / 255, rtol=1e-5)
    np.testing.assert_allclose(found[:, 0, :4], [[10, 5, 30, 25]] * len(frames))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 11])
def test_cuda_computes_buckets_in_place(load: Load, frames: np.ndarray, size: int) -> None:
    library = StandInLibrary(StandInCuda())
    engine = load(library)
    assert (engine.max_batch, engine.num_parallel, library.preloaded) == (8, 2, 1)
    assert engine.num_decoders >= 1  # the cores have nothing else to do
    for start in (0, 4, 9):
        assert_right(engine.infer(frames[start : start + size]), frames[start : start + size])
    assert set(library.sessions[0].batches) <= {1, 2, 4, 8}


def test_cuda_is_not_given_to_the_cpu_and_computes_in_fp32(load: Load) -> None:
    library = StandInLibrary(StandInCuda())
    load(library)
    ((name, options),) = library.given
    assert name == "CUDAExecutionProvider"
    assert options["use_tf32"] == "0"


def test_closing_gives_everything_back(load: Load, frames: np.ndarray) -> None:
    cuda = StandInCuda()
    engine = load(StandInLibrary(cuda))
    engine.infer(frames)
    engine.close()
    assert cuda.live == {}


def test_a_batch_that_fails_says_why_and_leaves_the_lane_usable(load: Load, frames: np.ndarray) -> None:
    library = StandInLibrary(StandInCuda())
    engine = load(library)
    library.sessions[0].fails = True
    for _ in range(3):
        with pytest.raises(EngineFailed, match="ONNX Runtime refused the batch: out of memory"):
            engine.infer(frames[:2])
    library.sessions[0].fails = False
    assert_right(engine.infer(frames[:3]), frames[:3])
    library.cuda.refuse = "cudaMemcpyAsync"
    with pytest.raises(EngineFailed, match="cudaMemcpyAsync failed"):
        engine.infer(frames[:2])


def test_whichever_call_fails_at_the_start_nothing_is_kept(load: Load) -> None:
    whole = StandInCuda()
    load(StandInLibrary(whole))
    for number in range(len(whole.calls)):
        cuda = StandInCuda(fail_at=number)
        with pytest.raises(EngineUnavailable):
            load(StandInLibrary(cuda))
        assert cuda.live == {}, whole.calls[number]


def test_a_provider_that_does_not_start_is_named(load: Load) -> None:
    with pytest.raises(EngineUnavailable, match="could not start CUDAExecutionProvider"):
        load(StandInLibrary(StandInCuda(), providers=()))


def test_another_gpu_is_refused(load: Load) -> None:
    with pytest.raises(EngineUnavailable, match="built for NVIDIA L4.*this machine has NVIDIA H200.*onnxruntime"):
        load(StandInLibrary(StandInCuda()), device="NVIDIA L4 (compute capability 8.9)")


def test_cuda_needs_cuda_python(load: Load, make_onnx_dir: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    library = StandInLibrary(StandInCuda())
    monkeypatch.setattr(module, "import_onnxruntime", lambda: library)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    folder = make_onnx_dir("onnxruntime", device=GPU)
    with pytest.raises(EngineUnavailable, match="ONNX Runtime with CUDA needs cuda-python"):
        OnnxRuntimeEngine(folder, read_spec(folder))


def options_of(engine: OnnxRuntimeEngine) -> Any:
    return engine._backend._free.get().get_session_options()  # type: ignore[union-attr]


@pytest.mark.parametrize("hint", ["throughput", "adaptive"])
def test_batches_run_side_by_side_on_a_thread_each(make_onnx_dir: Any, frames: np.ndarray, hint: Any) -> None:
    folder = make_onnx_dir("onnxruntime")
    engine = OnnxRuntimeEngine(folder, read_spec(folder), num_threads=3, hint=hint)
    assert (engine.num_parallel, engine.num_decoders, engine.solo is not None) == (3, 0, hint == "adaptive")
    answers: dict[int, np.ndarray] = {}

    def ask(start: int) -> None:
        answers[start] = engine.infer(frames[start : start + 2])

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(0, 12, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for start in range(0, 12, 2):
        assert_right(answers[start], frames[start : start + 2])
    if engine.solo is not None:
        assert_right(engine.solo.infer(frames[:1]), frames[:1])
        assert options_of(engine.solo).intra_op_num_threads == 3  # type: ignore[arg-type]
    assert options_of(engine).intra_op_num_threads == 1
    engine.close()


def test_a_slow_model_gets_more_threads_a_batch(make_onnx_dir: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_seconds", lambda streams, frame: 0.05 if streams.num == 1 else 0.0)
    folder = make_onnx_dir("onnxruntime")
    engine = OnnxRuntimeEngine(folder, read_spec(folder), num_threads=4, hint="adaptive")
    assert (engine.num_parallel, engine.solo) == (1, None)
    assert options_of(engine).intra_op_num_threads == 4


def test_with_the_latency_hint_all_threads_share_a_batch(make_onnx_dir: Any) -> None:
    folder = make_onnx_dir("onnxruntime")
    engine = OnnxRuntimeEngine(folder, read_spec(folder), num_threads=2)
    options = options_of(engine)
    assert (engine.num_parallel, options.intra_op_num_threads) == (1, 2)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"

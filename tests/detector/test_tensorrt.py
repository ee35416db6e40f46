"""The TensorRT engine against stand-ins: padding, lanes, graphs, what is given back, and every call failing once."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bentos.detector.contract import read_spec
from bentos.detector.engines.lanes import choose_buckets
from bentos.detector.errors import EngineFailed, EngineUnavailable, ModelRefused
from tests.detector.gpu_stand_ins import GPU, StandInCuda, StandInEngine, install_cuda, stand_in_tensorrt

BUCKETS = ((1, 1), (2, 2), (4, 4), (8, 8))
Load = Callable[..., Any]


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (20, 32, 64, 3), dtype=np.uint8)


@pytest.fixture
def load(make_onnx_dir: Any, monkeypatch: pytest.MonkeyPatch) -> Load:
    folders: list[Any] = []

    def make(cuda: StandInCuda, engine: StandInEngine | None, device: str = GPU, version: str = "10.13.2") -> Any:
        from bentos.detector.engines.tensorrt import TensorRtEngine

        install_cuda(monkeypatch, cuda)
        monkeypatch.setitem(sys.modules, "tensorrt", stand_in_tensorrt(engine))
        if not folders:
            folders.append(make_onnx_dir("tensorrt", device=device, versions={"tensorrt": version}))
        return TensorRtEngine(folders[0], read_spec(folders[0]))

    return make


def built(cuda: StandInCuda, profiles: tuple[tuple[int, int], ...] = BUCKETS) -> StandInEngine:
    return StandInEngine(cuda, profiles)


def assert_right(found: np.ndarray, frames: np.ndarray) -> None:
    assert found.shape == (len(frames), 8, 6)
    np.testing.assert_allclose(found[:, 0, 4], frames.mean(axis=(1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("size", range(1, 9))
def test_a_batch_is_padded_to_its_bucket_and_cut_back(load: Load, frames: np.ndarray, size: int) -> None:
    cuda = StandInCuda()
    graph = built(cuda)
    engine = load(cuda, graph)
    assert (engine.max_batch, engine.num_parallel) == (8, 2)
    for start in (0, 3, 6, 9):  # both lanes, with other frames left in their rows
        graph.batches.clear()
        part = frames[start : start + size]
        assert_right(engine.infer(part), part)
        assert graph.batches == [min(bucket for bucket in (1, 2, 4, 8) if bucket >= size)]


def test_a_batch_is_one_graph_launch_and_one_wait(load: Load, frames: np.ndarray) -> None:
    cuda = StandInCuda()
    engine = load(cuda, built(cuda))
    assert cuda.calls.count("cudaGraphInstantiate") == 8  # two lanes, four buckets
    cuda.calls.clear()
    engine.infer(frames[:3])
    assert cuda.calls == ["cudaGraphLaunch", "cudaStreamSynchronize"]


def test_every_graph_has_a_context_of_its_own(load: Load) -> None:
    cuda = StandInCuda()
    graph = built(cuda)
    load(cuda, graph)
    assert len(graph.contexts) == 8
    assert sorted(context.shape[0] for context in graph.contexts) == [1, 1, 2, 2, 4, 4, 8, 8]
    assert all(context.profile == (context.shape[0],) * 2 for context in graph.contexts)
    assert sorted(graph.batches) == [1, 1, 2, 2, 4, 4, 8, 8]  # each ran once before it was captured


def test_an_engine_with_a_single_profile_serves_all_buckets(load: Load, frames: np.ndarray) -> None:
    cuda = StandInCuda()
    graph = built(cuda, ((1, 8),))
    engine = load(cuda, graph)
    graph.batches.clear()
    for size in (1, 3, 8):
        assert_right(engine.infer(frames[:size]), frames[:size])
    assert graph.batches == [1, 4, 8]


def test_a_bucket_without_a_profile_takes_the_next(load: Load, frames: np.ndarray) -> None:
    cuda = StandInCuda()
    graph = built(cuda, ((4, 4), (6, 6)))
    engine = load(cuda, graph)
    graph.batches.clear()
    for size in (1, 5):
        assert_right(engine.infer(frames[:size]), frames[:size])
    assert (engine.max_batch, graph.batches) == (6, [4, 6])


def test_more_frames_than_the_largest_bucket_run_in_parts(load: Load, frames: np.ndarray) -> None:
    cuda = StandInCuda()
    graph = built(cuda)
    engine = load(cuda, graph)
    graph.batches.clear()
    assert_right(engine.infer(frames), frames)
    assert graph.batches == [8, 8, 4]
    assert engine.infer(frames[:0]).shape == (0, 8, 6)


def test_two_batches_run_at_once(load: Load, frames: np.ndarray) -> None:
    cuda = StandInCuda()
    engine = load(cuda, built(cuda))
    together = threading.Barrier(2, timeout=10)  # passed only while both lanes have work under way
    cuda.on_wait = lambda: together.wait() and None
    answers: dict[int, np.ndarray] = {}

    def ask(number: int) -> None:
        answers[number] = engine.infer(frames[number : number + 3])

    threads = [threading.Thread(target=ask, args=(number,)) for number in (0, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in (0, 4):
        assert_right(answers[number], frames[number : number + 3])


def test_answers_are_not_overwritten_by_the_next_batch(load: Load, frames: np.ndarray) -> None:
    cuda = StandInCuda()
    engine = load(cuda, built(cuda))
    answers = [engine.infer(frames[start : start + 4]) for start in (0, 4, 8, 12)]
    for start, found in zip((0, 4, 8, 12), answers, strict=True):
        assert_right(found, frames[start : start + 4])


@pytest.mark.parametrize(
    "name", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate", "execute_async_v3"]
)
def test_without_capture_the_kernels_are_launched_one_by_one(
    load: Load, frames: np.ndarray, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    cuda = StandInCuda(refuse=name, error=900)
    graph = built(cuda)
    if name == "execute_async_v3":  # TensorRT refuses while a stream records
        begin = cuda.cudaStreamBeginCapture

        def refusing(stream: Any, mode: Any) -> Any:
            graph.runs = False
            return begin(stream, mode)

        def ending(stream: Any) -> Any:
            graph.runs = True
            return end(stream)

        end = cuda.cudaStreamEndCapture
        vars(cuda).update(cudaStreamBeginCapture=refusing, cudaStreamEndCapture=ending)
    with caplog.at_level(logging.WARNING, "bentos.detector"):
        engine = load(cuda, graph)
    assert sum("no CUDA graph for batches of" in line for line in caplog.messages) == 8
    cuda.calls.clear()
    assert_right(engine.infer(frames[:3]), frames[:3])
    assert cuda.calls == ["cudaMemcpyAsync", "cudaMemcpyAsync", "cudaStreamSynchronize"]
    cuda.refuse = None
    engine.close()
    assert cuda.live == {}


def test_closing_gives_everything_back(load: Load, frames: np.ndarray) -> None:
    cuda = StandInCuda()
    engine = load(cuda, built(cuda))
    engine.infer(frames[:5])
    engine.close()
    assert cuda.live == {}
    engine.close()
    with pytest.raises(EngineFailed, match="closed"):
        engine.infer(frames[:1])


def test_closing_waits_for_the_batch_that_runs(load: Load, frames: np.ndarray) -> None:
    cuda = StandInCuda()
    engine = load(cuda, built(cuda))
    running, proceed = threading.Event(), threading.Event()

    def hold() -> None:
        if threading.current_thread() is asking:
            running.set()
            assert proceed.wait(10)

    cuda.on_wait = hold
    answers: list[np.ndarray] = []
    asking = threading.Thread(target=lambda: answers.append(engine.infer(frames[:2])))
    asking.start()
    assert running.wait(10)
    closing = threading.Thread(target=engine.close)
    closing.start()
    assert cuda.live
    proceed.set()
    for thread in (asking, closing):
        thread.join(10)
    assert_right(answers[0], frames[:2])
    assert cuda.live == {}


def test_whichever_call_fails_at_the_start_nothing_is_kept(load: Load, frames: np.ndarray) -> None:
    whole = StandInCuda()
    load(whole, built(whole))
    refused = 0
    for number in range(len(whole.calls)):
        cuda = StandInCuda(fail_at=number)
        try:
            engine = load(cuda, built(cuda))
        except EngineUnavailable:
            refused += 1
        else:  # a capture that failed: the engine runs all the same
            assert_right(engine.infer(frames[:7]), frames[:7])
            engine.close()
        kept = {what for what, _ in cuda.live}
        assert kept == ({"graph"} if cuda.calls[number] == "cudaGraphDestroy" else set()), (number, cuda.calls[number])
    assert refused > 20


def test_a_batch_that_fails_leaves_the_lane_usable(load: Load, frames: np.ndarray) -> None:
    for number in (0, 1):  # the launch, the wait
        cuda = StandInCuda()
        engine = load(cuda, built(cuda))
        cuda.fail_at = len(cuda.calls) + number
        with pytest.raises(EngineFailed, match=r"cuda\w+ failed with"):
            engine.infer(frames[:3])
        for _ in range(4):
            assert_right(engine.infer(frames[:3]), frames[:3])


def test_a_batch_that_tensorrt_refuses_fails(load: Load, frames: np.ndarray) -> None:
    cuda = StandInCuda(refuse="cudaStreamBeginCapture")
    graph = built(cuda)
    engine = load(cuda, graph)
    graph.runs = False
    for _ in range(3):
        with pytest.raises(EngineFailed, match="refused the batch"):
            engine.infer(frames[:2])
    graph.runs = True
    assert_right(engine.infer(frames[:2]), frames[:2])


def test_an_engine_that_does_not_run_is_not_served(load: Load) -> None:
    cuda = StandInCuda()
    graph = built(cuda)
    graph.runs = False
    with pytest.raises(EngineUnavailable, match="does not start on this GPU: TensorRT refused"):
        load(cuda, graph)
    assert cuda.live == {}


def test_another_gpu_is_refused(load: Load) -> None:
    cuda = StandInCuda()
    with pytest.raises(
        EngineUnavailable,
        match=r"built for NVIDIA L4 \(compute capability 8.9\); this machine has NVIDIA H200.*Re-export here: tca",
    ):
        load(cuda, built(cuda), device="NVIDIA L4 (compute capability 8.9)")


def test_another_build_of_tensorrt_is_refused(load: Load) -> None:
    cuda = StandInCuda()
    with pytest.raises(EngineUnavailable, match="built with TensorRT 10.13.2.6; this machine has 10.13.2. Re-export"):
        load(cuda, built(cuda), version="10.13.2.6")


def test_a_file_that_tensorrt_does_not_read_is_refused(load: Load) -> None:
    with pytest.raises(ModelRefused, match="TensorRT 10.13.2 refuses model.onnx. Re-export here"):
        load(StandInCuda(), None)


def test_without_a_gpu_it_says_so(load: Load) -> None:
    cuda = StandInCuda(refuse="cudaGetDeviceProperties", error=35)
    with pytest.raises(EngineUnavailable, match="needs an NVIDIA GPU: cudaGetDeviceProperties failed with 35"):
        load(cuda, built(cuda))


def test_without_cuda_python_it_says_so(make_onnx_dir: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from bentos.detector.engines.tensorrt import TensorRtEngine

    install_cuda(monkeypatch, None)
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in_tensorrt(None))
    folder = make_onnx_dir("tensorrt", device=GPU)
    with pytest.raises(EngineUnavailable, match="TensorRT needs cuda-python.*pip install cuda-python"):
        TensorRtEngine(folder, read_spec(folder))


@pytest.mark.parametrize(
    ("most", "expected"), [(1, (1,)), (2, (1, 2)), (5, (1, 2, 4, 5)), (8, (1, 2, 4, 8)), (9, (1, 2, 4, 8, 9))]
)
def test_buckets_are_powers_of_two_and_the_largest(most: int, expected: tuple[int, ...]) -> None:
    assert choose_buckets(most) == expected


def test_the_stand_in_has_the_calls_of_the_library() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    names = [name for name in vars(StandInCuda) if name.startswith("cuda")]
    assert len(names) > 15
    for name in names:
        real, ours = getattr(runtime, name), vars(StandInCuda)[name]
        if callable(ours) and not isinstance(ours, type):
            signature = (real.__doc__ or "").split(")")[0].split("(")[1]
            expected = len([part for part in signature.split(",") if part.strip()])
            assert ours.__code__.co_argcount - 1 == expected, (name, signature)
        elif isinstance(ours, type):
            assert {member.name: int(member) for member in ours}.items() <= {
                member.name: int(member) for member in real
            }.items()
        else:
            assert int(real) == ours

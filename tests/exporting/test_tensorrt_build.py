"""The calls that a TensorRT build makes, against a stand-in that knows just them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bentos.detector.engines.tensorrt import device_name
from flows.errors import EngineUnavailable
from flows.exporting.tensorrt_build import build_tensorrt, require_tensorrt


class FakeConfig:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def create_timing_cache(self, content: bytes) -> SimpleNamespace:
        self.calls.append(("create_timing_cache", content))
        self.cache = SimpleNamespace(serialize=lambda: content + b"+timed")
        return self.cache

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> None:
        assert cache is self.cache
        self.calls.append(("set_timing_cache", ignore_mismatch))

    def get_timing_cache(self) -> Any:
        return self.cache

    def __getattr__(self, name: str) -> Any:
        if name not in ("set_flag", "clear_flag", "set_memory_pool_limit", "add_optimization_profile"):
            raise AttributeError(name)
        return lambda *arguments: self.calls.append((name, *arguments))


class FakeBuilder:
    def __init__(self, library: FakeLibrary) -> None:
        self.library, self.config, self.shapes = library, FakeConfig(), []
        library.builders.append(self)

    def create_network(self, flags: int) -> str:
        assert flags == 0
        return "network"

    def create_builder_config(self) -> FakeConfig:
        return self.config

    def create_optimization_profile(self) -> SimpleNamespace:
        return SimpleNamespace(set_shape=lambda *arguments: self.shapes.append(arguments))

    def build_serialized_network(self, network: str, config: FakeConfig) -> bytes | None:
        assert (network, config) == ("network", self.config)
        return self.library.plan


class FakeParser:
    def __init__(self, library: FakeLibrary) -> None:
        self.library, self.num_errors = library, len(library.parser_errors)

    def parse_from_file(self, path: str) -> bool:
        return Path(path).is_file() and not self.library.parser_errors

    def get_error(self, index: int) -> str:
        return self.library.parser_errors[index]


class FakeLibrary(ModuleType):
    def __init__(self) -> None:
        super().__init__("tensorrt")
        self.__version__ = "10.13.3"
        self.plan: bytes | None = b"plan"
        self.parser_errors: list[str] = []
        self.builders: list[FakeBuilder] = []
        self.BuilderFlag = SimpleNamespace(TF32="TF32", FP16="FP16")
        self.MemoryPoolType = SimpleNamespace(WORKSPACE="WORKSPACE")
        self.Logger = type("Logger", (), {"ERROR": 2, "__init__": lambda self, level: None})
        self.Builder = lambda logger: FakeBuilder(self)
        self.OnnxParser = lambda network, logger: FakeParser(self)


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    library = FakeLibrary()
    runtime = ModuleType("cuda.bindings.runtime")
    gpu = SimpleNamespace(name=b"Fake GPU", major=9, minor=0)
    runtime.cudaGetDeviceProperties = lambda index: (0, gpu)  # type: ignore[attr-defined]
    bindings = ModuleType("cuda.bindings")
    bindings.runtime = runtime  # type: ignore[attr-defined]
    modules = {"cuda": ModuleType("cuda"), "cuda.bindings": bindings, "cuda.bindings.runtime": runtime}
    for name, module in {"tensorrt": library, **modules}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return library


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"graph")
    return path


def test_an_engine_is_built_for_batches_of_one_to_eight(tensorrt: FakeLibrary, onnx_file: Path, tmp_path: Path) -> None:
    spec = build_tensorrt(onnx_file, tmp_path, "fp16", (320, 192), tmp_path / "timing.cache")
    assert (tmp_path / "model.engine").read_bytes() == b"plan"
    assert (spec.kind, spec.file, spec.precision) == ("tensorrt", "model.engine", "fp16")
    assert spec.versions == {"tensorrt": "10.13.3"}
    assert spec.device == device_name(sys.modules["cuda.bindings.runtime"])  # what serving will compare it with
    (builder,) = tensorrt.builders
    assert builder.shapes == [("frames", (1, 192, 320, 3), (4, 192, 320, 3), (8, 192, 320, 3))]
    assert ("set_flag", "FP16") in builder.config.calls
    assert ("create_timing_cache", b"") in builder.config.calls


def test_timings_of_an_earlier_build_are_used_and_extended(
    tensorrt: FakeLibrary, onnx_file: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "timing.cache"
    for expected in (b"+timed", b"+timed+timed"):
        build_tensorrt(onnx_file, tmp_path, "fp32", (64, 64), cache)
        assert cache.read_bytes() == expected


def test_fp32_means_fp32(tensorrt: FakeLibrary, onnx_file: Path, tmp_path: Path) -> None:
    build_tensorrt(onnx_file, tmp_path, "fp32", (64, 64), tmp_path / "timing.cache")
    calls = tensorrt.builders[0].config.calls
    assert ("clear_flag", "TF32") in calls
    assert not [call for call in calls if call[0] == "set_flag"]


def test_a_precision_without_a_flag_is_refused(tensorrt: FakeLibrary, onnx_file: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="no bf16 flag"):
        build_tensorrt(onnx_file, tmp_path, "bf16", (64, 64), tmp_path / "timing.cache")


def test_a_graph_that_the_parser_refuses(tensorrt: FakeLibrary, onnx_file: Path, tmp_path: Path) -> None:
    tensorrt.parser_errors.extend(["no TopK", "no Gather"])
    with pytest.raises(EngineUnavailable, match="no TopK; no Gather"):
        build_tensorrt(onnx_file, tmp_path, "fp32", (64, 64), tmp_path / "timing.cache")


def test_a_build_that_fails_leaves_no_engine(tensorrt: FakeLibrary, onnx_file: Path, tmp_path: Path) -> None:
    tensorrt.plan = None
    with pytest.raises(EngineUnavailable, match="could not build"):
        build_tensorrt(onnx_file, tmp_path, "fp32", (64, 64), tmp_path / "timing.cache")
    assert not (tmp_path / "model.engine").exists()


def test_without_a_gpu_it_says_so(tensorrt: FakeLibrary) -> None:
    sys.modules["cuda.bindings"].runtime.cudaGetDeviceProperties = lambda index: (100, None)  # type: ignore[attr-defined]
    with pytest.raises(EngineUnavailable, match="needs an NVIDIA GPU"):
        require_tensorrt()


def test_without_the_library_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineUnavailable, match="not installed.*pip install"):
        require_tensorrt()

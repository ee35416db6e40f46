"""The calls that a TensorRT build makes, against a stand-in that knows just them."""

from __future__ import annotations

import sys
from enum import IntEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bentos.detector.engines.cuda import device_name
from flows.errors import EngineUnavailable
from flows.exporting import tensorrt_build
from flows.exporting.tensorrt_build import build_tensorrt, require_tensorrt


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2


class FakeCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"+timed"


class FakeConfig:
    """`calls` in order; a timing cache that does not begin as this library writes them is refused."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.cache: FakeCache | None = None
        self.progress_monitor: Any = None
        self.hardware_compatibility_level: str | None = None
        self.profiles: list[Any] = []

    def create_timing_cache(self, content: bytes) -> FakeCache | None:
        self.calls.append(("create_timing_cache", content))
        return None if content == b"garbage" else FakeCache(content)

    def set_timing_cache(self, cache: FakeCache, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        if cache.content.startswith(b"of another GPU"):
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> FakeCache | None:
        return self.cache

    def clear_flag(self, flag: str) -> None:
        self.calls.append(("clear_flag", flag))

    def set_memory_pool_limit(self, pool: str, num_bytes: int) -> None:
        self.calls.append(("set_memory_pool_limit", pool, num_bytes))

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1


class FakeBuilder:
    def __init__(self, library: FakeLibrary, logger: Any) -> None:
        self.library, self.logger, self.config = library, logger, FakeConfig()
        library.builders.append(self)

    def create_network(self, flags: int) -> str:
        assert flags == 1 << 1  # strongly typed
        return "network"

    def create_builder_config(self) -> FakeConfig:
        return self.config

    def create_optimization_profile(self) -> SimpleNamespace:
        profile = SimpleNamespace(shapes=None)
        profile.set_shape = lambda *arguments: setattr(profile, "shapes", arguments)
        return profile

    def build_serialized_network(self, network: str, config: FakeConfig) -> bytes | None:
        assert (network, config) == ("network", self.config)
        monitor = config.progress_monitor
        monitor.phase_start("Building Engine", None, 2)
        for outer in range(2):
            monitor.phase_start("Tactics", "Building Engine", 3)
            for inner in range(3):
                if not monitor.step_complete("Tactics", inner):
                    return None
            monitor.phase_finish("Tactics")
            if not monitor.step_complete("Building Engine", outer):
                return None
        monitor.phase_finish("Building Engine")
        if self.library.plan is None:
            self.logger.log(Severity.WARNING, "slow")
            self.logger.log(Severity.ERROR, "no kernel\nfor Conv_3")
        return self.library.plan


class FakeParser:
    def __init__(self, library: FakeLibrary) -> None:
        self.library, self.num_errors = library, len(library.parser_errors)

    def parse(self, model: bytes) -> bool:
        self.library.parsed = model
        return not self.library.parser_errors

    def get_error(self, index: int) -> str:
        return self.library.parser_errors[index]


class FakeLibrary(ModuleType):
    """`plan` is what a build gives; None: it fails."""

    def __init__(self) -> None:
        super().__init__("tensorrt")
        self.__version__ = "10.13.3"
        self.plan: bytes | None = b"plan"
        self.parsed = b""
        self.parser_errors: list[str] = []
        self.builders: list[FakeBuilder] = []
        self.BuilderFlag = SimpleNamespace(TF32="TF32")
        self.MemoryPoolType = SimpleNamespace(WORKSPACE="WORKSPACE")
        self.HardwareCompatibilityLevel = SimpleNamespace(NONE="NONE")
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        self.ILogger = type("ILogger", (), {"Severity": Severity})
        self.IProgressMonitor = type("IProgressMonitor", (), {})
        self.Builder = lambda logger: FakeBuilder(self, logger)
        self.OnnxParser = lambda network, logger: FakeParser(self)


@pytest.fixture
def gpu() -> SimpleNamespace:
    return SimpleNamespace(name=b"Fake GPU", major=9, minor=0)


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch, gpu: SimpleNamespace) -> FakeLibrary:
    library = FakeLibrary()
    runtime = ModuleType("cuda.bindings.runtime")
    runtime.cudaGetDeviceProperties = lambda index: (0, gpu)  # type: ignore[attr-defined]
    bindings = ModuleType("cuda.bindings")
    bindings.runtime = runtime  # type: ignore[attr-defined]
    modules = {"cuda": ModuleType("cuda"), "cuda.bindings": bindings, "cuda.bindings.runtime": runtime}
    for name, module in {"tensorrt": library, **modules}.items():
        monkeypatch.setitem(sys.modules, name, module)
    rewritten = lambda file, precision, frames: b" ".join([file.read_bytes(), precision.encode()])  # noqa: E731
    monkeypatch.setattr(tensorrt_build, "rewrite_graph", rewritten)
    return library


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"graph")
    return path


def timings(folder: Path) -> Path:
    return folder / "timing-fake-gpu-compute-capability-9-0-10.13.3.cache"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_an_engine_is_built_with_a_profile_for_each_bucket(
    tensorrt: FakeLibrary, onnx_file: Path, tmp_path: Path, precision: Any
) -> None:
    spec = build_tensorrt(onnx_file, tmp_path, precision, (320, 192), tmp_path / "timing.cache")
    assert (tmp_path / "model.engine").read_bytes() == b"plan"
    assert (spec.kind, spec.file, spec.precision) == ("tensorrt", "model.engine", precision)
    assert spec.versions == {"tensorrt": "10.13.3"}
    assert spec.device == device_name(sys.modules["cuda.bindings.runtime"])  # what serving will compare it with
    assert tensorrt.parsed == b"graph " + precision.encode()  # the graph says the precision, no flag does
    (builder,) = tensorrt.builders
    assert builder.config.profiles == [("frames", *[(size, 192, 320, 3)] * 3) for size in (1, 2, 4, 8)]
    assert builder.config.hardware_compatibility_level == "NONE"
    assert ("clear_flag", "TF32") in builder.config.calls
    assert ("set_memory_pool_limit", "WORKSPACE", 2 << 30) in builder.config.calls


def test_timings_of_an_earlier_build_are_used_and_extended(
    tensorrt: FakeLibrary, onnx_file: Path, tmp_path: Path
) -> None:
    for expected in (b"+timed", b"+timed+timed"):
        build_tensorrt(onnx_file, tmp_path, "fp32", (64, 64), tmp_path / "timing.cache")
        assert timings(tmp_path).read_bytes() == expected
    assert sorted(path.name for path in tmp_path.glob("*timing*")) == [timings(tmp_path).name]  # no draft is left


@pytest.mark.parametrize("content", [b"garbage", b"of another GPU"])
def test_timings_that_do_not_fit_are_replaced(
    tensorrt: FakeLibrary, onnx_file: Path, tmp_path: Path, content: bytes
) -> None:
    timings(tmp_path).write_bytes(content)
    build_tensorrt(onnx_file, tmp_path, "fp32", (64, 64), tmp_path / "timing.cache")
    assert timings(tmp_path).read_bytes() == b"+timed"


def test_another_version_has_timings_of_its_own(tensorrt: FakeLibrary, onnx_file: Path, tmp_path: Path) -> None:
    for version in ("10.13.3", "10.14.1"):
        tensorrt.__version__ = version
        build_tensorrt(onnx_file, tmp_path, "fp32", (64, 64), tmp_path / "timing.cache")
    assert len(list(tmp_path.glob("timing-*.cache"))) == 2


def test_progress_is_that_of_the_outermost_phase(tensorrt: FakeLibrary, onnx_file: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    build_tensorrt(
        onnx_file, tmp_path, "fp32", (64, 64), tmp_path / "c", progress=lambda *figures: told.append(figures)
    )
    assert told[0] == (0, 2, "Tactics: 1/3")
    assert told[3] == (1, 2, "Building Engine: 1/2")
    assert told[-1] == (2, 2, "Building Engine: 2/2")
    assert len(told) == 8


def test_an_interruption_ends_the_build(tensorrt: FakeLibrary, onnx_file: Path, tmp_path: Path) -> None:
    told: list[int] = []

    def interrupt(done: int, total: int, note: str) -> None:
        told.append(done)
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_tensorrt(onnx_file, tmp_path, "fp32", (64, 64), tmp_path / "c", progress=interrupt)
    assert len(told) == 2
    assert not (tmp_path / "model.engine").exists()


def test_a_graph_that_the_parser_refuses(tensorrt: FakeLibrary, onnx_file: Path, tmp_path: Path) -> None:
    tensorrt.parser_errors.extend(["no TopK", "no Gather"])
    with pytest.raises(EngineUnavailable, match="no TopK; no Gather"):
        build_tensorrt(onnx_file, tmp_path, "fp32", (64, 64), tmp_path / "timing.cache")


def test_shapes_that_tensorrt_refuses(
    tensorrt: FakeLibrary, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeConfig, "add_optimization_profile", lambda config, profile: -1)
    with pytest.raises(EngineUnavailable, match="refuses batches of 1 frames of 64 x 32 px"):
        build_tensorrt(onnx_file, tmp_path, "fp32", (64, 32), tmp_path / "timing.cache")


def test_a_build_that_fails_says_why_and_leaves_no_engine(
    tensorrt: FakeLibrary, onnx_file: Path, tmp_path: Path
) -> None:
    tensorrt.plan = None
    with pytest.raises(EngineUnavailable, match="could not build the engine: no kernel for Conv_3"):
        build_tensorrt(onnx_file, tmp_path, "fp32", (64, 64), tmp_path / "timing.cache")
    assert not (tmp_path / "model.engine").exists()


def test_bf16_needs_a_gpu_that_has_it(tensorrt: FakeLibrary, gpu: SimpleNamespace) -> None:
    gpu.major, gpu.minor = 7, 5
    assert require_tensorrt("fp16")[0] is tensorrt
    with pytest.raises(EngineUnavailable, match="7.5.*does not compute in bf16"):
        require_tensorrt("bf16")


def test_without_a_gpu_it_says_so(tensorrt: FakeLibrary) -> None:
    sys.modules["cuda.bindings"].runtime.cudaGetDeviceProperties = lambda index: (100, None)  # type: ignore[attr-defined]
    with pytest.raises(EngineUnavailable, match="needs an NVIDIA GPU"):
        require_tensorrt()


def test_without_the_library_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineUnavailable, match="not installed.*pip install"):
        require_tensorrt()

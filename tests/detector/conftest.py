"""Models small enough to load in a test, and pictures whose boxes are known."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from bentos.detector.app import DetectApp
from bentos.detector.batcher import Batcher
from bentos.detector.contract import EngineSpec, InputSpec, ModelSpec, Thresholds, file_sha256, write_spec
from bentos.detector.detector import Detector
from bentos.detector.keys import KeyFile, make_key, write_keys
from bentos.detector.runtime import Runtime
from bentos.detector.telemetry import Telemetry

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("car", "truck", "bus")
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
TOP_K = 8


def spec_of(**changes: Any) -> ModelSpec:
    content: dict[str, Any] = {
        "name": "tiny",
        "classes": CLASSES,
        "input": InputSpec(size_wh=(64, 32)),
        "thresholds": Thresholds(conf=0.25, iou=0.6, max_det=5),
        "top_k": TOP_K,
        "engine": EngineSpec(kind="fake", file="fake.json"),
    }
    return ModelSpec(**{**content, **changes})


@pytest.fixture
def make_spec() -> Callable[..., ModelSpec]:
    return spec_of


@pytest.fixture
def fake_dir(tmp_path: Path) -> Path:
    """A model directory for the fake engine: it finds what is painted red (car), green (truck) or blue (bus)."""
    return write_fake(tmp_path / "fake")


@pytest.fixture
def make_fake_dir(tmp_path: Path) -> Callable[..., Path]:
    """The same with options for the engine, such as '{"delay_ms": 5}'."""

    def make(options: str = "{}", **changes: Any) -> Path:
        return write_fake(tmp_path / "fake", options, **changes)

    return make


def write_fake(folder: Path, options: str = "{}", **changes: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "fake.json").write_text(options)
    write_spec(folder, spec_of(files={"fake.json": file_sha256(folder / "fake.json")}, **changes))
    return folder


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """uint8 (B, 32, 64, 3) to (B, 8, 6): fixed boxes, of which the score of the first is the frame's mean / 255."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    path.write_bytes(tiny_graph())
    return path


def tiny_graph() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    base = np.zeros((1, TOP_K, 6), dtype=np.float32)
    base[0, 0] = (10, 5, 30, 25, 0, 1)
    base[0, 1] = (40, 5, 50, 25, 0.5, 2)
    gain = np.zeros((1, TOP_K, 6), dtype=np.float32)
    gain[0, 0, 4] = 1 / 255
    constants = [
        numpy_helper.from_array(base, "base"),
        numpy_helper.from_array(gain, "gain"),
        numpy_helper.from_array(np.array([1, 2, 3], dtype=np.int64), "axes"),
        numpy_helper.from_array(np.array([-1, 1, 1], dtype=np.int64), "shape"),
    ]
    nodes = [
        helper.make_node("Cast", ["frames"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=1),
        helper.make_node("Reshape", ["mean", "shape"], ["column"]),
        helper.make_node("Mul", ["column", "gain"], ["scores"]),
        helper.make_node("Add", ["base", "scores"], ["detections"]),
    ]
    frames = helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", 32, 64, 3])
    found = helper.make_tensor_value_info("detections", TensorProto.FLOAT, ["batch", TOP_K, 6])
    graph = helper.make_graph(nodes, "tiny", [frames], [found], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return model.SerializeToString()


@pytest.fixture
def make_onnx_dir(tmp_path: Path, onnx_file: Path) -> Callable[..., Path]:
    """A model directory with the tiny graph for a real engine."""

    def make(kind: str, versions: dict[str, str] | None = None, **engine: Any) -> Path:
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "model.onnx").write_bytes(onnx_file.read_bytes())
        files = {"model.onnx": file_sha256(folder / "model.onnx")}
        chosen = EngineSpec(kind=kind, file="model.onnx", versions=versions or {}, **engine)  # type: ignore[arg-type]
        write_spec(folder, spec_of(engine=chosen, files=files))
        return folder

    return make


def painted(boxes: dict[int, tuple[int, int, int, int]], size_wh: tuple[int, int]) -> np.ndarray:
    rgb = np.full((size_wh[1], size_wh[0], 3), 120, dtype=np.uint8)
    for class_id, (x1, y1, x2, y2) in boxes.items():
        rgb[y1:y2, x1:x2] = COLOURS[class_id]
    return rgb


@pytest.fixture
def paint() -> Callable[..., np.ndarray]:
    """A grey picture with a rectangle in the colour of each given class."""
    return painted


def encoded(rgb: np.ndarray, form: str = "JPEG", **options: Any) -> bytes:
    buffer = BytesIO()
    if form == "JPEG":
        options = {"quality": 95, "subsampling": 0, **options}
    Image.fromarray(rgb).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture
def encode() -> Callable[..., bytes]:
    return encoded


@pytest.fixture
def picture() -> bytes:
    """A JPEG of 128 x 64 with a car at (32, 16, 64, 48)."""
    return encoded(painted({0: (32, 16, 64, 48)}, (128, 64)))


@pytest.fixture(scope="session")
def service_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a process that serves, with a bento store of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DETECTOR_", "BENTOML_"))}
    home = tmp_path_factory.mktemp("bentoml")
    scripts = str(Path(sys.executable).parent)
    path = f"{scripts}{os.pathsep}{clean.get('PATH', '')}"
    return {**clean, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", "PATH": path}


@pytest.fixture
async def open_app(
    make_fake_dir: Callable[..., Path],
) -> AsyncIterator[Callable[..., tuple[httpx.AsyncClient, DetectApp]]]:
    """The app in process around a fake model, and a client of it."""
    opened: list[tuple[httpx.AsyncClient, Runtime]] = []

    def build(options: str = "{}", max_queue: int = 64, **changes: Any) -> tuple[httpx.AsyncClient, DetectApp]:
        detector = Detector.load(make_fake_dir(options))
        app = DetectApp()
        app.runtime = Runtime(detector, Batcher(detector, max_queue=max_queue), Telemetry("7"), "7", **changes)
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
        opened.append((client, app.runtime))
        return client, app

    yield build
    for client, runtime in opened:
        await client.aclose()
        await asyncio.to_thread(runtime.batcher.close, 10)


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[DetectApp], tuple[threading.Event, list[int]]]]:
    """Make the engine wait in every batch until the event is set; the list has the sizes of the batches."""
    events: list[threading.Event] = []

    def make(app: DetectApp) -> tuple[threading.Event, list[int]]:
        engine, gate, sizes = app.runtime.detector.engine, threading.Event(), []
        events.append(gate)
        original = engine.infer

        def infer(frames: Any) -> Any:
            sizes.append(len(frames))
            assert gate.wait(30)
            return original(frames)

        monkeypatch.setattr(engine, "infer", infer)
        return gate, sizes

    yield make
    for event in events:
        event.set()


class Services:
    """Starts commands that serve, each on a free port, and waits until they are ready."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self.processes: list[subprocess.Popen[bytes]] = []

    def __call__(self, command: list[str], log: Path, **environment: str) -> str:
        """Start `command` with a --port of its own; its address, once /readyz answers 200."""
        port = find_port()
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [*command, "--port", str(port)],
                env={**self._environment, **environment},
                cwd=ROOT,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        self.processes.append(process)
        url = f"http://127.0.0.1:{port}"
        wait_ready(process, url, log)
        return url

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(timeout=30)


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    pytest.fail(f"not ready after 120 s: {log.read_text()}")


@pytest.fixture(scope="session")
def start_service(service_environment: dict[str, str]) -> Iterator[Services]:
    services = Services(service_environment)
    yield services
    services.stop()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, start_service: Services) -> tuple[str, Path]:
    """Address of a served fake model that records features, and the folder where they are recorded."""
    folder = tmp_path_factory.mktemp("served")
    model = write_fake(folder / "model")
    command = [sys.executable, "-m", "bentos.detector", "--model-dir", str(model)]
    records = folder / "records"
    url = start_service(command, folder / "log", DETECTOR_MODEL_VERSION="7", DETECTOR_RECORD_DIR=str(records))
    return url, records


@pytest.fixture(scope="session")
def served_with_keys(tmp_path_factory: pytest.TempPathFactory, start_service: Services) -> tuple[str, str]:
    """Address of a served fake model that asks for a key, and the token of one that may do everything."""
    folder = tmp_path_factory.mktemp("keys")
    token, key = make_key("tests", ("detect", "operate"))
    write_keys(folder / "keys.json", KeyFile(keys=(key,)))
    command = [sys.executable, "-m", "bentos.detector", "--model-dir", str(write_fake(folder / "model"))]
    return start_service(command, folder / "log", DETECTOR_KEYS_FILE=str(folder / "keys.json")), token


@pytest.fixture(scope="session")
def served_graph(tmp_path_factory: pytest.TempPathFactory, onnx_file: Path, start_service: Services) -> str:
    """Address of the tiny graph, served: of a picture of 640 x 320 it says a truck at (100, 50, 300, 250), as sure as
    the picture is bright, and a bus at (400, 50, 500, 250), 0.5.
    """
    folder = tmp_path_factory.mktemp("graph")
    (folder / "model.onnx").write_bytes(onnx_file.read_bytes())
    engine = EngineSpec(kind="openvino", file="model.onnx")
    write_spec(folder, spec_of(engine=engine, files={"model.onnx": file_sha256(folder / "model.onnx")}))
    command = [sys.executable, "-m", "bentos.detector", "--model-dir", str(folder)]
    return start_service(command, folder / "log", DETECTOR_NUM_THREADS="1")

"""The real service as its own processes, watched from outside."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bentos.detector.contract import EngineSpec, InputSpec, file_sha256, write_spec
from tests.detector.conftest import TOP_K, Services, spec_of

FRAME_PATH = "/v1/detect"
OURS = {"code", "message", "request_id", "details"}


@dataclass(frozen=True)
class Service:
    """A service that was started, and its supervisor."""

    url: str
    supervisor: psutil.Process
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def worker(self) -> psutil.Process:
        """The process that answers; there is one."""
        (worker,) = self.supervisor.children()
        return worker

    def rss_mb(self) -> float:
        """Resident memory of worker and supervisor, MB."""
        return (self.worker.memory_info().rss + self.supervisor.memory_info().rss) / 1e6

    def metric(self, name: str) -> float:
        """A metric that has one series. Raises KeyError."""
        for line in ask(self.port, "GET", "/metrics")[1].decode().splitlines():
            if line.startswith((name + " ", name + "{")):
                return float(line.split()[-1])
        raise KeyError(name)


def start(services: Services, model: Path, log: Path, **environment: str) -> Service:
    """Serve a model directory; ready when this returns."""
    url = services([sys.executable, "-m", "bentos.detector", "--model-dir", str(model)], log, **environment)
    return Service(url, psutil.Process(services.processes[-1].pid), log)


def stop(service: Service, services: Services) -> int:
    """SIGTERM, and the exit code."""
    process = next(one for one in services.processes if one.pid == service.supervisor.pid)
    process.terminate()
    try:
        return process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def ask(
    port: int, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str | bytes] | None = None
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """One request on a connection of its own: status, body, headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def send_raw(port: int, data: bytes, timeout_s: float = 30.0) -> tuple[int, bytes]:
    """Write bytes to a connection: status and body of the first answer, 0 without any."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        with contextlib.suppress(OSError):  # refused before the end: what it said is still there to be read
            connection.sendall(data)
        try:
            answer = http.client.HTTPResponse(connection)
            answer._method = ""  # type: ignore[attr-defined]
            line = answer.fp.readline()
            if not line:
                return 0, b""
            status = int(line.split()[1])
            length = 0
            while (header := answer.fp.readline()).strip():
                if header.lower().startswith(b"content-length:"):
                    length = int(header.partition(b":")[2])
            return status, answer.fp.read(length)
        except OSError:
            return 0, b""


def problem_with(status: int, body: bytes) -> str:
    """What is wrong about an error: empty if it is the envelope of a refusal, or of being busy."""
    if status >= 500 and status != 503:
        return f"status {status}: {body[:200]!r}"
    try:
        content: Any = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return f"status {status} without the envelope: {body[:200]!r}"
    if set(content) != OURS or not content["message"]:
        return f"status {status} with {content}"
    if status == 503 and content["code"] != "overloaded":
        return f"503 {content['code']}"
    return ""


def write_conv_model(folder: Path, side_px: int = 320, num_layers: int = 6) -> Path:
    """A model directory for OpenVINO, whose graph costs about what a small detector does; weights from a fixed seed."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(_conv_graph(side_px, num_layers))
    files = {"model.onnx": file_sha256(folder / "model.onnx")}
    engine = EngineSpec(kind="openvino", file="model.onnx")
    write_spec(folder, spec_of(engine=engine, files=files, input=InputSpec(size_wh=(side_px, side_px))))
    return folder


def _conv_graph(side_px: int, num_layers: int) -> bytes:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    dice = np.random.default_rng(0)
    channels = 32
    weights = [dice.normal(0, 0.1, (channels, channels if index else 3, 3, 3)) for index in range(num_layers)]
    base = np.zeros((1, TOP_K, 6), dtype=np.float32)
    base[0, 0] = (10, 5, 200, 100, 0.5, 1)
    gain = np.zeros((1, TOP_K, 6), dtype=np.float32)
    gain[0, 0, 4] = 1e-9
    constants = [numpy_helper.from_array(w.astype(np.float32), f"w{index}") for index, w in enumerate(weights)]
    constants += [
        numpy_helper.from_array(base, "base"),
        numpy_helper.from_array(gain, "gain"),
        numpy_helper.from_array(np.array([1, 2, 3], dtype=np.int64), "axes"),
        numpy_helper.from_array(np.array([-1, 1, 1], dtype=np.int64), "shape"),
    ]
    nodes = [
        helper.make_node("Cast", ["frames"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["x0"], perm=[0, 3, 1, 2]),
    ]
    for index in range(num_layers):
        stride = [2, 2] if index == 0 else [1, 1]
        nodes += [
            helper.make_node("Conv", [f"x{index}", f"w{index}"], [f"c{index}"], pads=[1, 1, 1, 1], strides=stride),
            helper.make_node("Relu", [f"c{index}"], [f"x{index + 1}"]),
        ]
    nodes += [
        helper.make_node("ReduceMean", [f"x{num_layers}", "axes"], ["mean"], keepdims=1),
        helper.make_node("Reshape", ["mean", "shape"], ["column"]),
        helper.make_node("Mul", ["column", "gain"], ["scores"]),
        helper.make_node("Add", ["base", "scores"], ["detections"]),
    ]
    frames = helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", side_px, side_px, 3])
    found = helper.make_tensor_value_info("detections", TensorProto.FLOAT, ["batch", TOP_K, 6])
    graph = helper.make_graph(nodes, "conv", [frames], [found], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return model.SerializeToString()

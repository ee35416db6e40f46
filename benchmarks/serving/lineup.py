"""Which peers there are, what they are sent, and the environments that they need."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.loopback import post
from benchmarks.processes import await_ready, free_port, started
from benchmarks.report import ROOT
from benchmarks.serving.models import Model

ENVIRONMENTS = ROOT / ".venv-peers"
_REQUIREMENTS = Path(__file__).parent / "peers"
_BOUNDARY = "frame-7d93b1"
Way = Literal["default", "mended", "engine"]


def multipart(name: str) -> Callable[[bytes], bytes]:
    """An upload under a field's name."""
    head = (
        f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"; filename="frame.jpg"\r\n'
        "content-type: image/jpeg\r\n\r\n"
    )
    tail = f"\r\n--{_BOUNDARY}--\r\n"
    return lambda body: post(
        "/predict", head.encode() + body + tail.encode(), f"multipart/form-data; boundary={_BOUNDARY}"
    )


def raw(body: bytes) -> bytes:
    """The JPEG as the body."""
    return post("/predict", body, "image/jpeg")


def base64_json(body: bytes) -> bytes:
    """The JPEG as text in JSON."""
    return post("/predict", json.dumps({"image_data": base64.b64encode(body).decode()}).encode(), "application/json")


def open_inference(body: bytes) -> bytes:
    """The JPEG as text in a request of the Open Inference Protocol."""
    data = base64.b64encode(body).decode()
    tensor = {
        "name": "image", "datatype": "BYTES", "shape": [1, 1], "parameters": {"content_type": "base64"}, "data": [data]
    }  # fmt: skip
    return post("/v2/models/yolo/infer", json.dumps({"inputs": [tensor]}).encode(), "application/json")


@dataclass(frozen=True)
class Peer:
    """One way of one framework. `environment` names a folder of `.venv-peers`; None: what serves, serves it too."""

    framework: str
    way: Way
    module: str
    encode: Callable[[bytes], bytes]
    ready: str
    environment: str | None = None
    package: str = ""

    @property
    def name(self) -> str:
        """Framework and way, as in the table."""
        return f"{self.framework}, {'engine file' if self.way == 'engine' else self.way}"

    @property
    def python(self) -> Path:
        """The interpreter that runs it."""
        if self.environment is None:
            return Path(sys.executable)
        return ENVIRONMENTS / self.environment / "bin" / "python"


def _framework(
    name: str,
    module: str,
    ready: str,
    requests: dict[Way, Callable[[bytes], bytes]],
    environment: str | None,
    package: str,
) -> tuple[Peer, ...]:
    return tuple(Peer(name, way, module, encode, ready, environment, package) for way, encode in requests.items())


PEERS = (
    *_framework(
        "FastAPI", "fastapi_ultralytics", "/health", {"default": multipart("image"), "engine": raw}, None, "fastapi"
    ),
    *_framework(
        "LitServe", "litserve_yolo", "/health",
        {"default": base64_json, "engine": multipart("image")}, "frameworks", "litserve",
    ),
    *_framework(
        "BentoML published", "bentoml_published", "/readyz",
        {"default": multipart("image"), "mended": multipart("image"), "engine": multipart("image")}, None, "bentoml",
    ),
    *_framework(
        "BentoML batchable", "bentoml_batchable", "/readyz",
        {"default": multipart("images"), "engine": multipart("images")}, None, "bentoml",
    ),
    *_framework(
        "Ray Serve", "ray_serve_yolo", "/-/healthz", {"default": multipart("image"), "engine": raw}, "frameworks", "ray"
    ),
    *_framework(
        "MLServer", "mlserver_yolo", "/v2/models/yolo/ready",
        {"default": open_inference, "engine": open_inference}, "mlserver", "mlserver",
    ),
)  # fmt: skip
"""All of them, in the order of the table."""


@contextlib.contextmanager
def serving(peer: Peer, model: Model) -> Iterator[int]:
    """Run a peer until the block is left; gives its port once it is ready. Raises RuntimeError if it does not start."""
    assert model.weights is not None
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        home = Path(folder)
        environment = {
            "PEER_PORT": str(port),
            "PEER_WAY": peer.way,
            "PEER_MODEL": str(model.folder),
            "PEER_WEIGHTS": str(model.weights),
            "PEER_SIZE": str(model.side),
            # Nothing may ask the network, or write where a user keeps settings.
            "HOME": folder,
            "YOLO_OFFLINE": "true",
            "YOLO_AUTOINSTALL": "false",
            "YOLO_CONFIG_DIR": folder,
            "BENTOML_DO_NOT_TRACK": "True",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
        }
        module, log = f"benchmarks.serving.peers.{peer.module}", home / "log"
        with started(module, log=log, python=peer.python, environment=environment) as process:
            await_ready(process, log, f"http://127.0.0.1:{port}{peer.ready}", patience_s=180)
            yield port


def missing(peer: Peer) -> str | None:
    """Why a peer cannot run here; None when it can."""
    if not peer.python.is_file():
        return "not installed: python -m benchmarks.serving --install-peers"
    done = subprocess.run(
        [str(peer.python), "-c", f"import {peer.package}"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["import fails"])[-1]


def peer_version(peer: Peer) -> str | None:
    """The version of a peer's framework."""
    code = f"from importlib.metadata import version; print(version({peer.package!r}))"
    done = subprocess.run([str(peer.python), "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    return done.stdout.strip() or None


def install_peers() -> list[str]:
    """Make the environments of the peers, and return what did not install, with its reason.

    Each sees the packages of the one that runs this, and has on top what its requirements name: all of it pinned, so
    that nothing is resolved and nothing of several gigabytes is fetched twice.
    """
    failures = []
    for name in sorted({peer.environment for peer in PEERS if peer.environment}):
        folder, requirements = ENVIRONMENTS / name, _REQUIREMENTS / f"requirements-{name}.txt"
        python = folder / "bin" / "python"
        commands = [
            ["venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)],
            ["pip", "install", "--quiet", "--no-deps", "--python", str(python), "--requirement", str(requirements)],
        ]
        for command in commands:
            done = subprocess.run(
                [str(Path(sys.executable).with_name("uv")), *command], capture_output=True, text=True, check=False
            )
            if done.returncode:
                failures.append(f"{name}: {(done.stderr.strip().splitlines() or ['uv failed'])[-1]}")
                break
        else:
            _share_packages(folder)
    return failures


def _share_packages(folder: Path) -> None:
    ours, theirs = (f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages" for _ in range(2))
    line = f"import site; site.addsitedir({str(Path(sys.prefix) / ours)!r})\n"
    (folder / theirs / "shared.pth").write_text(line, encoding="utf-8")

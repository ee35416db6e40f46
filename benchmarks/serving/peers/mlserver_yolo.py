"""MLServer.

A custom runtime after "Custom Inference Runtimes": images come as base64 in a request of the Open Inference Protocol,
and `decode_args` unpacks them. Default: the settings' own, one worker process and no batches, with `YOLO(...)`.

Engine: batches ("Adaptive Batching"), with the work in a thread, so that the worker takes requests meanwhile.
"""

import asyncio
import json
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any, List  # noqa: UP035  # what decode_args knows

from mlserver import MLModel
from mlserver.cli import main as mlserver_command
from mlserver.codecs import decode_args
from PIL import Image

from benchmarks.serving.peers.common import EngineModel, Setup, UltralyticsModel

MAX_BATCH, MAX_BATCH_TIME_S = 4, 0.005


class YoloRuntime(MLModel):  # type: ignore[misc]  # an optional package
    """Boxes of each image as JSON."""

    async def load(self) -> bool:
        setup = Setup.read()
        self.engine = EngineModel(setup.model_dir) if setup.way == "engine" else None
        self.model = UltralyticsModel(setup.weights, setup.size) if self.engine is None else None
        return True

    @decode_args  # type: ignore[untyped-decorator]
    async def predict(self, image: List[bytes]) -> List[str]:  # noqa: UP006
        if self.engine is not None:
            found = await asyncio.to_thread(self.engine.detect, image)
        else:
            assert self.model is not None
            found = self.model.detect([Image.open(BytesIO(body)).convert("RGB") for body in image])
        return [json.dumps(boxes) for boxes in found]


def main() -> None:
    setup = Setup.read()
    server: dict[str, Any] = {"host": "127.0.0.1", "http_port": setup.port, "grpc_port": 0, "metrics_endpoint": None}
    model: dict[str, Any] = {"name": "yolo", "implementation": "benchmarks.serving.peers.mlserver_yolo.YoloRuntime"}
    if setup.way == "engine":
        model |= {"max_batch_size": MAX_BATCH, "max_batch_time": MAX_BATCH_TIME_S}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "settings.json").write_text(json.dumps(server), encoding="utf-8")
        Path(folder, "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
        sys.argv = ["mlserver", "start", folder]
        mlserver_command()


if __name__ == "__main__":
    main()

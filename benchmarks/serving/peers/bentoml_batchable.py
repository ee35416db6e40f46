"""BentoML with adaptive batching in one service.

After "Adaptive batching": one service, a batchable method over Pillow images. Default: the decorator's own limits.
Engine: batches of at most 4, and one second to wait in, as a limit of 100 ms makes the dispatcher give up frames that
it could have served.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import bentoml
import numpy as np
from PIL import Image as PilImage

from benchmarks.serving.peers.common import EngineModel, Setup, UltralyticsModel

_LIMITS: dict[str, Any] = {"max_batch_size": 4, "max_latency_ms": 1000}
_OPTIONS = _LIMITS if os.environ.get("PEER_WAY") == "engine" else {}


@bentoml.service
class Yolo:
    """Decodes, batches and detects."""

    def __init__(self) -> None:
        setup = Setup.read()
        self.engine = EngineModel(setup.model_dir) if setup.way == "engine" else None
        self.model = UltralyticsModel(setup.weights, setup.size) if self.engine is None else None

    @bentoml.api(batchable=True, **_OPTIONS)  # type: ignore[untyped-decorator]
    def predict(self, images: list[PilImage.Image]) -> list[list[dict[str, Any]]]:
        if self.engine is None:
            assert self.model is not None
            return self.model.detect(images)
        read = [self.engine.letterbox(np.asarray(image.convert("RGB"))) for image in images]
        found = self.engine.infer(np.stack([frame for frame, _ in read]))
        return [self.engine.boxes(one, geometry) for one, (_, geometry) in zip(found, read, strict=True)]


def main() -> None:
    command = ["-m", "bentoml", "serve", "benchmarks.serving.peers.bentoml_batchable:Yolo", "--host", "127.0.0.1"]
    os.execv(sys.executable, [sys.executable, *command, "--port", str(Setup.read().port)])


if __name__ == "__main__":
    main()

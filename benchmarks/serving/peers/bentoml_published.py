"""BentoML's published YOLO example.

The shape of the repository BentoYolo: a service with a batchable method over paths of image files, and in front of it a
service that takes one upload and calls it through `bentoml.depends()`. Only its request for a GPU is left out.

Default: as published. Mended: the proxy behind `depends()` closes its session every 100 requests, and with it the calls
under way, which then answer 500; `runner_connection` of the service that is called makes it last. Engine: mended, on
the engine file.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import bentoml

from benchmarks.serving.peers.common import EngineModel, Setup, UltralyticsModel

_LASTING = {"runner_connection": {"max_requests": 1_000_000_000, "max_age": 1_000_000.0}}
_OPTIONS: dict[str, Any] = {} if os.environ.get("PEER_WAY") == "default" else _LASTING


@bentoml.service(**_OPTIONS)
class YoloService:
    """Runs the model."""

    def __init__(self) -> None:
        setup = Setup.read()
        self.engine = EngineModel(setup.model_dir) if setup.way == "engine" else None
        self.model = UltralyticsModel(setup.weights, setup.size) if self.engine is None else None

    @bentoml.api(batchable=True)  # type: ignore[untyped-decorator]
    def predict(self, images: list[Path]) -> list[list[dict[str, Any]]]:
        if self.engine is not None:
            return self.engine.detect([path.read_bytes() for path in images])
        assert self.model is not None
        return self.model.detect([str(path) for path in images])


@bentoml.service
class Yolo:
    """Takes uploads."""

    yolo = bentoml.depends(YoloService)

    @bentoml.api  # type: ignore[untyped-decorator]
    def predict(self, image: Path) -> dict[str, Any]:
        return {"detections": self.yolo.predict([image])[0]}


def main() -> None:
    command = ["-m", "bentoml", "serve", "benchmarks.serving.peers.bentoml_published:Yolo", "--host", "127.0.0.1"]
    os.execv(sys.executable, [sys.executable, *command, "--port", str(Setup.read().port)])


if __name__ == "__main__":
    main()

"""Ray Serve.

Default: a FastAPI ingress that hands the image to a second deployment with the model, after "Building a Real-time
Object Detection Service with Ray Serve", which uses Ultralytics too; the image comes with the request instead of as an
address.

Engine: one deployment, decoding in threads, and `@serve.batch` in front of the engine ("Dynamic Request Batching",
"Performance Tuning").
"""

import asyncio
import shutil
import signal
import tempfile
from io import BytesIO
from typing import Any

import numpy as np
import ray
from fastapi import FastAPI, UploadFile
from PIL import Image
from ray import serve
from starlette.requests import Request

from benchmarks.serving.peers.common import EngineModel, Setup, UltralyticsModel

MAX_BATCH, BATCH_WAIT_S, MAX_ONGOING = 4, 0.005, 64
_OBJECT_STORE_BYTES = 200_000_000
_NUM_CPUS = 2  # one for each deployment of the default; what the rest takes does not count
api = FastAPI()


@serve.deployment
@serve.ingress(api)
class ApiIngress:
    """Takes uploads."""

    def __init__(self, detection: Any) -> None:
        self.detection = detection

    @api.post("/predict")
    async def predict(self, image: UploadFile) -> dict[str, Any]:
        return {"detections": await self.detection.detect.remote(await image.read())}


@serve.deployment
class ObjectDetection:
    """Runs the checkpoint, one image at a time."""

    def __init__(self) -> None:
        setup = Setup.read()
        self.model = UltralyticsModel(setup.weights, setup.size)

    def detect(self, body: bytes) -> Any:
        return self.model.detect([Image.open(BytesIO(body)).convert("RGB")])[0]


@serve.deployment(max_ongoing_requests=MAX_ONGOING)
class EngineDetection:
    """Runs the engine file on batches."""

    def __init__(self) -> None:
        self.model = EngineModel(Setup.read().model_dir)

    async def __call__(self, request: Request) -> dict[str, Any]:
        frame, geometry = await asyncio.to_thread(self.model.read, await request.body())
        return {"detections": self.model.boxes(await self.infer(frame), geometry)}

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WAIT_S)  # type: ignore[untyped-decorator]
    async def infer(self, frames: list[Any]) -> list[Any]:
        return list(await asyncio.to_thread(self.model.infer, np.stack(frames)))


def main() -> None:
    setup = Setup.read()
    folder = tempfile.mkdtemp(prefix="ray-")  # the paths of its sockets must be short
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        ray.init(
            address="local", num_cpus=_NUM_CPUS, include_dashboard=False, object_store_memory=_OBJECT_STORE_BYTES,
            _temp_dir=folder,
        )  # fmt: skip
        serve.start(http_options={"host": "127.0.0.1", "port": setup.port})
        if setup.way == "default":
            app = ApiIngress.bind(ObjectDetection.bind())  # type: ignore[attr-defined]
        else:
            app = EngineDetection.bind()  # type: ignore[attr-defined]
        serve.run(app, route_prefix="/predict" if setup.way == "engine" else "/")
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

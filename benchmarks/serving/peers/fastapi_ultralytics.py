"""FastAPI.

Default: an uploaded file, Pillow, `YOLO(...)` in an `async def` endpoint, after Ultralytics' guide "Deploy a pretrained
YOLO model with Ultralytics on Vertex AI for inference" and FastAPI's "Request Files". The guide sends base64 in JSON;
the upload is the lighter of the two. Only one prediction runs at a time, as "Thread-Safe Inference with YOLO Models"
asks.

Engine: the raw body, and all of the work in the thread pool ("Concurrency and async / await"), each thread with an
inference request of its own.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from PIL import Image

from benchmarks.serving.peers.common import EngineModel, Setup, UltralyticsModel


def default_app(setup: Setup) -> FastAPI:
    app, model = FastAPI(), UltralyticsModel(setup.weights, setup.size)

    @app.post("/predict")
    async def predict(image: UploadFile) -> dict[str, Any]:
        picture = Image.open(BytesIO(await image.read())).convert("RGB")
        return {"detections": model.detect([picture])[0]}

    return app


def engine_app(setup: Setup) -> FastAPI:
    app, model = FastAPI(), EngineModel(setup.model_dir)

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        return {"detections": (await run_in_threadpool(model.detect, [await request.body()]))[0]}

    return app


def main() -> None:
    setup = Setup.read()
    app = default_app(setup) if setup.way == "default" else engine_app(setup)
    app.get("/health")(lambda: {"status": "healthy"})
    uvicorn.run(app, host="127.0.0.1", port=setup.port, access_log=setup.way == "default")


if __name__ == "__main__":
    main()

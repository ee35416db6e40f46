"""LitServe.

Default: base64 in JSON, Pillow, one request after the other in one worker process, after LitServe's "LitAPI" and the
first server of "Speed up serving by 200x", with `YOLO(...)` for the model.

Engine: an uploaded file, batches ("Batching"), two worker processes, one for each core of the machine that the figures
are from, and the ZeroMQ queue ("fast_queue").
"""

import base64
from io import BytesIO
from typing import Any

import litserve
import numpy as np
from fastapi import Request  # LitServe looks at the annotation itself, so it must not be a string
from PIL import Image

from benchmarks.serving.peers.common import EngineModel, Setup, UltralyticsModel

MAX_BATCH, BATCH_TIMEOUT_S, NUM_WORKERS = 4, 0.005, 2


class DefaultApi(litserve.LitAPI):  # type: ignore[misc]  # an optional package
    """One image at a time."""

    def setup(self, device: str) -> None:
        setup = Setup.read()
        self.model = UltralyticsModel(setup.weights, setup.size)

    def decode_request(self, request: Request) -> Image.Image:
        return Image.open(BytesIO(base64.b64decode(request["image_data"]))).convert("RGB")

    def predict(self, image: Image.Image) -> Any:
        return self.model.detect([image])[0]

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"detections": output}


class EngineApi(litserve.LitAPI):  # type: ignore[misc]
    """Batches of decoded frames."""

    def setup(self, device: str) -> None:
        self.model = EngineModel(Setup.read().model_dir)

    def decode_request(self, request: Request) -> Any:
        return self.model.read(request["image"].file.read())

    def batch(self, inputs: list[Any]) -> Any:
        return np.stack([frame for frame, _ in inputs]), [geometry for _, geometry in inputs]

    def predict(self, batch: Any) -> Any:
        frames, geometries = batch
        found = self.model.infer(frames)
        return [self.model.boxes(one, geometry) for one, geometry in zip(found, geometries, strict=True)]

    def unbatch(self, output: Any) -> Any:
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"detections": output}


def main() -> None:
    setup = Setup.read()
    if setup.way == "default":
        server = litserve.LitServer(DefaultApi(), accelerator="cpu")
    else:
        api = EngineApi(max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT_S)
        server = litserve.LitServer(api, accelerator="cpu", workers_per_device=NUM_WORKERS, fast_queue=True)
    server.run(host="127.0.0.1", port=setup.port, generate_client_file=False)


if __name__ == "__main__":
    main()

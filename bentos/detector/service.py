"""The BentoML service: it starts, watches and stops the detector, and gives health, metrics and schema.

Frames do not pass BentoML's middleware (see `front_door`). One worker owns the engine: several would only divide the
batches. Tracing and the access log of what does pass are off; a file named by BENTOML_CONFIG switches them on.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from http import HTTPStatus
from typing import Annotated, Any

import bentoml
from bentoml._internal.context import server_context
from bentoml.exceptions import BentoMLException
from bentoml.validators import ContentType

from bentos.detector import telemetry
from bentos.detector.app import DetectApp, Runtime, answer_content
from bentos.detector.batcher import Batcher
from bentos.detector.contract import DetectAnswer
from bentos.detector.detector import Detector as LoadedDetector
from bentos.detector.detector import check_model
from bentos.detector.drill import parse_drill
from bentos.detector.errors import DetectorError
from bentos.detector.front_door import FrontDoor
from bentos.detector.recorder import Recorder
from bentos.detector.request import request_id_of
from bentos.detector.settings import Settings, read_settings

logger = logging.getLogger("bentos.detector")

# In a worker, not in the process that watches over it.
metrics_folder = telemetry.isolate_metrics() if server_context.worker_index is not None else None
app = DetectApp()


class FrontDoorService(bentoml.Service[Any]):  # type: ignore[misc]  # BentoML loads its names late, untyped
    """A BentoML service whose frames go straight to `app`."""

    def to_asgi(self, is_main: bool = True) -> FrontDoor:
        """BentoML's application behind the front door."""
        return FrontDoor(super().to_asgi(is_main), app)


@bentoml.service(
    name="detector",
    service_class=FrontDoorService,
    workers=1,
    traffic={"timeout": 30},
    metrics={"enabled": True, "duration": {"buckets": list(telemetry.BUCKETS_S)}},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": [".*"]},
)
class Detector:
    """Vehicle detection on traffic cameras. POST /v1/detect takes the bytes of a JPEG, PNG or WebP image."""

    def __init__(self) -> None:
        self.runtime = start_runtime(read_settings())
        app.runtime = self.runtime

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def check() -> None:
        """Before any worker starts: refuse a model that cannot be served, once and with its reason."""
        settings = read_settings()
        parse_drill(settings.drill)
        check_model(settings.model_dir)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """Finish what is under way, then give the engine back."""
        app.runtime = None
        stop_runtime(self.runtime, read_settings().drain_s)
        if metrics_folder is not None:
            shutil.rmtree(metrics_folder, ignore_errors=True)

    @bentoml.api(route="/detect")  # type: ignore[untyped-decorator]
    async def detect(self, image: Annotated[bytes, ContentType("image/jpeg")], /, ctx: bentoml.Context) -> DetectAnswer:
        """The same for clients made from the schema, at the model's own thresholds; /v1/detect is the faster path."""
        received_s = time.perf_counter()
        try:
            outcome = await asyncio.wrap_future(self.runtime.batcher.submit(image, self.runtime.spec.thresholds))
        except DetectorError as error:
            self.runtime.telemetry.failed(error.code)
            raise BentoMLException(error.message, error_code=HTTPStatus(error.status)) from None
        request_id = request_id_of(ctx.request.headers)
        return DetectAnswer.model_validate(answer_content(self.runtime, outcome.detections, received_s, request_id))

    async def __is_ready__(self) -> bool:
        """Whether the model is loaded and warm, and the service is not stopping."""
        return app.runtime is not None


def start_runtime(settings: Settings) -> Runtime:
    """Load and warm the model, and start what serves it.

    Raises:
        LoadError: The model or a setting cannot be served.
    """
    drill = parse_drill(settings.drill)
    detector = LoadedDetector.load(
        settings.model_dir, num_threads=settings.num_threads, hint=settings.hint, max_pixels=settings.max_pixels
    )
    detector.warm_up(settings.max_batch)
    model_version = settings.model_version or detector.spec.digest[:12]
    figures = telemetry.Telemetry(model_version)
    batcher = Batcher(
        detector,
        max_batch=settings.max_batch,
        num_decoders=settings.num_decoders,
        max_queue=settings.max_queue,
        max_wait_ms=settings.max_wait_ms,
        on_batch=figures.batched,
    )
    recorder = Recorder(settings.record_dir) if settings.record_dir is not None else None
    logger.info("model %s version %s is loaded and warm", detector.spec.name, model_version)
    return Runtime(
        detector, batcher, figures, model_version, settings.max_body_bytes, settings.body_timeout_s, recorder, drill
    )


def stop_runtime(runtime: Runtime, drain_s: float) -> None:
    """Drain, then stop threads and engine."""
    if not runtime.batcher.close(drain_s):
        logger.warning("frames were still under way after %g s", drain_s)
    if runtime.recorder is not None:
        runtime.recorder.close()
    runtime.detector.close()

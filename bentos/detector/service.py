"""The BentoML service: the hot path mounted as an ASGI app, beside what BentoML gives (health, metrics, schema).

Tracing and the access log are off because each costs more than the rest of a request; a file named by BENTOML_CONFIG
switches them on again. One worker owns the engine: several would only divide the batches.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Annotated

import bentoml
from bentoml._internal.context import server_context
from bentoml.exceptions import BentoMLException
from bentoml.validators import ContentType

from bentos.detector import telemetry
from bentos.detector.app import DetectApp, Runtime, detect_content
from bentos.detector.batcher import Batcher
from bentos.detector.contract import DetectAnswer
from bentos.detector.detector import Detector as LoadedDetector
from bentos.detector.detector import check_model
from bentos.detector.drill import parse_drill
from bentos.detector.errors import DetectorError
from bentos.detector.recorder import Recorder
from bentos.detector.settings import Settings, read_settings

logger = logging.getLogger("bentos.detector")

if server_context.worker_index is not None:  # in a worker, not in the process that watches over it
    telemetry.isolate_metrics()

app = DetectApp()


@bentoml.service(
    name="detector",
    workers=1,
    traffic={"timeout": 30},
    metrics={"enabled": True, "duration": {"buckets": list(telemetry.BUCKETS_S)}},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": [".*"]},
)
@bentoml.asgi_app(app, path="/v1", name="v1")
class Detector:
    """Vehicle detection on traffic cameras. POST /v1/detect takes the bytes of a JPEG, PNG or WebP image."""

    def __init__(self) -> None:
        self.runtime = start_runtime(read_settings())
        app.runtime = self.runtime

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Before any worker starts: refuse a model that cannot be served, once and with its reason."""
        settings = read_settings()
        parse_drill(settings.drill)
        check_model(settings.model_dir)

    @bentoml.on_shutdown
    def stop(self) -> None:
        """Finish what is under way, then give the engine back."""
        app.runtime = None
        stop_runtime(self.runtime, read_settings().drain_s)

    @bentoml.api(route="/detect")
    async def detect(self, image: Annotated[bytes, ContentType("image/jpeg")], /) -> DetectAnswer:
        """The same for clients made from the schema, at the model's own thresholds; /v1/detect is the faster path."""
        try:
            future = self.runtime.batcher.submit(image, self.runtime.spec.thresholds)
            outcome = await asyncio.wrap_future(future)
        except DetectorError as error:
            raise BentoMLException(error.message, error_code=HTTPStatus(error.status)) from None
        timing_ms = outcome.detections.timing_ms
        timing_ms = {**timing_ms, "total": sum(timing_ms.values())}
        return DetectAnswer.model_validate(detect_content(self.runtime, outcome.detections, timing_ms, "typed"))

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
    return Runtime(detector, batcher, figures, model_version, settings.max_body_bytes, recorder, drill)


def stop_runtime(runtime: Runtime, drain_s: float) -> None:
    """Drain, then stop threads and engine."""
    if not runtime.batcher.close(drain_s):
        logger.warning("frames were still under way after %g s", drain_s)
    if runtime.recorder is not None:
        runtime.recorder.close()
    runtime.detector.close()

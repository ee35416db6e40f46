"""The BentoML service: it starts, watches and stops the detector, and gives health, metrics and schema.

Frames do not pass BentoML's middleware (see `front_door`). One worker owns the engine: several would only divide the
batches. Tracing and the access log of what does pass are off; a file named by BENTOML_CONFIG switches them on.
"""

from __future__ import annotations

import asyncio
import shutil
from typing import Annotated, Any

import bentoml
from bentoml._internal.context import server_context
from bentoml.validators import ContentType
from starlette.responses import Response

from bentos.detector import telemetry, wire
from bentos.detector.answers import error_answer
from bentos.detector.app import DetectApp, frame_answer
from bentos.detector.contract import DetectAnswer
from bentos.detector.detector import check_model
from bentos.detector.errors import DetectorError
from bentos.detector.front_door import FrontDoor
from bentos.detector.logs import RequestLog, Visit, configure_logs, request_id_now
from bentos.detector.runtime import check_settings, open_access, start_runtime, stop_runtime
from bentos.detector.settings import read_settings

# In a worker, not in the process that watches over it.
metrics_folder = telemetry.isolate_metrics() if server_context.worker_index is not None else None
if server_context.worker_index is not None:
    wire.install()
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
        settings = read_settings()
        configure_logs(settings.log)
        app.log = RequestLog(access=settings.access_log, slow_ms=settings.slow_ms)
        app.access = open_access(settings)
        self.runtime = start_runtime(settings)
        app.log.model_version = self.runtime.model_version
        app.runtime = self.runtime

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def check() -> None:
        """Before any worker starts: refuse what cannot be served, once and with its reason."""
        settings = read_settings()
        configure_logs(settings.log)
        check_settings(settings)
        check_model(settings.model_dir)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """Finish what is under way, then give the engine back."""
        app.runtime = None
        stop_runtime(self.runtime, read_settings().drain_s)
        if metrics_folder is not None:
            shutil.rmtree(metrics_folder, ignore_errors=True)

    @bentoml.api(route="/detect")  # type: ignore[untyped-decorator]
    async def detect(self, image: Annotated[bytes, ContentType("image/jpeg")], /) -> DetectAnswer:
        """The same for clients made from the schema, at the model's own thresholds; /v1/detect is the faster path."""
        visit = Visit(request_id_now.get(), "POST", "/detect", num_bytes=len(image))
        visit.received_s = visit.began_s
        try:
            found = await self.runtime.inference.run(image, self.runtime.spec.thresholds)
        except DetectorError as error:
            self.runtime.telemetry.failed(error.code, error.status)
            app.log.answered(visit, error.status, error.code, error.message)
            # Raised, it would be a traceback in the log, and BentoML's own form of an error.
            refusal, request_id = error_answer(error, visit.request_id), {"x-request-id": visit.request_id}
            return Response(refusal.body, refusal.status, {**refusal.headers, **request_id}, refusal.media)  # type: ignore[return-value]
        return DetectAnswer.model_validate_json(frame_answer(self.runtime, found, visit).body)

    async def __is_ready__(self) -> bool:
        """Whether the model is loaded and warm, the service is not stopping, and the engine does not rest."""
        return app.runtime is not None and app.runtime.is_ready

    async def __is_alive__(self) -> bool:
        """Whether waiting may help: False once the engine hangs, so that whoever watches over this process ends it."""
        return not self.runtime.inference.is_stuck(asyncio.get_running_loop().time())

    async def __metrics__(self, content: str) -> str:
        """BentoML's figures, and the detector's."""
        return content if app.runtime is None else content + app.runtime.metrics()

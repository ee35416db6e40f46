"""The HTTP face: a raw ASGI app for the hot path, so that a request costs little beyond its inference."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np
import orjson

from bentos.detector.batcher import Batcher, Outcome
from bentos.detector.contract import ModelSpec
from bentos.detector.detector import Detections, Detector
from bentos.detector.drill import Drill
from bentos.detector.errors import ClientGone, DetectorError, MethodNotAllowed, NotFound, NotReady, Overloaded
from bentos.detector.recorder import Recorder, describe
from bentos.detector.request import (
    FORM_TYPE,
    Receive,
    Scope,
    Send,
    camera_id_of,
    form_image,
    read_body,
    read_headers,
    read_query,
    request_id_of,
    require_media,
)
from bentos.detector.telemetry import Telemetry

logger = logging.getLogger("bentos.detector")

Headers = dict[str, str]
Reply = dict[str, Any]


@dataclass(frozen=True)
class Runtime:
    """Everything that an answer needs, made once the model is loaded and warm."""

    detector: Detector
    batcher: Batcher
    telemetry: Telemetry
    model_version: str
    max_body_bytes: int = 20_000_000
    body_timeout_s: float = 15.0
    recorder: Recorder | None = None
    drill: Drill | None = None

    @property
    def spec(self) -> ModelSpec:
        """The served model."""
        return self.detector.spec

    @property
    def model_ref(self) -> dict[str, str]:
        """What every answer says about the model."""
        return {"name": self.spec.name, "version": self.model_version, "digest": self.spec.digest}


@dataclass(frozen=True)
class Request:
    """What arrived, before its body."""

    scope: Scope
    receive: Receive
    headers: Headers
    request_id: str


Handler = Callable[[Runtime, Request], Awaitable[Reply]]


class DetectApp:
    """POST /v1/detect and GET /v1/model; everything else, and whatever goes wrong, gets the error envelope.

    Set `runtime` when the model is warm, and to None when the service stops: without it the answer is 503.
    """

    def __init__(self) -> None:
        self.runtime: Runtime | None = None
        self._routes: dict[str, tuple[str, Handler]] = {
            "/v1/detect": ("POST", self._detect),
            "/v1/model": ("GET", self._model),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = read_headers(scope)
        request = Request(scope, receive, headers, request_id_of(headers))
        try:
            content = await self._answer(request)
        except DetectorError as error:
            await self.refuse(send, error, request.request_id)
        except Exception:
            logger.exception("request %s failed", request.request_id)
            message = f"the service failed; its log has the reason under {request.request_id}"
            await self.refuse(send, DetectorError(message), request.request_id)
        else:
            await _send_json(send, HTTPStatus.OK, content, {"x-request-id": request.request_id})

    async def refuse(self, send: Send, error: DetectorError, request_id: str) -> None:
        """Count the error, and answer with its envelope."""
        if self.runtime is not None:
            self.runtime.telemetry.failed(error.code)
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.warning("request %s: %s: %s", request_id, error.code, error.message)
        headers = {"x-request-id": request_id}
        if isinstance(error, Overloaded):
            headers["retry-after"] = str(error.retry_after_s)
        if isinstance(error, MethodNotAllowed):
            headers["allow"] = str(error.details["allow"])
        body = {"code": error.code, "message": error.message, "request_id": request_id, "details": error.details}
        await _send_json(send, error.status, {"error": body}, headers)

    async def _answer(self, request: Request) -> Reply:
        path, asked = request.scope["path"], request.scope["method"]
        method, handler = self._routes.get(path, ("", None))
        if handler is None:
            raise NotFound(f"nothing is at {path[:100]!r}; there are {', '.join(self._routes)}")
        if asked != method:
            raise MethodNotAllowed(f"{path} takes {method}, not {asked[:20]}", allow=method)
        if self.runtime is None:
            raise NotReady("the model is not loaded; wait until /readyz answers 200")
        return await handler(self.runtime, request)

    async def _model(self, runtime: Runtime, request: Request) -> Reply:
        return {**runtime.spec.model_dump(mode="json"), "version": runtime.model_version}

    async def _detect(self, runtime: Runtime, request: Request) -> Reply:
        media = require_media(request.headers)
        camera = camera_id_of(request.headers)
        given = read_query(request.scope["query_string"])
        thresholds = runtime.detector.thresholds(conf=given.conf, iou=given.iou, max_det=given.max_det)
        data = await read_body(request.headers, request.receive, runtime.max_body_bytes, runtime.body_timeout_s)
        received_s = time.perf_counter()
        if media == FORM_TYPE:
            data = form_image(data, request.headers["content-type"])
        wants_features = runtime.recorder is not None and runtime.recorder.wants(camera, time.monotonic())
        future = runtime.batcher.submit(data, thresholds, wants_features=wants_features)
        outcome = await _unless_gone(asyncio.wrap_future(future), request.receive)
        if runtime.drill is not None:
            await runtime.drill.act()
        _record(runtime, outcome, camera)
        return answer_content(runtime, outcome.detections, received_s, request.request_id)


def answer_content(runtime: Runtime, found: Detections, received_s: float, request_id: str) -> dict[str, Any]:
    """Count the answer, and return the content of a `DetectAnswer` as plain values: building the model would cost more
    than the rest of the answer. `received_s`: perf_counter() at the last byte of the body.
    """
    timing_ms = {**found.timing_ms, "total": (time.perf_counter() - received_s) * 1000}
    runtime.telemetry.answered(timing_ms, len(found.scores))
    classes = runtime.spec.classes
    boxes = found.boxes_xyxy.astype(np.float64).round(2).tolist()
    scores = found.scores.astype(np.float64).round(5).tolist()
    return {
        "request_id": request_id,
        "model": runtime.model_ref,
        "image": {"width": found.size_wh[0], "height": found.size_wh[1]},
        "detections": [
            {
                "class_id": class_id,
                "class_name": classes[class_id],
                "confidence": score,
                "box": dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)),
            }
            for class_id, score, box in zip(found.class_ids.tolist(), scores, boxes, strict=True)
        ],
        "timing_ms": {stage: round(value, 3) for stage, value in timing_ms.items()},
    }


async def _unless_gone(outcome: asyncio.Future[Outcome], receive: Receive) -> Outcome:
    """Await the outcome, but cancel it as soon as the client closes the connection. Raises ClientGone."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        outcome.cancel()

    watcher = asyncio.ensure_future(watch())
    try:
        return await outcome
    except asyncio.CancelledError:
        if watcher.done():
            raise ClientGone("the client left before its answer") from None
        raise
    finally:
        watcher.cancel()


def _record(runtime: Runtime, outcome: Outcome, camera: str) -> None:
    if runtime.recorder is None or outcome.features is None:
        return
    runtime.recorder.record(
        describe(
            outcome.detections,
            outcome.features,
            camera=camera,
            model_version=runtime.model_version,
            classes=runtime.spec.classes,
            time_s=time.time(),
        )
    )


async def _send_json(send: Send, status: int, content: dict[str, Any], headers: Headers) -> None:
    body = orjson.dumps(content)
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    raw += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})

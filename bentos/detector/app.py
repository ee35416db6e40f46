"""The HTTP face: a raw ASGI app for the hot path, so that a request costs little beyond its inference."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

import orjson

from bentos.detector.access import Access
from bentos.detector.answers import Answer, detect_content, error_answer, send_answer
from bentos.detector.contract import Thresholds
from bentos.detector.errors import DetectorError, MethodNotAllowed, NotFound, NotReady
from bentos.detector.inference import Found
from bentos.detector.keys import Role
from bentos.detector.logs import RequestLog, Visit, request_id_now
from bentos.detector.openapi import openapi_document
from bentos.detector.page import HEADERS as PAGE_HEADERS
from bentos.detector.page import HTML
from bentos.detector.recorder import describe
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
from bentos.detector.runtime import Runtime

logger = logging.getLogger("bentos.detector")

Headers = dict[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """What arrived, before its body."""

    scope: Scope
    receive: Receive
    headers: Headers
    visit: Visit


@dataclass(frozen=True)
class _Route:
    method: str
    roles: tuple[Role, ...]
    handler: Callable[[Request], Awaitable[Answer]]

    @property
    def methods(self) -> tuple[str, ...]:
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)


def open_request(scope: Scope, receive: Receive) -> Request:
    """Read the head of a request, and let every log line of this task bear its id."""
    headers = read_headers(scope)
    visit = Visit(request_id_of(headers), scope["method"], scope["path"])
    request_id_now.set(visit.request_id)
    return Request(scope, receive, headers, visit)


class DetectApp:
    """Frames, the model, the page and the document; everything else, and whatever goes wrong, gets the error envelope.

    Set `runtime` when the model is warm, and to None when the service stops: without it the answer is 503. `access`
    says who may ask, and `log` has a line for whom it concerns.
    """

    def __init__(self) -> None:
        self.runtime: Runtime | None = None
        self.access = Access()
        self.log = RequestLog()
        self._routes = {
            "/v1/detect": _Route("POST", ("detect",), self._detect),
            "/v1/model": _Route("GET", ("detect", "operate"), self._model),
            "/ui": _Route("GET", (), self._page),
            "/openapi.json": _Route("GET", (), self._document),
        }
        self._documents: dict[str, bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = open_request(scope, receive)
        try:
            answer = await self._answer(request)
        except DetectorError as error:
            await self.refuse(send, error, request)
        except Exception:
            logger.exception("a request failed for a reason that nobody foresaw")
            message = f"the service failed; its log has the reason under {request.visit.request_id}"
            await self.refuse(send, DetectorError(message), request)
        else:
            await send_answer(send, scope, answer, request.visit.request_id)
            self._note(request, answer, "ok")

    async def refuse(self, send: Send, error: DetectorError, request: Request) -> None:
        """Count the error, and answer with its envelope."""
        if self.runtime is not None:
            self.runtime.telemetry.failed(error.code, error.status)
        answer = error_answer(error, request.visit.request_id)
        await send_answer(send, request.scope, answer, request.visit.request_id)
        self._note(request, answer, error.code, error.message)

    def admit(self, request: Request, roles: tuple[Role, ...]) -> None:
        """Let a request in, by its headers. Raises what `Access.admit` raises."""
        if roles and not self.access.is_open:
            client = request.scope.get("client")
            request.visit.key_name = self.access.admit(roles, request.headers, client[0] if client else "")

    def _note(self, request: Request, answer: Answer, code: str, message: str = "") -> None:
        self.log.answered(request.visit, answer.status, code, message)
        runtime = self.runtime
        if runtime is not None and runtime.tracing is not None:
            version = runtime.model_version
            runtime.tracing.record(
                request.visit,
                request.headers,
                answer.status,
                code,
                model_version=version,
                timing_ms=answer.timing_ms,
            )

    async def _answer(self, request: Request) -> Answer:
        path, asked = request.scope["path"], request.scope["method"]
        route = self._routes.get(path)
        if route is None:
            raise NotFound(f"nothing is at {path[:100]!r}; there are {', '.join(self._routes)}")
        if asked not in route.methods:
            allowed = ", ".join(route.methods)
            raise MethodNotAllowed(f"{path} takes {allowed}, not {asked[:20]}", allow=allowed)
        self.admit(request, route.roles)
        return await route.handler(request)

    def require_runtime(self) -> Runtime:
        """What serves. Raises NotReady."""
        if self.runtime is None:
            raise NotReady("the model is not loaded; wait until /readyz answers 200")
        return self.runtime

    async def _page(self, request: Request) -> Answer:
        headers = {name.lower(): value for name, value in PAGE_HEADERS.items()}
        media = headers.pop("content-type", "text/html; charset=utf-8")
        return Answer(HTML, headers=headers, media=media)

    async def _document(self, request: Request) -> Answer:
        """Made once a model, since whoever asks needs no key."""
        spec = self.runtime.spec if self.runtime is not None else None
        digest = spec.digest if spec is not None else ""
        if digest not in self._documents:
            document = openapi_document(spec, keys_required=self.access.needs_keys)
            self._documents[digest] = orjson.dumps(document)
        return Answer(self._documents[digest])

    async def _model(self, request: Request) -> Answer:
        runtime = self.require_runtime()
        return Answer(orjson.dumps({**runtime.spec.model_dump(mode="json"), "version": runtime.model_version}))

    async def _detect(self, request: Request) -> Answer:
        runtime, visit = self.require_runtime(), request.visit
        media = require_media(request.headers)
        camera = camera_id_of(request.headers)
        thresholds = _thresholds(runtime, request.scope["query_string"])
        data = await read_body(request.headers, request.receive, runtime.max_body_bytes, runtime.body_timeout_s)
        visit.received_s = time.perf_counter()
        visit.num_bytes = len(data)
        if media == FORM_TYPE:
            data = form_image(data, request.headers["content-type"])
        found = await runtime.inference.run(data, thresholds, request.receive, lambda: _wants(runtime, camera))
        if runtime.drill is not None:
            await runtime.drill.act()
        _record(runtime, found, camera)
        return frame_answer(runtime, found, visit)


def _thresholds(runtime: Runtime, query: bytes) -> Thresholds:
    if not query:
        return runtime.spec.thresholds
    given = read_query(query)
    return runtime.detector.thresholds(conf=given.conf, iou=given.iou, max_det=given.max_det)


def frame_answer(runtime: Runtime, found: Found, visit: Visit) -> Answer:
    """Count what was found, and put it into an answer. A hit went through no stage, and says none of its spans."""
    detections = found.detections
    timing_ms = {**detections.timing_ms, "total": (time.perf_counter() - visit.received_s) * 1000}
    cached = found.cache == "hit"
    runtime.telemetry.answered(timing_ms, len(detections.scores), cached=cached)
    content = detect_content(detections, timing_ms, visit.request_id, runtime.model_ref, runtime.spec.classes)
    return Answer(
        orjson.dumps(content),
        HTTPStatus.OK,
        {"x-cache": found.cache} if found.cache else {},
        timing_ms=None if cached else timing_ms,
    )


def _wants(runtime: Runtime, camera: str) -> bool:
    return runtime.recorder is not None and runtime.recorder.wants(camera, time.monotonic())


def _record(runtime: Runtime, found: Found, camera: str) -> None:
    if runtime.recorder is None or found.features is None:
        return
    runtime.recorder.record(
        describe(
            found.detections,
            found.features,
            camera=camera,
            model_version=runtime.model_version,
            classes=runtime.spec.classes,
            time_s=time.time(),
        )
    )

"""The OpenAPI 3.1 document of the HTTP face: schemas from the contract and errors from their tree, so it cannot drift.

It names what the detector promises. BentoML's own `/detect`, `/schema.json` and pages are there too, and no part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

from pydantic.json_schema import models_json_schema

from bentos.detector.contract import (
    Box,
    DetectAnswer,
    Detection,
    ErrorAnswer,
    ErrorBody,
    ImageSize,
    ModelAnswer,
    ModelRef,
    ModelSpec,
    TimingMs,
)
from bentos.detector.errors import (
    ClientGone,
    DetectorError,
    Forbidden,
    HeadersTooLarge,
    HeaderTimeout,
    MethodNotAllowed,
    NotFound,
    NotReady,
    RateLimited,
    RequestError,
    ServiceError,
    Unauthorized,
)
from bentos.detector.request import CAMERA_ID_PATTERN, FORM_FIELD, FORM_TYPE, IMAGE_TYPES

Node = dict[str, Any]

_RETRY_LATER = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_ANYWHERE = (MethodNotAllowed, HeaderTimeout, HeadersTooLarge)
_KEYED = (*_ANYWHERE, Unauthorized, Forbidden, RateLimited)
_EXAMPLE_ID = "3f1c9a2e5b7d4c60"
_ABOUT = """Vehicle detection on traffic cameras: a picture in, boxes out.

Boxes are in pixels of the picture that was sent, as a viewer shows it (EXIF orientation applied). Every answer bears
`X-Request-ID`; every answer that is not 200 has the envelope `ErrorAnswer`, whose codes never change their meaning."""


def openapi_document(spec: ModelSpec | None = None, *, version: str = "1", keys_required: bool = False) -> Node:
    """The document as plain values, ready for JSON.

    Args:
        spec: The served model, for the limits that depend on it; without it these are the contract's widest.
        version: Shown as the version of the API's description.
        keys_required: Whether the service has keys; without them nobody is asked for one.
    """
    names = "bearer", "api_key"
    security: list[Node] = [{name: []} for name in names]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Detector",
            "version": version,
            "description": _ABOUT,
            "license": {"name": "AGPL-3.0-only", "identifier": "AGPL-3.0-only"},
        },
        "servers": [{"url": "/"}],
        "security": security if keys_required else [{}, *security],
        "tags": [{"name": "detection"}, {"name": "operation"}],
        "paths": {
            "/v1/detect": {"post": _detect(spec)},
            "/v1/model": {"get": _model()},
            "/livez": {"get": _health("livez", "Whether the process lives.")},
            "/readyz": {"get": _health("readyz", "Whether a frame would be answered now.")},
            "/metrics": {"get": _page("metrics", "Figures for Prometheus.", "text/plain", _KEYED)},
            "/ui": {"get": _open(_page("ui", "A page to try the detector in a browser.", "text/html"))},
            "/openapi.json": {"get": _open(_page("openapi", "This document.", "application/json"))},
        },
        "components": {
            "schemas": _schemas(),
            "headers": {"RequestId": _request_id_header()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key as bearer token."},
                "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
            },
        },
    }


def _detect(spec: ModelSpec | None) -> Node:
    nobodys = (NotFound, ClientGone)  # the first is for other paths, the second has nobody to tell
    errors = [kind for kind in _below(RequestError, ServiceError) if not issubclass(kind, nobodys)]
    answered = _answered("The boxes.", "DetectAnswer", _answer_example())
    answered["headers"]["X-Cache"] = {
        "description": "Where exact duplicates are kept: whether this was one.",
        "schema": {"type": "string"},
    }
    return {
        "operationId": "detect",
        "tags": ["detection"],
        "summary": "Find vehicles in one picture.",
        "description": "The body is the picture itself; its first bytes say what it is. A form is taken too.",
        "parameters": [*_query(spec), *_request_headers()],
        "requestBody": {"required": True, "content": _picture_content()},
        "responses": {"200": answered, **_refusals(errors)},
    }


def _model() -> Node:
    return {
        "operationId": "model",
        "tags": ["detection"],
        "summary": "What is served: classes, input, thresholds, engine, digests.",
        "parameters": [_request_headers()[-1]],
        "responses": {"200": _answered("The model.", "ModelAnswer"), **_refusals([*_KEYED, NotReady])},
    }


def _page(name: str, summary: str, media: str, errors: Iterable[type[DetectorError]] = _ANYWHERE) -> Node:
    schema = {"type": "object" if media == "application/json" else "string"}
    return {
        "operationId": name,
        "tags": ["operation"],
        "summary": summary,
        "responses": {"200": {"description": "It.", "content": {media: {"schema": schema}}}, **_refusals(errors)},
    }


def _health(name: str, summary: str) -> Node:
    page = _open(_page(name, summary, "text/plain"))
    page["responses"]["503"] = {"description": "No.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    return page


def _open(operation: Node) -> Node:
    """Nobody is asked for a key."""
    return {**operation, "security": []}


def _query(spec: ModelSpec | None) -> list[Node]:
    share = {"type": "number", "minimum": 0, "maximum": 1}
    count: Node = {"type": "integer", "minimum": 1, "maximum": spec.top_k if spec is not None else 8400}
    own = spec.thresholds.model_dump() if spec is not None else {}
    described = {
        "conf": (share, "Least confidence.", 0.4),
        "iou": (share, "Overlap of the same class above which the weaker box goes.", 0.6),
        "max_det": (count, "Most boxes in the answer.", 1),
    }
    return [
        {
            "name": name,
            "in": "query",
            "description": f"{about} The model's own where absent.",
            "schema": {**schema, **({"default": own[name]} if name in own else {})},
            "example": example,
        }
        for name, (schema, about, example) in described.items()
    ]


def _request_headers() -> list[Node]:
    camera = "The camera, 1 to 128 printable ASCII characters; keeps it on one version while versions are compared."
    request = "Comes back; replaced unless letters, digits and ._:/+=-, at most 128."
    return [
        {
            "name": "X-Camera-ID",
            "in": "header",
            "description": camera,
            "schema": {"type": "string", "maxLength": 128, "pattern": f"^(?:{CAMERA_ID_PATTERN})?$"},
            "example": "cam07",
        },
        {
            "name": "X-Request-ID",
            "in": "header",
            "description": request,
            "schema": {"type": "string"},
            "example": _EXAMPLE_ID,
        },
    ]


def _picture_content() -> Node:
    picture = {"type": "string", "format": "binary"}
    form = {"type": "object", "required": [FORM_FIELD], "properties": {FORM_FIELD: picture}}
    raw: Node = {media: {"schema": picture} for media in IMAGE_TYPES}
    encoding = {FORM_FIELD: {"contentType": ", ".join(IMAGE_TYPES)}}
    return {**raw, FORM_TYPE: {"schema": form, "encoding": encoding}}


def _answered(description: str, schema: str, example: Any = None) -> Node:
    content: Node = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    if example is not None:
        content["example"] = example
    headers = {"X-Request-ID": {"$ref": "#/components/headers/RequestId"}}
    return {"description": description, "headers": headers, "content": {"application/json": content}}


def _refusals(kinds: Iterable[type[DetectorError]]) -> Node:
    """One response a status, with an example of each code, and the failure that nobody foresaw."""
    every: list[type[DetectorError]] = [*kinds, DetectorError]
    by_status: dict[int, list[type[DetectorError]]] = {}
    for kind in {kind.code: kind for kind in every}.values():
        by_status.setdefault(kind.status, []).append(kind)
    return {str(status): _refused(status, by_status[status]) for status in sorted(by_status)}


def _refused(status: int, kinds: Sequence[type[DetectorError]]) -> Node:
    response = _answered("; ".join(f"`{kind.code}`: {_said(kind)}" for kind in kinds), "ErrorAnswer")
    response["content"]["application/json"]["examples"] = {
        kind.code: {"value": _error_example(kind).model_dump(mode="json")} for kind in kinds
    }
    if status in _RETRY_LATER:
        response["headers"]["Retry-After"] = {
            "description": "When to come back, s.",
            "schema": {"type": "integer", "minimum": 0},
        }
    if status == Unauthorized.status:
        response["headers"]["WWW-Authenticate"] = {"description": "How to send a key.", "schema": {"type": "string"}}
    if status == MethodNotAllowed.status:
        response["headers"]["Allow"] = {
            "description": "The methods of this path.",
            "required": True,
            "schema": {"type": "string"},
        }
    return response


def _below(*roots: type[DetectorError]) -> list[type[DetectorError]]:
    """Every class below `roots`, those first that are nearest."""
    found: list[type[DetectorError]] = []
    waiting = [kind for root in roots for kind in root.__subclasses__()]
    while waiting:
        kind = waiting.pop(0)
        found.append(kind)
        waiting += kind.__subclasses__()
    return found


def _said(kind: type[DetectorError]) -> str:
    if kind is DetectorError:
        return "The service failed."
    return (kind.__doc__ or "").strip().partition("\n")[0]


def _error_example(kind: type[DetectorError]) -> ErrorAnswer:
    return ErrorAnswer(error=ErrorBody(code=kind.code, message=_said(kind), request_id=_EXAMPLE_ID, details={}))


def _answer_example() -> Node:
    car = Detection(class_id=0, class_name="car", confidence=0.91, box=Box(x1=10.0, y1=20.5, x2=80.1, y2=66.0))
    answer = DetectAnswer(
        request_id=_EXAMPLE_ID,
        model=ModelRef(name="traffic", version="2", digest="9f" * 32),
        image=ImageSize(width=1280, height=720),
        detections=(car,),
        timing_ms=TimingMs(decode=1.2, queue=0.1, inference=8.0, postprocess=0.2, total=9.6),
    )
    return answer.model_dump(mode="json")


def _request_id_header() -> Node:
    return {
        "description": "The id under which the log has this request.",
        "required": True,
        "schema": {"type": "string"},
    }


def _schemas() -> Node:
    models = [(model, "serialization") for model in (DetectAnswer, ModelAnswer, ErrorAnswer)]
    _, content = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    return dict(content["$defs"])

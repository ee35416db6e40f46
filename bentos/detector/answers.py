"""What is sent back: the content of an answer, the envelope of an error, and both as ASGI messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import numpy as np
import orjson

from bentos.detector.detector import Detections
from bentos.detector.errors import DetectorError
from bentos.detector.request import Scope, Send

_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """A body and what goes with it. `timing_ms` is where the time of a frame went."""

    body: bytes
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    media: str = _JSON
    timing_ms: Mapping[str, float] | None = None


def detect_content(
    found: Detections,
    timing_ms: Mapping[str, float],
    request_id: str,
    model_ref: Mapping[str, str],
    classes: tuple[str, ...],
) -> dict[str, Any]:
    """The content of a `DetectAnswer` as plain values: building the model would cost more than the rest of it."""
    boxes = found.boxes_xyxy.astype(np.float64).round(2).tolist()
    scores = found.scores.astype(np.float64).round(5).tolist()
    return {
        "request_id": request_id,
        "model": model_ref,
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


def error_answer(error: DetectorError, request_id: str) -> Answer:
    """The envelope."""
    body = {"code": error.code, "message": error.message, "request_id": request_id, "details": error.details}
    return Answer(orjson.dumps({"error": body}), error.status, error.headers)


async def send_answer(send: Send, scope: Scope, answer: Answer, request_id: str) -> None:
    """Send an answer; to HEAD its headers only."""
    raw = [
        (b"x-request-id", request_id.encode("latin-1")),
        (b"content-type", answer.media.encode("latin-1")),
        (b"content-length", b"%d" % len(answer.body)),
    ]
    if answer.headers:
        raw += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})

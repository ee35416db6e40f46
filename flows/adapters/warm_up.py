"""A detector's first frames: it answers some, and says that it is the pinned model."""

from __future__ import annotations

import io
from collections.abc import Callable

import httpx

from bentos.detector.recorder import WARM_UP_CAMERA
from bentos.router.routing import Backend
from flows.errors import ServiceError
from flows.settings import api_key_headers

WARM_UP_FRAMES = 3


def warm_up(backend: Backend, post: Callable[[bytes, dict[str, str]], httpx.Response], remedy: str) -> None:
    """Let it answer some frames. Raises ServiceError when it does not, or answers as another model.

    Args:
        post: Sends a body with headers to its /v1/detect.
        remedy: Where to look when it does not answer.
    """
    headers = {"content-type": "image/jpeg", "x-camera-id": WARM_UP_CAMERA, **api_key_headers()}
    try:
        for _ in range(WARM_UP_FRAMES):
            reply = post(_grey_jpeg(), headers)
            if not reply.is_success:
                raise _refused(backend, reply, remedy)
        digest = reply.json()["model"]["digest"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise ServiceError(
            f"version {backend.version} answers no frame: {type(error).__name__}: {error}", remedy
        ) from error
    if digest != backend.digest:
        raise ServiceError(
            f"version {backend.version} answers with model digest {str(digest)[:12]}, expected {backend.digest[:12]}",
            "Package it again: tca package --force; on a cluster, build and push its image",
        )


def _refused(backend: Backend, reply: httpx.Response, remedy: str) -> ServiceError:
    if reply.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        remedy = "It asks for an API key with role detect: put one into TCA_API_KEY"
    message = f"version {backend.version} answers a frame with {reply.status_code}: {reply.text[:200].strip()}"
    return ServiceError(message, remedy)


def _grey_jpeg() -> bytes:
    from PIL import Image

    sink = io.BytesIO()
    Image.new("RGB", (640, 384), (114, 114, 114)).save(sink, "JPEG")
    return sink.getvalue()

"""What both clients share: requests, retries and the reading of answers, with nobody who sends or waits.

Sent again, a bounded number of times, is what may safely be: whoever asks for boxes twice changes nothing. That is an
answer 429 or 503, after its Retry-After, and a connection that broke before an answer. Out of time is not sent again:
the service may be at work on it still.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from bentos.detector.client.errors import BadAnswer, NoAnswer, UnknownImage, rejection
from bentos.detector.contract import ErrorAnswer

Image = bytes | Path | BinaryIO
"""A whole JPEG, PNG or WebP file: its bytes, its path, or an open binary file, which is read to its end."""

Answer = TypeVar("Answer", bound=BaseModel)
Reply = httpx.Response | httpx.RequestError
Steps = Generator[httpx.Request | float, Reply | None, Answer]
"""The way to an answer: each step is a request to send, whose reply is sent in, or a time to wait, s."""

_BROKEN = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
_LATER = (429, 503)


@dataclass(frozen=True)
class Retries:
    """How often, and after how long, a request is sent again."""

    most: int = 2
    """Further attempts after the first; 0 switches them off."""
    pause_s: float = 0.1
    """Before the second attempt where the service names no time; doubled for each further one."""
    longest_wait_s: float = 5.0
    """What asks for a longer wait is raised at once."""


class Exchange:
    """The requests to one service, and the way to their answers."""

    def __init__(self, url: str, api_key: str | None, timeout_s: float, retries: Retries | None) -> None:
        """Raises ValueError: `url` is no HTTP address, or `api_key` cannot be sent in a header."""
        if httpx.URL(url).scheme not in ("http", "https") or not httpx.URL(url).host:
            raise ValueError(f"url = {url!r}: expected http://HOST:PORT or https://HOST:PORT")
        self._url = url.rstrip("/")
        self._retries = retries or Retries()
        self._timeout = httpx.Timeout(timeout_s).as_dict()
        self._headers = {"accept": "application/json", "user-agent": "detector-client/1"}
        if api_key is not None:
            _require_printable("api_key", api_key)
            self._headers["authorization"] = f"Bearer {api_key}"

    def detect(
        self,
        data: bytes,
        *,
        camera_id: str | None,
        conf: float | None,
        iou: float | None,
        max_det: int | None,
        request_id: str | None,
    ) -> httpx.Request:
        """POST /v1/detect, under an id that stays the same when it is sent again.

        Raises:
            UnknownImage: `data` is no image that the service reads.
            ValueError: An id cannot be sent in a header.
        """
        headers = {"content-type": image_type(data), "x-request-id": request_id or secrets.token_hex(16)}
        if camera_id is not None:
            headers["x-camera-id"] = camera_id
        for name, value in headers.items():
            _require_printable(name, value)
        given = {"conf": conf, "iou": iou, "max_det": max_det}
        query = {name: value for name, value in given.items() if value is not None}
        return self._request("POST", "/v1/detect", headers, content=data, params=query or None)

    def model(self) -> httpx.Request:
        """GET /v1/model."""
        return self._request("GET", "/v1/model")

    def ready(self) -> httpx.Request:
        """GET /readyz."""
        return self._request("GET", "/readyz")

    def steps(self, request: httpx.Request, kind: type[Answer]) -> Steps[Answer]:
        """Send `request`, again where that is safe and useful, and return its answer. Raises ClientError."""
        attempt = 0
        while True:
            reply = yield request
            assert reply is not None
            wait_s = self._wait_s(reply, attempt)
            if wait_s is None:
                return read_answer(reply, kind)
            yield wait_s
            attempt += 1

    def _request(self, method: str, path: str, headers: dict[str, str] | None = None, **content: Any) -> httpx.Request:
        every = {**self._headers, **(headers or {})}
        return httpx.Request(method, self._url + path, headers=every, extensions={"timeout": self._timeout}, **content)

    def _wait_s(self, reply: Reply, attempt: int) -> float | None:
        """How long to wait before the next attempt; None: there is none."""
        if attempt >= self._retries.most:
            return None
        wait_s: float = self._retries.pause_s * 2**attempt
        if isinstance(reply, httpx.Response):
            if reply.status_code not in _LATER:
                return None
            wait_s = max(wait_s, retry_after_s(reply) or 0.0)
        elif not isinstance(reply, _BROKEN):
            return None
        if wait_s > self._retries.longest_wait_s:
            return None
        return wait_s * random.uniform(1, 1.25)  # refused together, they shall not come back together


def read_image(image: Image) -> bytes:
    """The bytes of `image`. Raises OSError."""
    if isinstance(image, bytes):
        return image
    return image.read_bytes() if isinstance(image, Path) else image.read()


def image_type(data: bytes) -> str:
    """The media type that the first bytes stand for. Raises UnknownImage."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    start = f"it starts with {data[:8].hex(' ')}" if data else "it is empty"
    raise UnknownImage(f"this is no JPEG, PNG or WebP image: {start}")


def read_answer(reply: Reply, kind: type[Answer]) -> Answer:
    """The content of an answer; fields that a newer service adds are left out. Raises ClientError."""
    if isinstance(reply, httpx.RequestError):
        said = str(reply) or type(reply).__name__
        raise NoAnswer(f"{reply.request.method} {reply.request.url}: {said}") from reply
    where = f"{reply.request.method} {reply.request.url} answered {reply.status_code}"
    try:
        if reply.is_success:
            return kind.model_validate_json(reply.content, extra="ignore")
        error = ErrorAnswer.model_validate_json(reply.content, extra="ignore").error
    except ValidationError:
        raise BadAnswer(f"{where}, with a body that is none of a detector: {reply.text[:80]!r}") from None
    raise rejection(reply.status_code, error, retry_after_s(reply))


def retry_after_s(response: httpx.Response) -> float | None:
    """Retry-After where it is a number of seconds, as the service sends it; a date is not read."""
    given: str = response.headers.get("retry-after", "")
    return float(given) if given.isascii() and given.isdigit() else None


def _require_printable(name: str, value: str) -> None:
    if not (value.isascii() and value.isprintable()):
        shown = "a key" if name == "api_key" else repr(value)
        raise ValueError(f"{name} = {shown}: expected printable ASCII characters")

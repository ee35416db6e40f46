"""Reading a request without trusting it: headers, query and body, refused with a reason."""

from __future__ import annotations

import asyncio
import math
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from bentos.detector.errors import (
    BadParameter,
    BadRequest,
    BodyTimeout,
    BodyTooLarge,
    ClientGone,
    LengthRequired,
    Overloaded,
    UnsupportedMedia,
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp")
FORM_TYPE = "multipart/form-data"
FORM_FIELD = "image"
MAX_FORM_PARTS = 64  # each costs as much time as a megabyte of image
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
CAMERA_ID_PATTERN = r"[\x21-\x7e](?:[\x20-\x7e]{0,126}[\x21-\x7e])?"
_CAMERA_ID = re.compile(CAMERA_ID_PATTERN)
# Python itself reads more as a number: 1_0, blanks, digits of other scripts.
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_LONGEST_NUMBER = 100


@dataclass(frozen=True)
class Overrides:
    """Thresholds that the query gives; None is the model's own."""

    conf: float | None = None
    iou: float | None = None
    max_det: int | None = None


@dataclass
class Arriving:
    """All bodies of this process that have not arrived completely: many slow ones shall not fill the memory."""

    num_bytes: int = 0
    max_bytes: int = 256_000_000


arriving = Arriving()


def read_headers(scope: Scope) -> dict[str, str]:
    """Header names in lower case to values; of repeated ones the last."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def request_id_of(headers: Mapping[str, str]) -> str:
    """X-Request-ID if it is fit for logs and headers (letters, digits and ._:/+=-, at most 128), else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


def camera_id_of(headers: Mapping[str, str]) -> str:
    """X-Camera-ID, or an empty string where there is none. Raises BadParameter."""
    given = headers.get("x-camera-id", "").strip()
    if given and not _CAMERA_ID.fullmatch(given):
        raise BadParameter("X-Camera-ID must be 1 to 128 printable ASCII characters", parameter="X-Camera-ID")
    return given


def read_query(query: bytes) -> Overrides:
    """Parse `conf`, `iou` and `max_det`; their ranges are checked where they are used. Raises BadParameter."""
    given: dict[str, float | int] = {}
    for name, text in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in ("conf", "iou", "max_det"):
            raise BadParameter(f"unknown parameter {name[:40]!r}; known: conf, iou, max_det", parameter=name[:40])
        if name in given:
            raise BadParameter(f"{name} is given twice", parameter=name)
        given[name] = _read_number(name, text)
    return Overrides(**given)  # type: ignore[arg-type]  # each value has the type of its name


def _read_number(name: str, text: str) -> float | int:
    whole = name == "max_det"
    value = math.nan
    if len(text) <= _LONGEST_NUMBER and (_WHOLE if whole else _NUMBER).fullmatch(text):
        value = int(text) if whole else float(text)
    if not math.isfinite(value):
        wanted = "a whole number" if whole else "a number from 0 to 1"
        raise BadParameter(f"{name} = {text[:40]!r}: expected {wanted}", parameter=name)
    return value


async def read_body(headers: Mapping[str, str], receive: Receive, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body, refused by its announced length where there is one, else as soon as it has grown too large.

    Raises:
        LengthRequired: Neither a length nor a chunked body is announced.
        BodyTooLarge: It is larger than `max_bytes`.
        BodyTimeout: It is not complete after `timeout_s`.
        Overloaded: All bodies that are arriving take too much memory together.
        ClientGone: The client left while it was sending.
    """
    announced = headers.get("content-length")
    if announced is None and "chunked" not in headers.get("transfer-encoding", "").lower():
        raise LengthRequired("the request has no body; send the bytes of a JPEG, PNG or WebP image")
    if announced is not None and announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(timeout_s):
            return await _collect(receive, max_bytes)
    except TimeoutError:
        raise BodyTimeout(f"the body was not complete after {timeout_s:g} s; send it faster, or less of it") from None


async def _collect(receive: Receive, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    num_bytes, more = 0, True
    try:
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone("the client left while it was sending")
            chunk: bytes = message.get("body", b"")
            num_bytes += len(chunk)
            arriving.num_bytes += len(chunk)
            if num_bytes > max_bytes:
                raise _too_large(max_bytes)
            chunks.append(chunk)
            more = message.get("more_body", False)
            if more and len(chunk) < num_bytes and arriving.num_bytes > arriving.max_bytes:
                raise Overloaded("too many large bodies are arriving at once; come back in 1 s", 1)
    finally:
        arriving.num_bytes -= num_bytes
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def require_media(headers: Mapping[str, str]) -> str:
    """The media type, one of those that are read, without its parameters. Raises UnsupportedMedia."""
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in (*IMAGE_TYPES, FORM_TYPE):
        raise UnsupportedMedia(
            f"content type {media[:60]!r} is not read; send the image itself as image/jpeg, image/png or image/webp "
            f"(curl: -H 'content-type: image/jpeg'), or a form with a field {FORM_FIELD!r}",
            accepted=[*IMAGE_TYPES, FORM_TYPE],
        )
    return media


def form_image(body: bytes, content_type: str) -> bytes:
    """The content of the form field `image`. Raises BadRequest."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise BadRequest("the form's content type has no boundary; let your HTTP library set that header")
    fields = _FormFields()
    try:
        parser = MultipartParser(boundary, fields.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise BadRequest(f"the form cannot be read: {error}") from None
    if fields.image is None:
        raise BadRequest(f"the form has no field {FORM_FIELD!r}; it has {fields.names or 'none'}", fields=fields.names)
    if not fields.complete:
        raise BadRequest("the form ends before its last boundary; it is truncated")
    return bytes(fields.image)


class _FormFields:
    """Collects the first field named `image` from the events of a multipart parser."""

    def __init__(self) -> None:
        self.image: bytearray | None = None
        self.names: list[str] = []
        self.complete = False
        self._header, self._value = b"", b""
        self._wanted = False
        self._num_parts = 0

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def _on_part_begin(self) -> None:
        self._num_parts += 1
        if self._num_parts > MAX_FORM_PARTS:
            raise BadRequest(f"the form has more than {MAX_FORM_PARTS} fields; send the image alone")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        from python_multipart.multipart import parse_options_header

        if self._header.lower() == b"content-disposition":
            name = parse_options_header(self._value)[1].get(b"name", b"").decode("utf-8", "replace")
            self.names.append(name[:40])
            self._wanted = name == FORM_FIELD and self.image is None
            if self._wanted:
                self.image = bytearray()
        self._header, self._value = b"", b""

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted and self.image is not None:
            self.image += data[start:end]

    def _on_part_end(self) -> None:
        self._wanted = False

    def _on_end(self) -> None:
        self.complete = True


def _too_large(max_bytes: int) -> BodyTooLarge:
    message = f"the body is larger than {max_bytes / 1e6:g} MB; send a smaller image"
    return BodyTooLarge(message, max_body_bytes=max_bytes)

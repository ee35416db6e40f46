"""What can go wrong, one class a kind; each knows its HTTP status and a code that clients may rely on.

    DetectorError
    ├── RequestError          4xx: what the client sent
    │   ├── BadParameter      422 bad_parameter      a query parameter is no number or out of its range
    │   ├── BadRequest        400 bad_request        the request cannot be read (a broken multipart form)
    │   ├── BadImage          400 bad_image          the body is empty, no image, truncated or damaged
    │   ├── Unauthorized      401 unauthorized       no key, or one that is not known
    │   ├── Forbidden         403 forbidden          a key without the role that this path wants
    │   ├── NotFound          404 not_found          no such path
    │   ├── MethodNotAllowed  405 method_not_allowed this path wants another method
    │   ├── BodyTimeout       408 body_timeout       the body did not arrive in time
    │   ├── HeaderTimeout     408 header_timeout     the header did not arrive in time
    │   ├── LengthRequired    411 length_required    neither a length nor a chunked body
    │   ├── BodyTooLarge      413 body_too_large     more bytes than are accepted
    │   ├── ImageTooLarge     413 image_too_large    more pixels than are accepted
    │   ├── UnsupportedMedia  415 unsupported_media  neither JPEG, PNG nor WebP
    │   ├── RateLimited       429 rate_limited       this client sends too often; says when to come back
    │   ├── HeadersTooLarge   431 headers_too_large  more bytes of header than are accepted
    │   └── ClientGone        499 client_gone        the client left before its answer; never sent
    ├── ServiceError          5xx: the service cannot answer now
    │   ├── Overloaded        503 overloaded         the queue is full; says when to come back
    │   ├── NotReady          503 not_ready          starting or stopping
    │   ├── EngineFailed      503 engine_failed      the engine refused or lost a batch
    │   │   └── EngineTimeout 503 engine_timeout     the engine did not answer in time
    │   ├── EngineSuspended   503 engine_suspended   the engine failed repeatedly, and rests; says when to come back
    │   └── DrillFailure      500 drill              a failure that was asked for, to rehearse a rollback
    └── LoadError             nothing can be served from here; raised before the service is ready
        ├── KeysRefused       the file of API keys is missing, unreadable or not what it should be
        ├── ModelRefused      model.json or a file it names is missing, damaged or of another digest
        └── EngineUnavailable the engine's library, version or device is not the one it was exported for

A status and a code never change their meaning; messages may.
"""

from __future__ import annotations

from typing import Any


class DetectorError(Exception):
    """Root of every error of the detector: a message for a person, a code for a program, details for both.

    `retry_after_s` says when to come back, where that is known.
    """

    status = 500
    code = "internal"
    retry_after_s: int | None = None

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer that belong to this error, names in lower case."""
        return {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}


class RequestError(DetectorError):
    """The client must change its request."""

    status = 400
    code = "bad_request"


class BadParameter(RequestError):
    """A query parameter is unknown, no number, or out of its range."""

    status = 422
    code = "bad_parameter"


class BadRequest(RequestError):
    """The request cannot be read."""


class BadImage(RequestError):
    """The body is empty, is no image, or does not decode completely."""

    code = "bad_image"


class Unauthorized(RequestError):
    """The request has no key, or one that is not known or no longer valid."""

    status = 401
    code = "unauthorized"

    @property
    def headers(self) -> dict[str, str]:
        return {"www-authenticate": 'Bearer realm="detector"'}


class Forbidden(RequestError):
    """The key is known, but lacks the role."""

    status = 403
    code = "forbidden"


class NotFound(RequestError):
    """There is nothing at this path."""

    status = 404
    code = "not_found"


class MethodNotAllowed(RequestError):
    """The path exists, but not for this method."""

    status = 405
    code = "method_not_allowed"

    @property
    def headers(self) -> dict[str, str]:
        return {"allow": str(self.details["allow"])}


class BodyTimeout(RequestError):
    """The body did not arrive in time."""

    status = 408
    code = "body_timeout"


class HeaderTimeout(RequestError):
    """The header did not arrive in time."""

    status = 408
    code = "header_timeout"


class LengthRequired(RequestError):
    """The request announces no body at all."""

    status = 411
    code = "length_required"


class BodyTooLarge(RequestError):
    """The body has more bytes than are accepted."""

    status = 413
    code = "body_too_large"


class ImageTooLarge(RequestError):
    """The image has more pixels than are accepted; read from its header, before anything is decoded."""

    status = 413
    code = "image_too_large"


class UnsupportedMedia(RequestError):
    """The content type is none of those that are read."""

    status = 415
    code = "unsupported_media"


class RateLimited(RequestError):
    """The client sends more often than it may; others are not concerned."""

    status = 429
    code = "rate_limited"

    def __init__(self, message: str, retry_after_s: int, **details: Any) -> None:
        super().__init__(message, retry_after_s=retry_after_s, **details)
        self.retry_after_s = retry_after_s


class HeadersTooLarge(RequestError):
    """The header has more bytes than are accepted."""

    status = 431
    code = "headers_too_large"


class ClientGone(RequestError):
    """The client closed the connection; the answer has nowhere to go."""

    status = 499
    code = "client_gone"


class ServiceError(DetectorError):
    """The request may be right, but the service cannot answer it now."""

    status = 503
    code = "unavailable"


class Overloaded(ServiceError):
    """The predicted wait is longer than is allowed."""

    code = "overloaded"

    def __init__(self, message: str, retry_after_s: int, **details: Any) -> None:
        super().__init__(message, retry_after_s=retry_after_s, **details)
        self.retry_after_s = retry_after_s


class NotReady(ServiceError):
    """The service is starting or stopping."""

    code = "not_ready"


class EngineFailed(ServiceError):
    """The engine raised while it ran a batch."""

    code = "engine_failed"
    counted = False
    """Whether the breaker knows of it already: all frames of a batch share one error."""


class EngineTimeout(EngineFailed):
    """The engine did not answer in time; it may hang."""

    code = "engine_timeout"


class EngineSuspended(ServiceError):
    """The engine failed repeatedly; until it was tried again, nothing is sent to it."""

    code = "engine_suspended"

    def __init__(self, message: str, retry_after_s: int, **details: Any) -> None:
        super().__init__(message, retry_after_s=retry_after_s, **details)
        self.retry_after_s = retry_after_s


class DrillFailure(ServiceError):
    """A failure that DETECTOR_DRILL asked for."""

    status = 500
    code = "drill"


class LoadError(DetectorError):
    """Nothing can be served from here."""

    code = "load"


class KeysRefused(LoadError):
    """The file of API keys cannot be used."""

    code = "keys_refused"


class ModelRefused(LoadError):
    """model.json, or a file that it names, is missing, unreadable or not of the recorded digest."""

    code = "model_refused"


class EngineUnavailable(LoadError):
    """The library or device that the engine needs is absent, or not the one that it was exported for."""

    code = "engine_unavailable"

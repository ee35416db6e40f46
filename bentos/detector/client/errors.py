"""What the client raises, but for ValueError (an argument) and OSError (a file that cannot be read).

    ClientError
    ├── UnknownImage           neither JPEG, PNG nor WebP; nothing was sent
    ├── NoAnswer               no connection, a broken one, or out of time
    ├── BadAnswer              an answer that the contract does not know; perhaps this is no detector
    └── RejectedError          the service said no: status, code, message, request_id, details, retry_after_s
        ├── RequestRejected    other 4xx: the same request will be refused again
        │   └── KeyRejected    401, 403: the API key is missing, unknown, or of another role
        └── ServiceRejected    5xx and 429: the request may be right
            └── TryLater       429 and 503, still so after the retries

A code never changes its meaning, see `bentos.detector.errors`; messages may.
"""

from __future__ import annotations

from bentos.detector.contract import ErrorBody


class ClientError(Exception):
    """Root of the tree."""


class UnknownImage(ClientError):
    """The bytes are neither JPEG, PNG nor WebP; nothing was sent."""


class NoAnswer(ClientError):
    """The service was not reached, the connection broke, or the time was up."""


class BadAnswer(ClientError):
    """The answer is not what the contract says."""


class RejectedError(ClientError):
    """The service answered with an error. `retry_after_s`: when to come back, where the service said so."""

    def __init__(self, status: int, error: ErrorBody, retry_after_s: float | None) -> None:
        super().__init__(f"{error.message} ({status} {error.code}, request {error.request_id})")
        self.status = status
        self.code = error.code
        self.message = error.message
        self.request_id = error.request_id
        self.details = error.details
        self.retry_after_s = retry_after_s


class RequestRejected(RejectedError):
    """4xx but 429: the same request will be refused again."""


class KeyRejected(RequestRejected):
    """The API key is missing, unknown, or of a role that may not do this."""


class ServiceRejected(RejectedError):
    """5xx and 429: the service did not answer this time."""


class TryLater(ServiceRejected):
    """The service is asked too much, is starting, or is stopping."""


def rejection(status: int, error: ErrorBody, retry_after_s: float | None) -> RejectedError:
    """The error of the class that `status` stands for."""
    if status in (429, 503):
        return TryLater(status, error, retry_after_s)
    if status in (401, 403):
        return KeyRejected(status, error, retry_after_s)
    kind = RequestRejected if status < 500 else ServiceRejected
    return kind(status, error, retry_after_s)

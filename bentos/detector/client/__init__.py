"""The detector's typed client: `Client` blocks, `AsyncClient` awaits; see `errors` for what they raise.

    with Client("http://127.0.0.1:3000") as detector:
        answer = detector.detect(Path("frame.jpg"), camera_id="cam07")

It needs httpx and pydantic, and neither an engine nor BentoML.
"""

from bentos.detector.client.clients import AsyncClient, Client
from bentos.detector.client.errors import (
    BadAnswer,
    ClientError,
    KeyRejected,
    NoAnswer,
    RejectedError,
    RequestRejected,
    ServiceRejected,
    TryLater,
    UnknownImage,
)
from bentos.detector.client.exchange import Image, Retries

__all__ = [
    "AsyncClient",
    "BadAnswer",
    "Client",
    "ClientError",
    "Image",
    "KeyRejected",
    "NoAnswer",
    "RejectedError",
    "RequestRejected",
    "Retries",
    "ServiceRejected",
    "TryLater",
    "UnknownImage",
]

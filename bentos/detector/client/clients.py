"""The two clients: who sends and waits, one blocking, one awaiting. What and how often is said in `exchange`."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any, Self, TypedDict, Unpack

import httpx

from bentos.detector.client.errors import ClientError
from bentos.detector.client.exchange import Answer, Exchange, Image, Reply, Retries, Steps, read_image
from bentos.detector.contract import DetectAnswer, ModelAnswer


class Asked(TypedDict, total=False):
    """What goes with an image; thresholds that are left out are the model's own."""

    camera_id: str | None
    conf: float | None
    iou: float | None
    max_det: int | None


class Client:
    """Asks a detector, or a router, over connections that stay open. Threads may share it."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retries: Retries | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`timeout_s`: longest silence of the service, an attempt. Raises ValueError."""
        self._exchange = Exchange(url, api_key, timeout_s, retries)
        self._http = httpx.Client(transport=transport)
        self._sleep = sleep

    def detect(
        self,
        image: Image,
        *,
        camera_id: str | None = None,
        conf: float | None = None,
        iou: float | None = None,
        max_det: int | None = None,
        request_id: str | None = None,
    ) -> DetectAnswer:
        """Find the boxes of one image, in its pixels as displayed; thresholds that are None are the model's own.

        Raises:
            ClientError: See `errors`.
            OSError: The file cannot be read.
            ValueError: An id cannot be sent in a header.
        """
        request = self._exchange.detect(
            read_image(image), camera_id=camera_id, conf=conf, iou=iou, max_det=max_det, request_id=request_id
        )
        return self._carry_out(self._exchange.steps(request, DetectAnswer))

    def model(self) -> ModelAnswer:
        """What is served. Raises ClientError."""
        return self._carry_out(self._exchange.steps(self._exchange.model(), ModelAnswer))

    def ready(self) -> bool:
        """Whether the service can answer now; False as well where nothing listens."""
        reply = self._send(self._exchange.ready())
        return isinstance(reply, httpx.Response) and reply.is_success

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _carry_out(self, steps: Steps[Answer]) -> Answer:
        reply: Reply | None = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # what `steps` returns
            reply = None
            if isinstance(step, httpx.Request):
                reply = self._send(step)
            else:
                self._sleep(step)

    def _send(self, request: httpx.Request) -> Reply:
        try:
            return self._http.send(request)
        except httpx.RequestError as error:
            return error


class AsyncClient:
    """The same for asyncio."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retries: Retries | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        """See `Client`."""
        self._exchange = Exchange(url, api_key, timeout_s, retries)
        self._http = httpx.AsyncClient(transport=transport)
        self._sleep = sleep

    async def detect(
        self,
        image: Image,
        *,
        camera_id: str | None = None,
        conf: float | None = None,
        iou: float | None = None,
        max_det: int | None = None,
        request_id: str | None = None,
    ) -> DetectAnswer:
        """See `Client.detect`."""
        data = image if isinstance(image, bytes) else await asyncio.to_thread(read_image, image)
        request = self._exchange.detect(
            data, camera_id=camera_id, conf=conf, iou=iou, max_det=max_det, request_id=request_id
        )
        return await self._carry_out(self._exchange.steps(request, DetectAnswer))

    async def detect_many(
        self, images: Iterable[Image], *, concurrency: int = 4, **asked: Unpack[Asked]
    ) -> AsyncGenerator[DetectAnswer | ClientError, None]:
        """One answer an image, in the order of the images; where one failed, its error takes the answer's place.

        At most `concurrency` images are in memory and under way, so that `images` may be endless. Raises OSError and
        ValueError as `detect` does, and ValueError for a `concurrency` below 1.
        """
        if concurrency < 1:
            raise ValueError(f"concurrency = {concurrency}: expected at least 1")
        under_way: deque[asyncio.Task[DetectAnswer | ClientError]] = deque()
        try:
            for image in images:
                if len(under_way) == concurrency:
                    yield await under_way[0]
                    under_way.popleft()
                under_way.append(asyncio.create_task(self._answer_or_error(image, asked)))
            while under_way:
                yield await under_way[0]
                under_way.popleft()
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def model(self) -> ModelAnswer:
        """See `Client.model`."""
        return await self._carry_out(self._exchange.steps(self._exchange.model(), ModelAnswer))

    async def ready(self) -> bool:
        """See `Client.ready`."""
        reply = await self._send(self._exchange.ready())
        return isinstance(reply, httpx.Response) and reply.is_success

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _answer_or_error(self, image: Image, asked: Asked) -> DetectAnswer | ClientError:
        try:
            return await self.detect(image, **asked)
        except ClientError as error:
            return error

    async def _carry_out(self, steps: Steps[Answer]) -> Answer:
        reply: Reply | None = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # what `steps` returns
            reply = None
            if isinstance(step, httpx.Request):
                reply = await self._send(step)
            else:
                await self._sleep(step)

    async def _send(self, request: httpx.Request) -> Reply:
        try:
            return await self._http.send(request)
        except httpx.RequestError as error:
            return error

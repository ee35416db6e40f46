"""Who answers what: BentoML its own paths, the detector all others, without BentoML's middleware in between.

That middleware costs a frame several times what the detector's app does, keeps a timer of every request until the
timeout, and counts by path: whoever asks for ever new paths would fill the memory with labels.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Mount, Route

from bentos.detector.app import DetectApp
from bentos.detector.errors import DetectorError, NotReady
from bentos.detector.request import Message, Receive, Scope, Send, read_body, read_headers, request_id_of


class FrontDoor:
    """An ASGI app before two others. The lifespan is BentoML's: it makes and ends the service's instance."""

    def __init__(self, bento_app: Starlette, detect_app: DetectApp) -> None:
        self._bento_app = bento_app
        self._detect_app = detect_app
        self._paths = {route.path for route in bento_app.routes if isinstance(route, Route)}
        self._folders = tuple(route.path + "/" for route in bento_app.routes if isinstance(route, Mount))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._bento_app(scope, receive, send)
        elif not self._is_bentos(scope["path"]):
            await self._detect_app(scope, receive, send)
        elif scope["method"] == "POST":
            await self._bounded(scope, receive, send)
        else:
            await self._bento_app(scope, receive, send)

    def _is_bentos(self, path: str) -> bool:
        return path in self._paths or path.startswith(self._folders)

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand BentoML a body within the limits; it has none of its own."""
        headers, runtime = read_headers(scope), self._detect_app.runtime
        try:
            if runtime is None:
                raise NotReady("the model is not loaded; wait until /readyz answers 200")
            body = await read_body(headers, receive, runtime.max_body_bytes, runtime.body_timeout_s)
        except DetectorError as error:
            await self._detect_app.refuse(send, error, request_id_of(headers))
            return
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def replay() -> Message:
            return next(messages, None) or await receive()

        await self._bento_app(scope, replay, send)

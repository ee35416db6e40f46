"""Who answers what: BentoML its own paths, the detector all others, without BentoML's middleware in between.

That middleware costs a frame several times what the detector's app does, keeps a timer of every request until the
timeout, and counts by path: whoever asks for ever new paths would fill the memory with labels.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Mount, Route

from bentos.detector.app import DetectApp, Request, open_request
from bentos.detector.errors import DetectorError, MethodNotAllowed
from bentos.detector.keys import Role
from bentos.detector.request import FORM_TYPE, Message, Receive, Scope, Send, form_image, read_body

_HEALTH = ("/livez", "/readyz", "/healthz")
_FRAMES = "/detect"

Headers = list[tuple[bytes, bytes]]


class FrontDoor:
    """An ASGI app before two others. The lifespan is BentoML's: it makes and ends the service's instance."""

    def __init__(self, bento_app: Starlette, detect_app: DetectApp) -> None:
        self._bento_app = bento_app
        self._detect_app = detect_app
        self._methods = {route.path: route.methods for route in bento_app.routes if isinstance(route, Route)}
        self._folders = tuple(route.path + "/" for route in bento_app.routes if isinstance(route, Mount))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._bento_app(scope, receive, send)
        elif self._is_bentos(scope["path"]):
            await self._pass_on(open_request(scope, receive), send)
        else:
            await self._detect_app(scope, receive, send)

    def _is_bentos(self, path: str) -> bool:
        return path in self._methods or path.startswith(self._folders)

    async def _pass_on(self, request: Request, send: Send) -> None:
        """Hand BentoML a request that may be there, its body within the limits: BentoML has none of its own."""
        try:
            self._require_method(request.scope)
            self._detect_app.admit(request, _roles(request.scope["path"]))
            receive = await self._bounded(request) if request.scope["method"] == "POST" else request.receive
        except DetectorError as error:
            await self._detect_app.refuse(send, error, request)
            return
        if self._detect_app.log.access:
            send = self._logged(request, send)
        await self._bento_app(request.scope, receive, send)

    def _require_method(self, scope: Scope) -> None:
        methods = self._methods.get(scope["path"])
        if methods and scope["method"] not in methods:
            allowed = ", ".join(sorted(methods))
            raise MethodNotAllowed(f"{scope['path']} takes {allowed}, not {scope['method'][:20]}", allow=allowed)

    async def _bounded(self, request: Request) -> Receive:
        runtime = self._detect_app.require_runtime()
        body = await read_body(request.headers, request.receive, runtime.max_body_bytes, runtime.body_timeout_s)
        media = request.headers.get("content-type", "")
        if media.lower().startswith(FORM_TYPE):  # BentoML answers 500 to a broken one
            body = form_image(body, media)
            request.scope["headers"] = _as_image(request.scope["headers"])
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def replay() -> Message:
            return next(messages, None) or await request.receive()

        return replay

    def _logged(self, request: Request, send: Send) -> Send:
        async def note(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                status = message["status"]
                self._detect_app.log.answered(request.visit, status, "ok" if status < 400 else "bentoml")

        return note


def _as_image(headers: Headers) -> Headers:
    """The headers of a form's image, sent by itself."""
    kept = [pair for pair in headers if pair[0].lower() not in (b"content-type", b"content-length")]
    return [*kept, (b"content-type", b"image/jpeg")]


def _roles(path: str) -> tuple[Role, ...]:
    """What a key must be for, on BentoML's paths."""
    if path in _HEALTH:
        return ()
    return ("detect",) if path == _FRAMES else ("operate",)

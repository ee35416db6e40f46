"""Detectors that do as they are told, a router in front of them, and a client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop
from aiohttp import web

from bentos.router.app import Router, RouterSettings
from bentos.router.arms import ForwardingLimits

PATIENCE_S = 20.0
BOX = {"class_id": 2, "class_name": "bus", "confidence": 0.75, "box": {"x1": 1.0, "y1": 2.0, "x2": 30.5, "y2": 40.0}}


@pytest.fixture(scope="session")
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    """The loop that the router runs on in production."""
    return uvloop.EventLoopPolicy()


class FakeDetector:
    """An HTTP server with a detector's doors. `status`, `gate`, `drop`, `body` tell it how to behave from now on."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.status = 200
        self.ready = True
        self.drop = False
        self.gate: asyncio.Event | None = None
        self.body: bytes | None = None
        self.headers: dict[str, str] = {}
        self.detections: list[dict[str, Any]] = [BOX]
        self.seen: list[web.Request] = []
        self.num_waiting = 0
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> FakeDetector:
        app = web.Application(client_max_size=64 * 1024**2)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_route("*", "/{tail:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def backend(self) -> dict[str, str]:
        return {"version": self.version, "digest": f"digest-{self.version}", "url": self.url}

    @property
    def ids(self) -> list[str]:
        return [request.headers["x-request-id"] for request in self.seen]

    async def _readyz(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self.ready else 503)

    async def _answer(self, request: web.Request) -> web.Response:
        self.last_body = await request.read()
        self.seen.append(request)
        if self.gate is not None:
            self.num_waiting += 1
            try:
                await self.gate.wait()
            finally:
                self.num_waiting -= 1
        if self.drop and request.transport is not None:
            request.transport.abort()
        if self.body is not None:
            return web.Response(status=self.status, body=self.body, headers=self.headers)
        answer = {"request_id": request.headers["x-request-id"], "detections": self.detections}
        return web.json_response(answer, status=self.status, headers=self.headers)


@dataclass(frozen=True)
class Got:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


class Bench:
    """A router with its client: frames in, observations out."""

    def __init__(self, router: Router, client: aiohttp.ClientSession, champion: FakeDetector, candidate: FakeDetector):
        self.router = router
        self.client = client
        self.champion = champion
        self.candidate = candidate
        self.url = f"http://127.0.0.1:{router.port}"
        self.admin_url = f"http://127.0.0.1:{router.admin_port}"
        self.authorization = {"authorization": f"Bearer {router.token}"}
        self._generation = 0

    def snapshot(self, mode: str, share: float = 0.0, **changes: Any) -> dict[str, Any]:
        self._generation += 1
        return {
            "epoch": 1,
            "generation": self._generation,
            "mode": mode,
            "share": share,
            "promotion": 7,
            "champion": self.champion.backend(),
            "candidate": None if mode == "champion" else self.candidate.backend(),
            **changes,
        }

    async def route(self, mode: str, share: float = 0.0, **changes: Any) -> None:
        status, body = await self.put(self.snapshot(mode, share, **changes))
        assert status == 200, body

    async def put(self, snapshot: Any) -> tuple[int, dict[str, Any]]:
        url = f"{self.admin_url}/routing"
        async with self.client.put(url, json=snapshot, headers=self.authorization) as response:
            return response.status, await response.json()

    async def detect(self, camera: str = "cam01", request_id: str | None = None, body: bytes = b"frame") -> Got:
        headers = {"x-camera-id": camera, "content-type": "image/jpeg"}
        if request_id is not None:
            headers["x-request-id"] = request_id
        async with self.client.post(f"{self.url}/v1/detect?conf=0.3", data=body, headers=headers) as response:
            return Got(response.status, response.headers, await response.read())

    async def get(self, path: str) -> dict[str, Any]:
        async with self.client.get(self.admin_url + path, headers=self.authorization) as response:
            assert response.status == 200, await response.text()
            return dict(await response.json())

    async def until(self, holds: Callable[[], bool | Awaitable[bool]]) -> None:
        await until(holds)

    async def observations(self, at_least: int) -> list[dict[str, Any]]:
        async def enough() -> bool:
            return len((await self.get("/observations"))["observations"]) >= at_least

        await until(enough)
        return list((await self.get("/observations"))["observations"])


async def until(holds: Callable[[], bool | Awaitable[bool]]) -> None:
    """Return once `holds()`; fail after PATIENCE_S."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = holds()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.005)


@pytest.fixture
async def more_detectors() -> AsyncIterator[Callable[[str], Awaitable[FakeDetector]]]:
    """Start further detectors by version."""
    started: list[FakeDetector] = []

    async def start(version: str) -> FakeDetector:
        started.append(await FakeDetector(version).start())
        return started[-1]

    yield start
    for detector in started:
        await detector.stop()


@pytest.fixture
async def champion() -> AsyncIterator[FakeDetector]:
    detector = await FakeDetector("1").start()
    yield detector
    await detector.stop()


@pytest.fixture
async def candidate() -> AsyncIterator[FakeDetector]:
    detector = await FakeDetector("2").start()
    yield detector
    await detector.stop()


@pytest.fixture
def limits() -> ForwardingLimits:
    """Override to change the budgets of the router."""
    return ForwardingLimits(candidate_timeout_s=PATIENCE_S)


@pytest.fixture
async def bench(
    tmp_path: Path, champion: FakeDetector, candidate: FakeDetector, limits: ForwardingLimits
) -> AsyncIterator[Bench]:
    settings = RouterSettings(tmp_path / "router", port=0, admin_port=0, watch_interval_s=0.02, forwarding=limits)
    router = Router(settings)
    await router.start()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        yield Bench(router, client, champion, candidate)
    await router.drain()

"""BentoML's paths reach BentoML, with a bounded body; all others reach the detector."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from bentos.detector.app import DetectApp, Runtime
from bentos.detector.batcher import Batcher
from bentos.detector.detector import Detector
from bentos.detector.front_door import FrontDoor
from bentos.detector.telemetry import Telemetry


async def echo(request: Request) -> Response:
    return PlainTextResponse(f"bento {len(await request.body())}")


@pytest.fixture
async def client(fake_dir):
    bento = Starlette(
        routes=[Route("/detect", echo, methods=["GET", "POST"]), Mount("/assets", app=PlainTextResponse("file"))]
    )
    app = DetectApp()
    detector = Detector.load(fake_dir)
    app.runtime = Runtime(detector, Batcher(detector), Telemetry("7"), "7", max_body_bytes=10)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(FrontDoor(bento, app)), base_url="http://test"
    ) as client:
        yield client, app
    if app.runtime is not None:
        app.runtime.batcher.close(5)


async def test_who_answers(client: Any) -> None:
    asked, _ = client
    assert (await asked.get("/detect")).text == "bento 0"
    assert (await asked.get("/assets/a.js")).text == "file"
    assert (await asked.get("/v1/model")).json()["name"] == "tiny"
    assert (await asked.get("/detect/more")).json()["error"]["code"] == "not_found"


async def test_bodies_for_bento_are_bounded(client: Any) -> None:
    asked, app = client
    assert (await asked.post("/detect", content=b"0123456789")).text == "bento 10"
    refused = await asked.post("/detect", content=b"0123456789x")
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "body_too_large")
    app.runtime.batcher.close(5)
    app.runtime = None
    assert (await asked.post("/detect", content=b"0")).status_code == 503

"""BentoML's paths reach BentoML, with a bounded body; all others reach the detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from bentos.detector.access import Access, KeyRing
from bentos.detector.app import DetectApp
from bentos.detector.batcher import Batcher
from bentos.detector.detector import Detector
from bentos.detector.front_door import FrontDoor
from bentos.detector.keys import KeyFile, make_key, write_keys
from bentos.detector.logs import RequestLog
from bentos.detector.runtime import Runtime
from bentos.detector.telemetry import Telemetry


async def echo(request: Request) -> Response:
    return PlainTextResponse(f"bento {len(await request.body())}")


@pytest.fixture
async def client(fake_dir):
    bento = Starlette(
        routes=[
            Route("/detect", echo, methods=["GET", "POST"]),
            Route("/metrics", echo),
            Route("/livez", echo),
            Mount("/assets", app=PlainTextResponse("file")),
        ]
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


async def test_keys_are_for_bentos_paths_too(client: Any, tmp_path: Path) -> None:
    asked, app = client
    camera, camera_key = make_key("camera", ("detect",))
    operator, operator_key = make_key("operator", ("operate",))
    write_keys(tmp_path / "keys.json", KeyFile(keys=(camera_key, operator_key)))
    app.access = Access(KeyRing(tmp_path / "keys.json"))

    async def statuses(path: str, method: str = "GET") -> list[int]:
        headers = [{}, {"x-api-key": camera}, {"x-api-key": operator}]
        return [(await asked.request(method, path, headers=extra)).status_code for extra in headers]

    assert await statuses("/livez") == [200, 200, 200]
    assert await statuses("/metrics") == [401, 403, 200]
    assert await statuses("/assets/a.js") == [401, 403, 200]
    assert await statuses("/detect") == [401, 200, 403]
    refused = await asked.post("/detect", content=b"0123456789x")
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthorized"), "before its body"


async def test_the_access_log_has_bentos_paths(client: Any, caplog: Any) -> None:
    asked, app = client
    app.log = RequestLog(access=True)
    with caplog.at_level("INFO", "bentos.detector"):
        await asked.get("/metrics", headers={"x-request-id": "r-1"})
        await asked.delete("/metrics")
    assert [(record.fields["path"], record.fields["status"]) for record in caplog.records] == [
        ("/metrics", 200),
        ("/metrics", 405),
    ]
    assert caplog.records[0].fields["request_id"] == "r-1"

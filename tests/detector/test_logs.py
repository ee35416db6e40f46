"""What the log says of a request, and what it must never say."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.detector.access import Access, KeyRing
from bentos.detector.keys import KeyFile, make_key, write_keys
from bentos.detector.logs import (
    JsonFormatter,
    RequestLog,
    TextFormatter,
    Visit,
    configure_logs,
    fields_of,
    request_id_now,
)

JPEG = {"content-type": "image/jpeg"}


class Kept(logging.Handler):
    """Keeps lines as JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    handler, logger = Kept(), logging.getLogger("bentos.detector")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.lines
    logger.removeHandler(handler)
    logger.setLevel(level)


async def test_a_quick_answer_has_no_line_unless_asked_for(open_app: Any, lines: Any, picture: bytes) -> None:
    client, app = open_app()
    app.log = RequestLog(slow_ms=1e6)
    await client.post("/v1/detect", content=picture, headers=JPEG)
    assert lines == []
    app.log = RequestLog(access=True, slow_ms=1e6)
    app.log.model_version = "7"
    await client.post("/v1/detect?conf=0.3", content=picture, headers={**JPEG, "x-request-id": "r-1"})
    (line,) = lines
    assert line.pop("duration_ms") >= line.pop("upload_ms") >= 0
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "bentos.detector",
        "message": "answered",
        "request_id": "r-1",
        "method": "POST",
        "path": "/v1/detect",
        "status": 200,
        "code": "ok",
        "bytes": len(picture),
        "model_version": "7",
    }


async def test_failures_are_always_there_and_slow_ones(open_app: Any, lines: Any, picture: bytes) -> None:
    client, app = open_app('{"fail": true}')
    app.log = RequestLog(slow_ms=1e6)
    failed = await client.post("/v1/detect", content=picture, headers=JPEG)
    refused = await client.post("/v1/detect", content=b"nothing", headers=JPEG)
    found = [(line["level"], line["code"], line["message"]) for line in lines]
    assert found == [
        ("warning", "engine_failed", failed.json()["error"]["message"]),
        ("info", "bad_image", refused.json()["error"]["message"]),
    ]
    lines.clear()
    app.log = RequestLog(slow_ms=1e-6)
    await client.get("/v1/model")
    assert [(line["message"], line["path"]) for line in lines] == [("slow", "/v1/model")]


def test_a_flood_is_bounded_and_counted(lines: Any) -> None:
    log, now = RequestLog(slow_ms=1e6), [0]
    log._budgets["failed"].take = lambda _: 1 if now[0] else 0  # type: ignore[method-assign]
    for full in (0, 1, 1, 1, 0, 0):
        now[0] = full
        log.answered(Visit("r", "POST", "/v1/detect"), 503, "overloaded", "full")
    assert [line.get("left_out") for line in lines] == [None, 3, None]


def test_the_bound_is_a_bound(lines: Any) -> None:
    log = RequestLog(slow_ms=1e6)
    for _ in range(1000):
        log.answered(Visit("r", "POST", "/v1/detect"), 400, "bad_image", "no")
    assert 20 <= len(lines) < 500


async def test_no_token_no_camera_no_image(open_app: Any, lines: Any, picture: bytes, tmp_path: Path) -> None:
    client, app = open_app()
    token, key = make_key("gate-cameras", ("detect",))
    write_keys(tmp_path / "keys.json", KeyFile(keys=(key,)))
    app.access = Access(KeyRing(tmp_path / "keys.json"))
    app.log = RequestLog(access=True)
    headers = {**JPEG, "x-api-key": token, "x-camera-id": "secret-camera"}
    await client.post("/v1/detect", content=picture, headers=headers)
    await client.post("/v1/detect", content=picture[:100], headers=headers)
    await client.post("/v1/detect", content=picture, headers={**headers, "x-api-key": token + "x"})
    text = json.dumps(lines)
    assert [line.get("key") for line in lines] == ["gate-cameras", "gate-cameras", None]
    assert [line["status"] for line in lines] == [200, 400, 401]
    for secret in (token, token.rpartition("_")[2], "secret-camera"):
        assert secret not in text


async def test_lines_within_a_request_bear_its_id(open_app: Any, lines: Any, picture: bytes, monkeypatch: Any) -> None:
    client, app = open_app()

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(app.runtime.batcher, "submit", broken)
    await client.post("/v1/detect", content=picture, headers={**JPEG, "x-request-id": "r-9"})
    assert [line["request_id"] for line in lines] == ["r-9", "r-9"]
    assert "ZeroDivisionError" in lines[0]["exception"]


def record_of(message: str, **fields: Any) -> logging.LogRecord:
    record = logging.LogRecord("bentos.detector", logging.INFO, __file__, 1, message, None, None)
    record.fields = fields
    return record


@given(st.dictionaries(st.sampled_from(["path", "code", "key"]), st.text(max_size=30)), st.text(max_size=30))
def test_nothing_that_clients_send_starts_a_line_of_its_own(fields: dict[str, str], request_id: str) -> None:
    record = record_of("answered", request_id=request_id, **fields)
    assert len(TextFormatter().format(record).splitlines()) == 1
    line = JsonFormatter().format(record)
    assert len(line.split("\n")) == 1
    content = json.loads(line)
    assert {name: content[name] for name in fields} == fields


def test_the_id_of_the_task_is_taken_where_none_is_given() -> None:
    token = request_id_now.set("r-2")
    try:
        assert fields_of(record_of("x")) == {"request_id": "r-2"}
        assert fields_of(record_of("x", request_id="r-3")) == {"request_id": "r-3"}
    finally:
        request_id_now.reset(token)
    assert fields_of(record_of("x")) == {}


@pytest.mark.parametrize("style", ["text", "json"])
def test_configured_it_writes_to_standard_output(style: Any, capsys: Any) -> None:
    logger = logging.getLogger("bentos.detector")
    kept = (logger.handlers[:], logger.level, logger.propagate, logging.getLogger().handlers[:])
    logging.getLogger().handlers[:] = []
    try:
        configure_logs(style)
        logger.info("hello", extra={"fields": {"status": 200}})
    finally:
        logger.handlers[:], logger.level, logger.propagate, logging.getLogger().handlers[:] = kept
    written = capsys.readouterr().out
    if style == "json":
        assert json.loads(written)["status"] == 200
    else:
        assert written.endswith("INFO hello status=200\n")

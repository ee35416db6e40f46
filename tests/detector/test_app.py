"""The HTTP contract in process: answers, and a reason for everything that is no frame."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bentos.detector.app import DetectApp
from bentos.detector.contract import DetectAnswer, ErrorAnswer, read_spec
from bentos.detector.drill import parse_drill
from bentos.detector.recorder import Recorder, read_records

JPEG = {"content-type": "image/jpeg"}
HUGE = b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, 60000, 60000, 3) + bytes(9)


async def test_an_answer_follows_the_contract(open_app, picture) -> None:
    client, app = open_app()
    answer = await client.post(
        "/v1/detect", content=picture, headers={**JPEG, "x-request-id": "r-1", "x-camera-id": "c"}
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"] == "r-1"
    content = DetectAnswer.model_validate(answer.json())
    assert content.request_id == "r-1"
    assert (content.model.name, content.model.version, content.model.digest) == ("tiny", "7", app.runtime.spec.digest)
    assert (content.image.width, content.image.height) == (128, 64)
    (found,) = content.detections
    assert (found.class_id, found.class_name) == (0, "car")
    assert found.confidence == pytest.approx(0.9)
    assert (found.box.x1, found.box.y1, found.box.x2, found.box.y2) == pytest.approx((32, 16, 64, 48), abs=2)
    stages = content.timing_ms
    assert stages.total >= stages.decode + stages.inference + stages.postprocess


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
async def test_formats_raw_and_in_a_form(open_app, paint, encode, form) -> None:
    client, _ = open_app()
    data = encode(paint({1: (32, 16, 64, 48)}, (128, 64)), form, **({"lossless": True} if form == "WEBP" else {}))
    raw = await client.post("/v1/detect", content=data, headers={"content-type": f"image/{form.lower()}; q=1"})
    sent = await client.post("/v1/detect", files={"image": ("a.bin", data, "application/octet-stream")})
    assert raw.status_code == sent.status_code == 200
    assert raw.json()["detections"] == sent.json()["detections"]
    assert raw.json()["detections"][0]["class_name"] == "truck"


async def test_query_overrides_the_thresholds(open_app, picture) -> None:
    client, _ = open_app()
    answer = await client.post("/v1/detect?conf=0.95&iou=0.5&max_det=1", content=picture, headers=JPEG)
    assert answer.json()["detections"] == []


async def test_the_model_describes_itself(open_app) -> None:
    client, app = open_app()
    answer = (await client.get("/v1/model")).json()
    assert answer.pop("version") == "7"
    assert answer == app.runtime.spec.model_dump(mode="json")


@pytest.mark.parametrize(
    ("path", "media"), [("/ui", "text/html; charset=utf-8"), ("/openapi.json", "application/json")]
)
async def test_page_and_document_need_no_model(open_app, path, media) -> None:
    client, app = open_app()
    ready = await client.get(path)
    runtime, app.runtime = app.runtime, None
    cold = await client.get(path)
    head = await client.head(path)
    app.runtime = runtime
    assert ready.status_code == cold.status_code == head.status_code == 200
    assert ready.headers["content-type"] == cold.headers["content-type"] == media
    assert (head.content, head.headers["content-length"]) == (b"", str(len(cold.content)))
    if path == "/ui":
        policy = ready.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    else:
        count = next(
            item for item in ready.json()["paths"]["/v1/detect"]["post"]["parameters"] if item["name"] == "max_det"
        )
        assert count["schema"]["maximum"] == runtime.spec.top_k


async def test_head_is_get_without_its_body(open_app) -> None:
    client, _ = open_app()
    got, head = await client.get("/v1/model"), await client.head("/v1/model")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


async def chunks(size: int, num: int) -> AsyncIterator[bytes]:
    for _ in range(num):
        yield bytes(size)


BAD = [
    ("empty", {"content": b"", "headers": JPEG}, 400, "bad_image", "the body is empty"),
    ("truncated", {"content": "truncated", "headers": JPEG}, 400, "bad_image", "is it complete"),
    ("no image", {"content": b"hello world", "headers": JPEG}, 400, "bad_image", "no JPEG, PNG or WebP"),
    ("huge header", {"content": HUGE, "headers": JPEG}, 413, "image_too_large", "60000 x 60000 pixels"),
    ("50 MB", {"content": bytes(50_000_000), "headers": JPEG}, 413, "body_too_large", "larger than 20 MB"),
    ("chunked", {"content": "chunks", "headers": JPEG}, 413, "body_too_large", "larger than 20 MB"),
    ("no type", {"content": b"x"}, 415, "unsupported_media", "content type ''"),
    ("wrong type", {"content": b"x", "headers": {"content-type": "text/html"}}, 415, "unsupported_media", "curl: -H"),
    ("other field", {"files": {"file": b"x"}}, 400, "bad_request", "no field 'image'"),
    ("text in a form", {"files": {"image": b"hello"}}, 400, "bad_image", "no JPEG, PNG or WebP"),
    ("conf", {"content": b"x", "headers": JPEG, "params": {"conf": "x"}}, 422, "bad_parameter", "conf = 'x'"),
    ("conf range", {"content": b"x", "headers": JPEG, "params": {"conf": "1.5"}}, 422, "bad_parameter", "conf = 1.5"),
    ("max_det", {"content": b"x", "headers": JPEG, "params": {"max_det": "9"}}, 422, "bad_parameter", "1 to 8"),
    ("camera", {"content": b"x", "headers": {**JPEG, "x-camera-id": "\x07"}}, 422, "bad_parameter", "X-Camera-ID"),
]


@pytest.mark.parametrize(
    ("request_", "status", "code", "reason"), [row[1:] for row in BAD], ids=[row[0] for row in BAD]
)
async def test_bad_input_gets_a_reason_and_never_a_5xx(open_app, picture, request_, status, code, reason) -> None:
    client, _ = open_app()
    content = request_.get("content")
    if content == "truncated":
        request_ = {**request_, "content": picture[: len(picture) // 2]}
    if content == "chunks":
        request_ = {**request_, "content": chunks(1_000_000, 30)}
    answer = await client.post("/v1/detect", **request_)
    assert answer.status_code == status
    error = ErrorAnswer.model_validate(answer.json()).error
    assert error.code == code
    assert reason in error.message
    assert error.request_id == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("POST", "/v1/detect/", 404, "not_found"),
        ("POST", "/v1/%00%ff", 404, "not_found"),
        ("GET", "/v1/detect", 405, "method_not_allowed"),
        ("DELETE", "/v1/model", 405, "method_not_allowed"),
    ],
)
async def test_other_paths_and_methods(open_app, method, path, status, code) -> None:
    client, _ = open_app()
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    if status == 405:
        assert answer.headers["allow"] == ("POST" if path == "/v1/detect" else "GET, HEAD")


async def call(app: DetectApp, headers: list[tuple[bytes, bytes]], receive: Any) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/v1/detect", "method": "POST", "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    return sent


async def test_a_post_without_a_body_wants_a_length(open_app) -> None:
    _, app = open_app()
    sent = await call(app, [(b"content-type", b"image/jpeg")], None)
    assert sent[0]["status"] == 411


async def test_a_client_that_leaves_costs_no_inference(open_app, hold, picture) -> None:
    client, app = open_app()
    gate, sizes = hold(app)
    first = asyncio.create_task(client.post("/v1/detect", content=picture, headers=JPEG))
    while not sizes:
        await asyncio.sleep(0)
    messages = [{"type": "http.request", "body": picture}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    headers = [(b"content-type", b"image/jpeg"), (b"content-length", str(len(picture)).encode())]
    sent = await asyncio.wait_for(call(app, headers, receive), 30)
    assert sent[0]["status"] == 499
    gate.set()
    assert (await first).status_code == 200
    await asyncio.to_thread(app.runtime.batcher.close, 10)
    assert sizes == [1]


async def test_overload_says_when_to_come_back(open_app, hold, picture) -> None:
    client, app = open_app(max_queue=1)
    gate, _ = hold(app)
    first = asyncio.create_task(client.post("/v1/detect", content=picture, headers=JPEG))
    while app.runtime.batcher.num_waiting == 0:
        await asyncio.sleep(0)
    second = await client.post("/v1/detect", content=picture, headers=JPEG)
    assert second.status_code == 503
    assert second.json()["error"]["code"] == "overloaded"
    assert int(second.headers["retry-after"]) >= 1
    gate.set()
    assert (await first).status_code == 200


async def test_before_and_after_its_time_the_app_says_so(open_app, picture) -> None:
    client, app = open_app()
    runtime, app.runtime = app.runtime, None
    answer = await client.post("/v1/detect", content=picture, headers=JPEG)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
    app.runtime = runtime


async def test_a_failing_engine_is_a_clear_503(open_app, picture) -> None:
    client, _ = open_app('{"fail": true}')
    answer = await client.post("/v1/detect", content=picture, headers=JPEG)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_failed")


async def test_the_unforeseen_is_an_enveloped_500_without_its_insides(open_app, picture, monkeypatch) -> None:
    client, app = open_app()

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(app.runtime.detector, "finish", broken)
    monkeypatch.setattr(app.runtime.batcher, "submit", broken)
    answer = await client.post("/v1/detect", content=picture, headers=JPEG)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "secret" not in answer.text


async def test_drill(open_app, picture) -> None:
    client, _ = open_app(drill=parse_drill("fail:1@2"))
    statuses = [(await client.post("/v1/detect", content=picture, headers=JPEG)).status_code for _ in range(3)]
    assert statuses == [200, 500, 500]


async def test_features_are_recorded_once_a_second_and_camera(open_app, picture, tmp_path) -> None:
    recorder = Recorder(tmp_path / "records", interval_s=3600)
    client, _ = open_app(recorder=recorder)
    for camera in ("a", "a", "b"):
        await client.post("/v1/detect", content=picture, headers={**JPEG, "x-camera-id": camera})
    await asyncio.to_thread(recorder.close)
    records = list(read_records(tmp_path / "records"))
    assert [record.camera for record in records] == ["a", "b"]
    assert records[0].class_counts == {"car": 1, "truck": 0, "bus": 0}
    assert records[0].model_version == "7"
    assert records[0].mean_box_share == pytest.approx(0.125, abs=0.02)


async def test_many_at_once_get_each_their_own(open_app, paint, encode) -> None:
    client, _ = open_app()
    images = [encode(paint({i % 3: (8, 8, 40 + i, 24)}, (128, 64)), "PNG") for i in range(30)]
    answers = await asyncio.gather(
        *(client.post("/v1/detect", content=image, headers={"content-type": "image/png"}) for image in images)
    )
    assert [answer.json()["detections"][0]["class_id"] for answer in answers] == [i % 3 for i in range(30)]


def test_the_default_version_and_digest_come_from_the_model(fake_dir) -> None:
    from bentos.detector.runtime import start_runtime, stop_runtime
    from bentos.detector.settings import Settings

    runtime = start_runtime(Settings(model_dir=fake_dir))
    assert runtime.model_version == read_spec(fake_dir).digest[:12]
    stop_runtime(runtime, 5)

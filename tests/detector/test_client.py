"""The Python client: against the real service, and against answers that are made up."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.detector import client as clients
from bentos.detector.client import (
    AsyncClient,
    BadAnswer,
    Client,
    ClientError,
    KeyRejected,
    NoAnswer,
    RejectedError,
    RequestRejected,
    Retries,
    ServiceRejected,
    TryLater,
    UnknownImage,
)
from bentos.detector.contract import DetectAnswer

ROOT = Path(__file__).resolve().parents[2]
JPEG = b"\xff\xd8\xff\xe0 made up"
ANSWER: dict[str, Any] = {
    "request_id": "r",
    "model": {"name": "m", "version": "1", "digest": "d"},
    "image": {"width": 2, "height": 1},
    "detections": [],
    "timing_ms": {"decode": 1, "queue": 1, "inference": 1, "postprocess": 1, "total": 4},
}


def refused(status: int, code: str = "no", **headers: str) -> httpx.Response:
    error = {"code": code, "message": "not now", "request_id": "r-9", "details": {"a": 1}}
    return httpx.Response(status, json={"error": error}, headers=headers)


Step = httpx.Response | type[httpx.RequestError]


class Told:
    """A service that answers as told, and the waits between."""

    def __init__(self, *script: Step) -> None:
        self.script = iter(script)
        self.requests: list[httpx.Request] = []
        self.waits_s: list[float] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        step = next(self.script)
        if isinstance(step, httpx.Response):
            return step
        raise step("made up", request=request)

    def detect(self, kind: str, image: Any = JPEG, retries: Retries | None = None, **asked: Any) -> DetectAnswer:
        """One frame by the client of this kind."""
        transport = httpx.MockTransport(self.answer)
        if kind == "sync":
            with Client("http://test/", transport=transport, sleep=self.waits_s.append, retries=retries) as client:
                return client.detect(image, **asked)

        async def sleep(wait_s: float) -> None:
            self.waits_s.append(wait_s)

        async def ask() -> DetectAnswer:
            async with AsyncClient("http://test/", transport=transport, sleep=sleep, retries=retries) as client:
                return await client.detect(image, **asked)

        return asyncio.run(ask())


both = pytest.mark.parametrize("kind", ["sync", "async"])


@both
def test_what_is_sent(kind: str) -> None:
    told = Told(httpx.Response(200, json=ANSWER))
    answer = told.detect(kind, camera_id="gate 7", conf=0.5, iou=0.0, max_det=3, request_id="r-1")
    assert answer == DetectAnswer.model_validate(ANSWER)
    (request,) = told.requests
    assert str(request.url) == "http://test/v1/detect?conf=0.5&iou=0.0&max_det=3"
    assert (request.method, request.content) == ("POST", JPEG)
    sent = {name: request.headers[name] for name in ("content-type", "x-camera-id", "x-request-id", "content-length")}
    assert sent == {
        "content-type": "image/jpeg",
        "x-camera-id": "gate 7",
        "x-request-id": "r-1",
        "content-length": str(len(JPEG)),
    }
    assert "authorization" not in request.headers
    assert request.extensions["timeout"]["read"] == 30.0


@both
def test_what_is_not_given_is_not_sent(kind: str) -> None:
    told = Told(httpx.Response(200, json=ANSWER))
    told.detect(kind)
    (request,) = told.requests
    assert str(request.url) == "http://test/v1/detect"
    assert "x-camera-id" not in request.headers
    assert len(request.headers["x-request-id"]) == 32


@both
def test_images_are_bytes_paths_and_open_files(kind: str, picture: bytes, tmp_path: Path) -> None:
    path = tmp_path / "frame"
    path.write_bytes(picture)
    with path.open("rb") as file:
        told = Told(*[httpx.Response(200, json=ANSWER)] * 3)
        for image in (picture, path, file):
            told.detect(kind, image)
    assert [request.content for request in told.requests] == [picture] * 3
    with pytest.raises(FileNotFoundError):
        told.detect(kind, tmp_path / "nowhere")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_the_content_type_is_read_from_the_bytes(form: str, paint: Any, encode: Callable[..., bytes]) -> None:
    told = Told(httpx.Response(200, json=ANSWER))
    told.detect("sync", encode(paint({}, (8, 8)), form))
    assert told.requests[0].headers["content-type"] == f"image/{form.lower()}"


@both
@pytest.mark.parametrize(("data", "reason"), [(b"", "it is empty"), (b"GIF89a", "it starts with 47 49 46 38 39 61")])
def test_what_is_no_image_is_not_sent(kind: str, data: bytes, reason: str) -> None:
    told = Told()
    with pytest.raises(UnknownImage, match=reason):
        told.detect(kind, data)
    assert told.requests == []


@both
def test_later_is_waited_for(kind: str) -> None:
    busy, often = refused(503, **{"Retry-After": "2"}), refused(429, **{"Retry-After": "0"})
    told = Told(busy, often, httpx.Response(200, json=ANSWER))
    told.detect(kind)
    assert len({request.headers["x-request-id"] for request in told.requests}) == 1
    assert len(told.requests) == 3
    assert 2 <= told.waits_s[0] <= 2.5
    assert 0.2 <= told.waits_s[1] <= 0.25


@both
@pytest.mark.parametrize("broken", [httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError])
def test_a_broken_connection_is_tried_again(kind: str, broken: type[httpx.RequestError]) -> None:
    told = Told(broken, httpx.Response(200, json=ANSWER))
    told.detect(kind)
    assert len(told.requests) == 2
    told = Told(*[broken] * 9)
    with pytest.raises(NoAnswer, match="POST http://test/v1/detect: made up"):
        told.detect(kind)
    assert len(told.requests) == 3


@both
@pytest.mark.parametrize("end", [httpx.ReadTimeout, httpx.WriteTimeout, 500, 502, 400, 401, 413, 422])
def test_what_may_not_be_tried_again_is_not(kind: str, end: Any) -> None:
    lost = isinstance(end, type)
    told = Told(end if lost else refused(end), httpx.Response(200, json=ANSWER))
    with pytest.raises(NoAnswer if lost else RejectedError):
        told.detect(kind)
    assert (len(told.requests), told.waits_s) == (1, [])


@both
def test_retries_have_an_end(kind: str) -> None:
    told = Told(*[refused(503, **{"Retry-After": "1"}) for _ in range(9)])
    with pytest.raises(TryLater) as caught:
        told.detect(kind, retries=Retries(most=4))
    assert len(told.requests) == 5
    assert caught.value.retry_after_s == 1
    told = Told(refused(503))
    with pytest.raises(TryLater):
        told.detect(kind, retries=Retries(most=0))
    told = Told(refused(503, **{"Retry-After": "60"}))
    with pytest.raises(TryLater):
        told.detect(kind)
    assert told.waits_s == []


@given(st.integers(400, 599), st.one_of(st.none(), st.text(st.characters(codec="ascii", categories=["L", "N", "P"]))))
def test_any_refusal_is_of_one_tree(status: int, after: str | None) -> None:
    headers = {} if after is None else {"Retry-After": after}
    told = Told(*[refused(status, "some_code", **headers) for _ in range(3)])
    with pytest.raises(RejectedError) as caught:
        told.detect("sync", retries=Retries(longest_wait_s=0))
    error = caught.value
    assert (error.status, error.code, error.message, error.request_id) == (status, "some_code", "not now", "r-9")
    assert error.details == {"a": 1}
    assert str(error) == f"not now ({status} some_code, request r-9)"
    assert isinstance(error, RequestRejected) == (status < 500 and status != 429)
    assert isinstance(error, ServiceRejected) == (status >= 500 or status == 429)
    assert isinstance(error, KeyRejected) == (status in (401, 403))
    assert isinstance(error, TryLater) == (status in (429, 503))
    assert error.retry_after_s == (int(after) if after and after.isdigit() else None)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={**ANSWER, "image": None}),
        httpx.Response(502, text="bad gateway"),
        httpx.Response(404, json={"detail": "Not Found"}),
        httpx.Response(301, headers={"location": "https://elsewhere/"}),
    ],
)
def test_what_is_no_answer_of_a_detector_is_said(answer: httpx.Response) -> None:
    with pytest.raises(BadAnswer, match=f"POST http://test/v1/detect answered {answer.status_code}"):
        Told(answer).detect("sync")


def test_an_answer_may_grow() -> None:
    more = {**ANSWER, "new": 1, "model": {**ANSWER["model"], "new": 2}}
    assert Told(httpx.Response(200, json=more)).detect("sync") == DetectAnswer.model_validate(ANSWER)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Client("localhost:3000"), "expected http://HOST:PORT"),
        (lambda: Client("http://"), "expected http://HOST:PORT"),
        (lambda: Client("http://test", api_key="a\nb"), "api_key = a key: expected printable"),
        (lambda: Told().detect("sync", camera_id="Süd"), "x-camera-id = 'Süd': expected printable"),
        (lambda: Told().detect("sync", request_id="a\r\nb: c"), "x-request-id"),
    ],
)
def test_wrong_arguments_are_said(make: Callable[[], object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make()


def test_nothing_listens() -> None:
    with Client("http://127.0.0.1:9", retries=Retries(most=0)) as client:
        assert client.ready() is False
        with pytest.raises(NoAnswer, match="GET http://127.0.0.1:9/v1/model"):
            client.model()


def test_the_real_service(served: tuple[str, Path], picture: bytes) -> None:
    with Client(served[0]) as client:
        assert client.ready() is True
        model = client.model()
        assert (model.name, model.version, model.classes[0]) == ("tiny", "7", "car")
        answer = client.detect(picture, request_id="mine")
        assert answer.request_id == "mine"
        assert [found.class_name for found in answer.detections] == ["car"]
        assert client.detect(picture, conf=0.99).detections == ()
        with pytest.raises(RequestRejected) as caught:
            client.detect(picture[: len(picture) // 2])
        assert (caught.value.status, caught.value.code) == (400, "bad_image")
        with pytest.raises(RequestRejected, match="expected 1 to 8"):
            client.detect(picture, max_det=1000)


async def test_the_real_service_awaited(served: tuple[str, Path], picture: bytes) -> None:
    async with AsyncClient(served[0]) as client:
        assert await client.ready() is True
        assert (await client.model()).version == "7"
        images = [picture, b"no image", picture[:200], picture]
        answers = [answer async for answer in client.detect_many(images, concurrency=2, camera_id="gate")]
    kinds = [type(answer) for answer in answers]
    assert kinds == [DetectAnswer, UnknownImage, RequestRejected, DetectAnswer]


async def test_keys(served_with_keys: tuple[str, str], picture: bytes) -> None:
    url, token = served_with_keys
    async with AsyncClient(url, api_key=token) as client:
        assert len((await client.detect(picture)).detections) == 1
    async with AsyncClient(url) as client:
        with pytest.raises(KeyRejected, match="401 unauthorized"):
            await client.detect(picture)


async def test_no_more_are_under_way_than_allowed() -> None:
    under_way, most, taken = 0, 0, 0
    gate = asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 3:
            gate.set()
        await gate.wait()
        under_way -= 1
        return httpx.Response(200, json={**ANSWER, "request_id": str(len(request.content))})

    def images() -> Iterator[bytes]:
        nonlocal taken
        for taken in range(1, 21):
            yield JPEG + bytes(taken)

    async with AsyncClient("http://test", transport=httpx.MockTransport(answer)) as client:
        answers = client.detect_many(images(), concurrency=3)
        first = await anext(answers)
        assert isinstance(first, DetectAnswer) and first.request_id == str(len(JPEG) + 1)
        assert taken <= 4
        rest = [each.request_id async for each in answers if isinstance(each, DetectAnswer)]
        assert rest == [str(len(JPEG) + size) for size in range(2, 21)]
        assert most == 3
        with pytest.raises(ValueError, match="concurrency = 0"):
            await anext(client.detect_many([], concurrency=0))


async def test_leaving_early_leaves_nothing_under_way() -> None:
    forever, all_there, waiting = asyncio.Event(), asyncio.Event(), 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal waiting
        if len(request.content) > len(JPEG):
            waiting += 1
            if waiting == 2:
                all_there.set()
            try:
                await forever.wait()
            finally:
                waiting -= 1
        return httpx.Response(200, json=ANSWER)

    async with AsyncClient("http://test", transport=httpx.MockTransport(answer)) as client:
        answers = client.detect_many([JPEG, JPEG + b"1", JPEG + b"2"], concurrency=3)
        await anext(answers)
        await all_there.wait()
        await answers.aclose()
    assert waiting == 0


def test_every_error_is_offered_and_below_one_root() -> None:
    kinds = [getattr(clients, name) for name in clients.__all__]
    errors = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(errors) == 9 and all(issubclass(kind, ClientError) for kind in errors)


def test_it_is_light() -> None:
    heavy = "{'numpy', 'openvino', 'torch', 'cv2', 'bentoml', 'PIL', 'orjson', 'starlette', 'onnxruntime', 'flows'}"
    code = f"import sys, bentos.detector.client; print(set(sys.modules) & {heavy})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

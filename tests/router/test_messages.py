from __future__ import annotations

import orjson
import pytest

from bentos.router.messages import (
    MAX_CAMERA_ID_BYTES,
    Headers,
    Reply,
    Request,
    end_to_end,
    error_reply,
    read_camera,
    read_request_id,
    render_reply,
    render_request,
)


def request(headers: Headers = [], body: bytes = b"") -> Request:  # noqa: B006 - only read
    return Request(b"POST", b"/v1/detect?conf=0.5", headers, body)


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ([], []),
        ([(b"accept", b"*/*"), (b"connection", b"keep-alive"), (b"keep-alive", b"5")], [b"accept"]),
        ([(b"connection", b"close, X-Secret"), (b"x-secret", b"1"), (b"x-open", b"1")], [b"x-open"]),
        ([(b"transfer-encoding", b"chunked"), (b"content-length", b"3"), (b"te", b"trailers")], []),
        ([(b"upgrade", b"h2c"), (b"http2-settings", b"x"), (b"expect", b"100-continue"), (b"host", b"a")], [b"host"]),
        ([(b"set-cookie", b"a"), (b"set-cookie", b"b")], [b"set-cookie", b"set-cookie"]),
    ],
)
def test_only_end_to_end_headers_travel(headers: Headers, kept: list[bytes]) -> None:
    assert [name for name, _ in end_to_end(headers)] == kept


@pytest.mark.parametrize("given", [b"a", b"0f-9_x.Z", b"~" * 128])
def test_a_sound_request_id_is_kept(given: bytes) -> None:
    assert read_request_id([(b"x-request-id", given)]) == given


@pytest.mark.parametrize("given", [b"", b"two words", b"x" * 129, "é".encode(), b"a\n"])
def test_an_unsound_request_id_is_replaced(given: bytes) -> None:
    made = read_request_id([(b"x-request-id", given)])
    assert made != given and len(made) == 32


@pytest.mark.parametrize(
    ("given", "camera"),
    [(b"", ""), (b" cam01 ", "cam01"), ("straße".encode(), "straße"), (b"x" * (MAX_CAMERA_ID_BYTES + 1), "")],
)
def test_the_camera_is_read(given: bytes, camera: str) -> None:
    assert read_camera(request([(b"x-camera-id", given)])) == camera


def test_a_request_is_rendered_with_its_length_and_id() -> None:
    head, body = render_request(request([(b"host", b"a"), (b"x-request-id", b"old")], b"abc"), b"new")
    assert head == b"POST /v1/detect?conf=0.5 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nx-request-id: new\r\n\r\n"
    assert body == b"abc"


@pytest.mark.parametrize(
    ("status", "is_head", "expected"),
    [
        (200, False, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
        (204, False, b"HTTP/1.1 204 No Content\r\n\r\n"),
        (200, True, b"HTTP/1.1 200 OK\r\n\r\n"),
        (299, False, b"HTTP/1.1 299 Unknown\r\ncontent-length: 2\r\n\r\nok"),
    ],
)
def test_a_reply_is_rendered(status: int, is_head: bool, expected: bytes) -> None:
    assert render_reply(Reply(status, [], b"" if status == 204 else b"ok"), True, is_head) == expected


def test_an_error_has_the_envelope() -> None:
    reply = error_reply(503, "overloaded", "come back", request_id=b"id-1", details={"a": 1}, retry_after_s=2)
    assert orjson.loads(reply.body) == {
        "error": {"code": "overloaded", "message": "come back", "request_id": "id-1", "details": {"a": 1}}
    }
    assert (b"retry-after", b"2") in reply.headers and (b"x-request-id", b"id-1") in reply.headers

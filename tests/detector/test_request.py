from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.detector.errors import (
    BadParameter,
    BadRequest,
    BodyTimeout,
    BodyTooLarge,
    ClientGone,
    LengthRequired,
    Overloaded,
)
from bentos.detector.request import (
    MAX_FORM_PARTS,
    Overrides,
    arriving,
    camera_id_of,
    form_image,
    read_body,
    read_query,
    request_id_of,
)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", Overrides()),
        (b"conf=0.5", Overrides(conf=0.5)),
        (b"conf=.5&iou=1&max_det=3", Overrides(0.5, 1.0, 3)),
        (b"conf=5e-1", Overrides(conf=0.5)),
    ],
)
def test_query(query, expected) -> None:
    assert read_query(query) == expected


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (b"conf=", "conf = '': expected a number from 0 to 1"),
        (b"conf=high", "expected a number"),
        (b"conf=nan", "expected a number"),
        (b"iou=inf", "expected a number"),
        (b"max_det=1.5", "expected a whole number"),
        (b"max_det=%00", "expected a whole number"),
        (b"max_det=1_0", "expected a whole number"),
        (b"max_det=%D9%A3", "expected a whole number"),
        (b"max_det=" + b"9" * 400, "expected a whole number"),
        (b"conf=%200.5", "expected a number from 0 to 1"),
        (b"conf=0_1", "expected a number from 0 to 1"),
        (b"conf=1e999", "expected a number from 0 to 1"),
        (b"conf=0.1&conf=0.2", "conf is given twice"),
        (b"confidence=0.1", "unknown parameter 'confidence'; known: conf, iou, max_det"),
        (b"\xff=1", "unknown parameter"),
    ],
)
def test_a_wrong_query_is_refused(query, reason) -> None:
    with pytest.raises(BadParameter, match=reason):
        read_query(query)


@given(st.binary(max_size=60))
def test_any_query_is_read_or_refused(query) -> None:
    try:
        assert isinstance(read_query(query), Overrides)
    except BadParameter as error:
        assert error.status == 422


@pytest.mark.parametrize("given_id", ["abc-1", "A" * 128, "a/b:c_d=e+f.g"])
def test_a_fit_request_id_is_kept(given_id) -> None:
    assert request_id_of({"x-request-id": given_id}) == given_id


@pytest.mark.parametrize("given_id", ["", "A" * 129, "a b", "a\nb", "<script>", "ä"])
def test_an_unfit_request_id_is_replaced(given_id) -> None:
    made = request_id_of({"x-request-id": given_id})
    assert made != given_id
    assert len(made) == 32
    assert made != request_id_of({})


def test_camera_id() -> None:
    assert camera_id_of({}) == ""
    assert camera_id_of({"x-camera-id": " north gate 3 "}) == "north gate 3"
    for wrong in ("ä", "a\x07b", "x" * 129):
        with pytest.raises(BadParameter, match="X-Camera-ID"):
            camera_id_of({"x-camera-id": wrong})


def receive_of(*chunks: bytes, then: str = "http.request"):
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": then, "body": b"", "more_body": False})
    iterator = iter(messages)

    async def receive():
        return next(iterator)

    return receive


LENGTH, CHUNKED = {"content-length": "4"}, {"transfer-encoding": "chunked"}


async def test_bodies_in_one_or_many_pieces() -> None:
    assert await read_body(LENGTH, receive_of(b"abcd"), 4, 5) == b"abcd"
    assert await read_body(CHUNKED, receive_of(b"ab", b"", b"cd"), 4, 5) == b"abcd"
    assert await read_body(LENGTH, receive_of(), 4, 5) == b""


async def test_bodies_that_are_refused() -> None:
    async def never():
        raise AssertionError("a body that announces too much must not be read")

    async def hangs():
        import asyncio

        await asyncio.Event().wait()

    with pytest.raises(LengthRequired):
        await read_body({}, never, 4, 5)
    with pytest.raises(BodyTooLarge):
        await read_body({"content-length": "5"}, never, 4, 5)
    with pytest.raises(BodyTooLarge):
        await read_body(CHUNKED, receive_of(b"abc", b"de"), 4, 5)
    with pytest.raises(ClientGone):
        await read_body(CHUNKED, receive_of(b"abc", then="http.disconnect"), 4, 5)
    with pytest.raises(BodyTimeout):
        await read_body(CHUNKED, hangs, 4, 0)


async def test_bodies_that_arrive_are_bounded_all_together(monkeypatch) -> None:
    monkeypatch.setattr(arriving, "max_bytes", 6)
    steps: list[str] = []

    async def slow():
        steps.append("asked")
        if len(steps) == 1:
            return {"type": "http.request", "body": b"abcd", "more_body": True}
        assert await read_body(LENGTH, receive_of(b"whole, at once"), 20, 5) == b"whole, at once"
        with pytest.raises(Overloaded) as refused:
            await read_body(CHUNKED, receive_of(b"a", b"b", b"c"), 20, 5)
        assert refused.value.retry_after_s == 1
        return {"type": "http.request", "body": b"ef", "more_body": False}

    assert await read_body(CHUNKED, slow, 20, 5) == b"abcdef"
    assert arriving.num_bytes == 0


def form(*parts: tuple[str, bytes], end: bytes = b"--XX--\r\n") -> bytes:
    body = b""
    for name, content in parts:
        body += b'--XX\r\nContent-Disposition: form-data; name="' + name.encode() + b'"; filename="f"\r\n'
        body += b"Content-Type: image/jpeg\r\n\r\n" + content + b"\r\n"
    return body + end


FORM = "multipart/form-data; boundary=XX"


@given(st.binary(max_size=300).filter(lambda content: b"--XX" not in content))
def test_the_image_field_comes_back_as_it_was(content) -> None:
    assert form_image(form(("other", b"1"), ("image", content), ("image", b"second")), FORM) == content


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"", FORM, "has no field 'image'; it has none"),
        (form(), FORM, "has no field 'image'"),
        (form(("file", b"1"), ("note", b"2")), FORM, r"it has \['file', 'note'\]"),
        (form(("image", b"1")), "multipart/form-data", "no boundary"),
        (form(("image", b"1")), "multipart/form-data; boundary=YY", "cannot be read"),
        (form(("image", b"1"), end=b""), FORM, "truncated"),
        (b"no form at all", FORM, "cannot be read"),
    ],
)
def test_broken_forms_are_refused(body, content_type, reason) -> None:
    with pytest.raises(BadRequest, match=reason):
        form_image(body, content_type)


def test_a_form_of_very_many_fields_is_refused_early() -> None:
    fields = [(f"f{index}", b"") for index in range(MAX_FORM_PARTS - 1)]
    assert form_image(form(*fields, ("image", b"1")), FORM) == b"1"
    with pytest.raises(BadRequest, match="more than 64 fields"):
        form_image(form(*fields, ("another", b""), ("image", b"1")), FORM)
    with pytest.raises(BadRequest, match="more than 64 fields"):
        form_image(b"--XX\r\na: b\r\n\r\n\r\n" * 1000, FORM)


@given(st.binary(max_size=300))
def test_any_form_is_read_or_refused(body) -> None:
    try:
        assert isinstance(form_image(b"--XX\r\n" + body, FORM), bytes)
    except BadRequest as error:
        assert error.status == 400

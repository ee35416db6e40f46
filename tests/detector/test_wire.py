"""uvicorn with the bounded protocol, on a real socket: what it lets through, and whom it sends away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import uvicorn

from bentos.detector import wire
from bentos.detector.request import Receive, Scope, Send
from bentos.detector.wire import MAX_HEADER_BYTES, BoundedProtocol

HEAD = b"POST /x HTTP/1.1\r\nhost: h\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with path and body; /early does not read the body."""
    body = b""
    more = scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    content = scope["path"].encode() + b"|" + body
    headers = [(b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    config = uvicorn.Config(app, port=0, lifespan="off", http=BoundedProtocol, log_config=None, timeout_keep_alive=60)
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server._serve())
    while not server.started:
        await asyncio.sleep(0)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer; (0, b"") when the connection is closed."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        return int(head.split()[1]), await self.reader.readexactly(length)

    async def is_closed(self) -> bool:
        try:
            return await self.reader.read(1) == b""
        except ConnectionResetError:
            return True


@pytest.fixture
async def connect(port: int) -> AsyncIterator:
    opened: list[Connection] = []

    async def connect() -> Connection:
        opened.append(Connection(*await asyncio.open_connection("127.0.0.1", port)))
        return opened[-1]

    yield connect
    for one in opened:
        one.writer.close()


async def test_requests_follow_each_other_on_a_connection(connect) -> None:
    one = await connect()
    for number in range(3):
        await one.send(HEAD + b"content-length: 5\r\n\r\n" + b"abcd%d" % number)
        assert await one.answer() == (200, b"/x|abcd%d" % number)


async def test_pieces_of_any_size_make_a_request(connect) -> None:
    one = await connect()
    for byte in HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n":
        await one.send(bytes([byte]))
    assert await one.answer() == (200, b"/x|abc")


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("wish", [b"h2c", b"websocket", b"nonsense"])
async def test_a_wish_for_another_protocol_is_ignored_and_the_body_kept(connect, wish, at_once) -> None:
    one = await connect()
    head = HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + wish + b"\r\nHTTP2-Settings: AA\r\n"
    for _ in range(2):
        data = head + b"content-length: 5\r\n\r\nabcde"
        for part in (data,) if at_once else (data[:50], data[50:-5], data[-5:-2], data[-2:]):
            await one.send(part)
        assert await one.answer() == (200, b"/x|abcde")


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"hello\r\n\r\n", 400, "bad_request"),
        (b"CONNECT a:1 HTTP/1.1\r\nhost: h\r\n\r\n", 400, "bad_request"),
        (HEAD + b"content-length: x\r\n\r\n", 400, "bad_request"),
        (HEAD + b"a: " + b"b" * MAX_HEADER_BYTES + b"\r\n\r\n", 431, "headers_too_large"),
        (HEAD + b"a: " + b"b" * 1_000_000, 431, "headers_too_large"),
        (HEAD + b"a: b\r\n" * 10_000 + b"\r\n", 431, "headers_too_large"),
        (b"GET /" + b"b" * MAX_HEADER_BYTES + b" HTTP/1.1\r\n\r\n", 431, "headers_too_large"),
    ],
)
async def test_what_is_refused_gets_the_envelope_and_is_closed(connect, data, status, code) -> None:
    one = await connect()
    one.writer.write(data)
    answered, body = await one.answer()
    assert (answered, json.loads(body)["error"]["code"]) == (status, code)
    assert await one.is_closed()


async def test_a_header_just_within_the_limit_is_taken(connect) -> None:
    one = await connect()
    await one.send(HEAD + b"a: " + b"b" * (MAX_HEADER_BYTES - 100) + b"\r\ncontent-length: 2\r\n\r\nok")
    assert await one.answer() == (200, b"/x|ok")


async def test_a_large_body_before_it_does_not_count_as_header(connect) -> None:
    one = await connect()
    body = bytes(3 * MAX_HEADER_BYTES)
    await one.send((HEAD + b"content-length: %d\r\n\r\n" % len(body) + body) * 2 + HEAD)
    for _ in range(2):
        assert await one.answer() == (200, b"/x|" + body)
    await one.send(b"content-length: 0\r\n\r\n")
    assert await one.answer() == (200, b"/x|")


@pytest.mark.parametrize("begun", [b"", b"POST", HEAD], ids=["nothing", "a word", "half a header"])
async def test_who_does_not_finish_a_header_is_sent_away(connect, begun, monkeypatch) -> None:
    monkeypatch.setattr(wire, "HEADER_TIMEOUT_S", 0.05)
    one = await connect()
    await one.send(begun)
    if begun:
        status, body = await one.answer()
        assert (status, json.loads(body)["error"]["code"]) == (408, "header_timeout")
    assert await one.is_closed()


async def test_the_next_header_has_its_time_too(connect, monkeypatch) -> None:
    one = await connect()
    await one.send(HEAD + b"content-length: 2\r\n\r\nok")
    assert await one.answer() == (200, b"/x|ok")
    monkeypatch.setattr(wire, "HEADER_TIMEOUT_S", 0.05)
    await one.send(b"PO")
    assert (await one.answer())[0] == 408
    assert await one.is_closed()


async def test_a_body_that_nobody_reads_any_more_ends_with_the_connection(connect, monkeypatch) -> None:
    one = await connect()
    await one.send(b"POST /early HTTP/1.1\r\nhost: h\r\ncontent-length: 100000\r\n\r\nx")
    assert await one.answer() == (200, b"/early|")
    monkeypatch.setattr(wire, "HEADER_TIMEOUT_S", 0.05)
    await one.send(b"more")
    assert await one.is_closed()


async def test_a_slow_answer_is_not_a_slow_header(connect, monkeypatch) -> None:
    monkeypatch.setattr(wire, "HEADER_TIMEOUT_S", 0.05)
    one = await connect()
    await one.send(HEAD + b"content-length: 2\r\n\r\no")
    assert not await _within(one.is_closed(), 0.2)
    await one.send(b"k")
    assert await one.answer() == (200, b"/x|ok")


async def _within(awaitable, seconds: float) -> bool:
    try:
        return bool(await asyncio.wait_for(awaitable, seconds))
    except TimeoutError:
        return False


async def test_one_connection_too_many_is_told_to_come_back(connect, monkeypatch) -> None:
    monkeypatch.setattr(wire, "max_connections", lambda: 2)
    kept = [await connect() for _ in range(2)]
    for one in kept:
        await one.send(HEAD + b"content-length: 2\r\n\r\nok")
        assert await one.answer() == (200, b"/x|ok")
    third = await connect()
    head = await third.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503")
    assert b"retry-after: 1" in head
    kept[0].writer.close()
    await kept[0].writer.wait_closed()


def test_there_is_room_for_connections_below_the_limit_of_files() -> None:
    assert 16 <= wire.max_connections() <= 65_536


def test_uvicorn_takes_it_once_installed(monkeypatch) -> None:
    from uvicorn import config

    monkeypatch.setitem(config.HTTP_PROTOCOLS, "auto", config.HTTP_PROTOCOLS["auto"])
    wire.install()
    loaded = uvicorn.Config(app, log_config=None)
    loaded.load()
    assert loaded.http_protocol_class is BoundedProtocol

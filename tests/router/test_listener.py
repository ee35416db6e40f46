"""The server, spoken to in bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from bentos.router.listener import Listener, ListenerLimits
from bentos.router.messages import Reply, Request

LIMIT = 1000
POST = b"POST /x HTTP/1.1\r\nhost: a\r\n"


class Host:
    """A listener whose handler echoes the body, and waits for `gate` on /wait."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.seen: list[Request] = []
        self.listener = Listener(self.handle, ListenerLimits(body_bytes=LIMIT, head_bytes=4096))

    async def handle(self, request: Request) -> Reply:
        self.seen.append(request)
        if request.path == b"/wait":
            self.entered.set()
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if request.path == b"/defect":
            raise ZeroDivisionError
        return Reply(200, [], request.target + b" " + request.body)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, *sent: bytes) -> tuple[int, bytes]:
        reader, writer = await self.connect()
        writer.writelines(sent)
        answer = await read_answer(reader)
        writer.close()
        return answer


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    return int(head.split(b" ")[1]), await reader.readexactly(length)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    host = Host()
    host.port = await host.listener.start("127.0.0.1", 0)
    yield host
    host.gate.set()
    await host.listener.drain(5.0)


def code(body: bytes) -> str:
    return str(orjson.loads(body)["error"]["code"])


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"/ "),
        (POST + b"content-length: 3\r\n\r\nabc", b"/x abc"),
        (POST + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\ntrailer: 1\r\n\r\n", b"/x abc"),
        (b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", b"/ "),
    ],
)
async def test_a_request_is_read_however_its_bytes_arrive(host: Host, sent: bytes, body: bytes) -> None:
    assert await host.ask(sent) == (200, body)
    assert await host.ask(*(sent[index : index + 1] for index in range(len(sent)))) == (200, body)


async def test_requests_of_a_connection_are_answered_in_order(host: Host) -> None:
    reader, writer = await host.connect()
    writer.write(b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(50)))
    assert [await read_answer(reader) for _ in range(50)] == [(200, b"/%d " % number) for number in range(50)]
    writer.close()


async def test_a_body_of_the_limit_passes(host: Host) -> None:
    assert (await host.ask(POST + b"content-length: %d\r\n\r\n" % LIMIT, b"x" * LIMIT))[0] == 200


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused_and_the_client_can_read_why(host: Host, chunked: bool) -> None:
    size = 3_000_000
    if chunked:
        head, body = b"transfer-encoding: chunked\r\n\r\n%x\r\n" % size, b"x" * size + b"\r\n0\r\n\r\n"
    else:
        head, body = b"content-length: %d\r\n\r\n" % size, b"x" * size
    reader, writer = await host.connect()
    writer.write(POST + b"x-request-id: id-1\r\n" + head + body)
    await writer.drain()
    status, answer = await read_answer(reader)
    writer.close()
    assert (status, code(answer), host.seen) == (413, "body_too_large", [])
    assert orjson.loads(answer)["error"]["request_id"] == "id-1"


async def test_a_body_does_not_count_as_the_headers_of_the_request_behind_it(host: Host) -> None:
    host.listener.limits = ListenerLimits(head_bytes=4096)
    reader, writer = await host.connect()
    body = b"x" * 100_000
    writer.write(POST + b"content-length: %d\r\n\r\n" % len(body) + body + b"GET /next HTTP/1.1\r\nx-")
    assert (await read_answer(reader))[0] == 200
    writer.write(b"a: 1\r\n\r\n")
    assert await read_answer(reader) == (200, b"/next ")
    writer.close()


async def test_slow_clients_cannot_fill_the_memory_and_small_bodies_always_find_room(host: Host) -> None:
    host.listener.limits = ListenerLimits(body_bytes=1000, all_bodies_bytes=1650, small_body_bytes=100)
    slow = [await host.connect() for _ in range(2)]
    for number, (_, writer) in enumerate(slow):
        writer.write(POST + b"content-length: 900\r\n\r\n" + b"x" * 700)
        while host.listener.num_held_bytes < 700 * (number + 1):
            await asyncio.sleep(0)
    reader, refused = await host.connect()
    refused.write(POST + b"x-request-id: id-1\r\ncontent-length: 300\r\n\r\n" + b"x" * 300)
    status, body = await read_answer(reader)
    assert (status, code(body), orjson.loads(body)["error"]["request_id"]) == (503, "overloaded", "id-1")
    assert (await host.ask(POST + b"content-length: 100\r\n\r\n", b"x" * 100))[0] == 200
    assert host.listener.num_held_bytes == 1400
    slow[0][1].write(b"x" * 200)
    assert (await read_answer(slow[0][0]))[0] == 200
    assert host.listener.num_held_bytes == 700
    slow[1][1].transport.abort()
    while host.listener.num_held_bytes:
        await asyncio.sleep(0)
    refused.close()
    slow[0][1].close()


async def test_a_client_that_leaves_gives_the_memory_of_its_body_back(host: Host) -> None:
    _, writer = await host.connect()
    writer.write(POST.replace(b"/x", b"/wait") + b"content-length: 3\r\n\r\nabc")
    await host.entered.wait()
    assert host.listener.num_held_bytes == 3
    writer.transport.abort()
    await asyncio.wait_for(host.cancelled.wait(), 20)
    assert host.listener.num_held_bytes == 0


async def test_a_client_that_never_fetches_its_answer_is_left(host: Host) -> None:
    async def handle(request: Request) -> Reply:
        return Reply(200, [], b"x" * 16_000_000)

    host.listener.handler = handle
    reader, writer = await host.connect()
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await reader.readexactly(1)
    async with asyncio.timeout(20):
        while host.listener.connections:
            for connection in list(host.listener.connections):
                connection.close_if_stale(asyncio.get_running_loop().time() + 1000)
            await asyncio.sleep(0.01)
    writer.close()


async def test_who_expects_100_continue_gets_it(host: Host) -> None:
    reader, writer = await host.connect()
    writer.write(POST + b"content-length: 3\r\nexpect: 100-continue\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"abc")
    assert await read_answer(reader) == (200, b"/x abc")
    writer.close()


async def test_who_expects_100_continue_for_too_much_is_refused_at_once(host: Host) -> None:
    sent = POST + b"content-length: 99999\r\nexpect: 100-continue\r\n\r\n"
    assert (await host.ask(sent))[0] == 413


@pytest.mark.parametrize(
    ("sent", "status", "expected"),
    [
        (b"\x16\x03\x01\x02\x00\x01", 400, "bad_request"),
        (b"GET / HTTP/9.9\r\n\r\n", 400, "bad_request"),
        (POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", 400, "bad_request"),
        (POST + b"content-length: x\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\n" + b"x-a: " + b"y" * 9000, 431, "headers_too_large"),
        (b"GET /defect HTTP/1.1\r\n\r\n", 500, "internal"),
    ],
)
async def test_what_cannot_be_answered_is_explained(host: Host, sent: bytes, status: int, expected: str) -> None:
    answered, body = await host.ask(sent)
    assert (answered, code(body)) == (status, expected)


async def test_head_gets_no_body(host: Host) -> None:
    reader, writer = await host.connect()
    writer.write(b"HEAD / HTTP/1.1\r\n\r\nGET /next HTTP/1.1\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 OK\r\n\r\n"
    assert await read_answer(reader) == (200, b"/next ")
    writer.close()


async def test_connection_close_is_honoured(host: Host) -> None:
    reader, writer = await host.connect()
    writer.write(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n")
    assert (await reader.read()).endswith(b"/ ")
    writer.close()


async def test_the_work_for_a_client_that_leaves_is_cancelled(host: Host) -> None:
    _, writer = await host.connect()
    writer.write(b"GET /wait HTTP/1.1\r\n\r\n")
    await host.entered.wait()
    writer.transport.abort()
    await asyncio.wait_for(host.cancelled.wait(), 20)


async def test_drain_finishes_what_is_in_flight_and_accepts_nothing_more(host: Host) -> None:
    idle_reader, idle_writer = await host.connect()
    idle_writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await read_answer(idle_reader)
    reader, writer = await host.connect()
    writer.write(b"GET /wait HTTP/1.1\r\n\r\n")
    await host.entered.wait()
    drain = asyncio.ensure_future(host.listener.drain(20.0))
    assert await idle_reader.read() == b""  # closed, since nothing was in flight there
    with pytest.raises(OSError):
        await host.connect()
    assert not drain.done()
    host.gate.set()
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 OK") and b"connection: close" in answer
    assert await drain
    idle_writer.close()
    writer.close()


async def test_a_drain_past_its_deadline_cuts_off_and_says_so(host: Host) -> None:
    reader, writer = await host.connect()
    writer.write(b"GET /wait HTTP/1.1\r\n\r\n")
    await host.entered.wait()
    assert not await host.listener.drain(0.01)
    with pytest.raises(ConnectionError):
        assert await reader.read() == b""
        raise ConnectionError  # cut off by FIN instead of RST: as good
    writer.close()


async def test_stale_connections_are_closed(host: Host) -> None:
    idle_reader, idle_writer = await host.connect()
    idle_writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await read_answer(idle_reader)
    slow_reader, slow_writer = await host.connect()
    slow_writer.write(b"GET / HTTP/1.1\r\nx-a")
    await host.ask(b"GET / HTTP/1.1\r\n\r\n")  # by now the loop has read the lines above
    while len(host.listener.connections) != 2:
        await asyncio.sleep(0)
    for connection in list(host.listener.connections):
        connection.close_if_stale(asyncio.get_running_loop().time() + 1000)
    assert await idle_reader.read() == b""
    assert (await read_answer(slow_reader))[0] == 408
    idle_writer.close()
    slow_writer.close()

"""The client side, against servers that answer from a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest

from bentos.router import connections
from bentos.router.backends import Pool, Pools
from bentos.router.connections import BackendError, DroppedUnanswered, Patience
from bentos.router.messages import Request, render_request

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
PARTS = render_request(Request(b"POST", b"/v1/detect", [(b"host", b"a")], b"body"), b"id")

Turn = bytes | None
"""What to send for a request; None closes the connection unanswered."""


class Script:
    """A server: connection i answers its requests with `turns[i]`, then closes."""

    def __init__(self) -> None:
        self.turns: list[list[Turn]] = []
        self.num_connections = 0
        self.closed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        turns = self.turns[self.num_connections] if self.num_connections < len(self.turns) else []
        self.num_connections += 1
        for turn in turns:
            try:
                await reader.readuntil(b"body")
            except asyncio.IncompleteReadError:
                break
            if turn is None:
                break
            writer.write(turn)
        writer.close()
        self.closed.set()


Started = Callable[..., Coroutine[None, None, Pool]]


@pytest.fixture
async def script() -> Script:
    return Script()


@pytest.fixture
async def pool(script: Script) -> AsyncIterator[Pool]:
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    pool = Pool(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    yield pool
    pool.close_idle()
    server.close()


async def ask(pool: Pool, timeout_s: float = 20.0, idempotent: bool = True, is_head: bool = False) -> tuple[int, bytes]:
    reply = await pool.ask(PARTS, timeout_s, idempotent=idempotent, is_head=is_head)
    return reply.status, reply.body


async def test_a_connection_is_kept(script: Script, pool: Pool) -> None:
    script.turns = [[OK, OK, OK]]
    assert [await ask(pool) for _ in range(3)] == [(200, b"ok")] * 3
    assert (script.num_connections, pool.in_flight) == (1, 0)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", (200, b"ok")),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, (200, b"ok")),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", (200, b"until the end")),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", (503, b"")),
    ],
)
async def test_every_framing_of_an_answer_is_read(
    script: Script, pool: Pool, sent: bytes, expected: tuple[int, bytes]
) -> None:
    script.turns = [[sent]]
    assert await ask(pool) == expected


async def test_the_answer_to_head_ends_with_its_headers(script: Script, pool: Pool) -> None:
    script.turns = [[b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", OK]]
    assert await ask(pool, is_head=True) == (200, b"")


async def test_a_kept_connection_that_was_closed_meanwhile_is_replaced_once(script: Script, pool: Pool) -> None:
    script.turns = [[OK, None], [OK]]
    assert [await ask(pool), await ask(pool)] == [(200, b"ok")] * 2
    assert script.num_connections == 2


async def test_a_request_that_must_not_be_repeated_is_not(script: Script, pool: Pool) -> None:
    script.turns = [[OK, None], [OK]]
    await ask(pool)
    with pytest.raises(DroppedUnanswered):
        await ask(pool, idempotent=False)
    assert script.num_connections == 1


async def test_a_fresh_connection_that_drops_is_an_error(script: Script, pool: Pool) -> None:
    script.turns = [[None], [OK]]
    with pytest.raises(DroppedUnanswered):
        await ask(pool)
    assert script.num_connections == 1


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"220 smtp ready\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", "in the middle"),
        (b"HTTP/1.1 200 O", "in the middle"),
    ],
)
async def test_half_an_answer_is_an_error(script: Script, pool: Pool, sent: bytes, told: str) -> None:
    script.turns = [[sent]]
    with pytest.raises(BackendError, match=told):
        await ask(pool)
    assert pool.in_flight == 0


async def test_an_answer_without_end_is_cut_off(script: Script, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_REPLY_BYTES", 1024**2)
    script.turns = [[b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1024**2 + b"y"]]
    with pytest.raises(BackendError, match="larger than 1 MB"):
        await ask(pool)
    assert pool.in_flight == 0


@pytest.mark.parametrize("ended_first", [False, True])
async def test_whoever_holds_the_patience_ends_the_wait(script: Script, pool: Pool, ended_first: bool) -> None:
    script.turns = [[b"", OK]]
    patience = Patience()
    if ended_first:
        patience.end("somebody was sooner")
    task = asyncio.ensure_future(pool.ask(PARTS, 20.0, idempotent=True, patience=patience))
    while not script.num_connections:
        await asyncio.sleep(0)
    patience.end("somebody was sooner")
    with pytest.raises(BackendError, match="somebody was sooner"):
        await task
    await asyncio.wait_for(script.closed.wait(), 20)


async def test_a_back_end_that_let_wait_for_its_limit_hangs_until_it_answered_some(script: Script, pool: Pool) -> None:
    script.turns = [[b"", OK], [OK] * 8]
    pool = Pool(pool.url, silence_s=0.05)
    with pytest.raises(BackendError, match="no answer within"):
        await ask(pool, timeout_s=0.05)
    for _ in range(8):
        assert pool.hangs
        await ask(pool)
    assert not pool.hangs
    pool.close_idle()


@pytest.mark.parametrize("cut", [1, 30, None])
async def test_an_answer_nobody_asked_for_is_never_taken_for_the_next(
    script: Script, pool: Pool, cut: int | None
) -> None:
    """Nor spoils it when only its beginning came with the answer before."""
    stray = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray"
    script.turns = [[OK + stray[:cut], OK], [OK]]
    assert await ask(pool) == (200, b"ok")
    assert await ask(pool) == (200, b"ok")
    assert script.num_connections == 2


async def test_refused(script: Script) -> None:
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(BackendError, match="no connection"):
        await ask(Pool(f"http://127.0.0.1:{port}"))


async def test_a_back_end_that_hangs_is_left(script: Script, pool: Pool) -> None:
    script.turns = [[b"", OK]]
    with pytest.raises(BackendError, match="no answer within 20 ms"):
        await ask(pool, timeout_s=0.02)
    await asyncio.wait_for(script.closed.wait(), 20)


async def test_a_cancelled_request_leaves_nothing_behind(script: Script, pool: Pool) -> None:
    script.turns = [[b"", OK]]
    task = asyncio.ensure_future(ask(pool))
    while not script.num_connections:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait_for(script.closed.wait(), 20)
    assert pool.in_flight == 0


async def test_a_pool_no_longer_routed_to_goes_when_it_has_finished(script: Script, pool: Pool) -> None:
    script.turns = [[b"", OK]]
    pools = Pools()
    pools.keep(frozenset({pool.url}))
    task = asyncio.ensure_future(ask(pools[pool.url]))
    while not script.num_connections:
        await asyncio.sleep(0)
    pools.keep(frozenset())
    assert pools.in_flight() == {pool.url: 1}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    pools.sweep()
    assert pools.in_flight() == {}

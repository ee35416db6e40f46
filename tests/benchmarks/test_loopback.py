from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import threading
from collections.abc import Callable, Iterator

import pytest

from benchmarks.loopback import LOST, closed_loop, detect_request, open_loop

Reply = Callable[[int], bytes]


@contextlib.contextmanager
def server(reply: Reply) -> Iterator[int]:
    """Answers the n-th request of all with `reply(n)`; an empty reply closes the connection."""
    ready, ports, stop = threading.Event(), [], []
    numbers = itertools.count()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
                if not (answer := reply(next(numbers))):
                    break
                writer.write(answer)
        writer.close()

    async def run() -> None:
        over = asyncio.Event()
        stop.append(functools.partial(asyncio.get_running_loop().call_soon_threadsafe, over.set))
        started = await asyncio.start_server(serve, "127.0.0.1", 0)
        ports.append(started.sockets[0].getsockname()[1])
        ready.set()
        await over.wait()
        started.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield ports[0]
    finally:
        stop[0]()
        thread.join()


PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
REQUEST = detect_request(b"x" * 1000, "cam01")


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED])
def test_reads_plain_and_chunked_answers(answer: bytes) -> None:
    with server(lambda _: answer) as port:
        tally = closed_loop(port, [REQUEST], 2, 0.1)
    assert tally.all_good
    assert tally.num_sent > 2


def test_an_open_loop_sends_every_scheduled_frame_once() -> None:
    with server(lambda _: PLAIN) as port:
        tally = open_loop(port, [[REQUEST]] * 4, 200.0, 0.5, [0.0, 0.25, 0.5, 0.75])
    assert tally.num_sent in (100, 101)  # a frame due at the very end may count
    assert all(latency >= answer for latency, answer in zip(tally.latencies_ms, tally.answer_ms[200], strict=True))


def test_counts_statuses_and_connects_anew_after_a_loss() -> None:
    def reply(number: int) -> bytes:
        return {3: b"", 5: PLAIN.replace(b"200 OK", b"429 No")}.get(number, PLAIN)

    with server(reply) as port:
        tally = open_loop(port, [[REQUEST]], 50.0, 0.2, [0.0])
    assert tally.statuses[LOST] == 1
    assert tally.statuses[429] == 1
    assert tally.statuses[200] >= 8
    assert not tally.all_good

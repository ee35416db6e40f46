"""The cheapest detector there can be: reads a request whole and answers at once with the same boxes, always.

As a process: `python -m benchmarks.fake_backend`; its first line of output is the port it got.
"""

from __future__ import annotations

import asyncio
import json
import re

import uvloop

NUM_BOXES = 8
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_BOX = {
    "class_id": 0,
    "class_name": "car",
    "confidence": 0.91234,
    "box": {"x1": 10.5, "y1": 20.25, "x2": 80.75, "y2": 66.5},
}
_ANSWER = {
    "request_id": "0" * 32,
    "model": {"name": "fake", "version": "1", "digest": "0" * 64},
    "image": {"width": 640, "height": 384},
    "detections": [_BOX] * NUM_BOXES,
    "timing_ms": {"decode": 0.0, "queue": 0.0, "inference": 0.0, "postprocess": 0.0, "total": 0.0},
}
_BODY = json.dumps(_ANSWER, separators=(",", ":")).encode()
_REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


class _Connection(asyncio.Protocol):
    """One request after the other; only the length of the body is looked at."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._pending = bytearray()
        self._end = 0  # of the request in `_pending`; 0: its head is not complete

    def data_received(self, data: bytes) -> None:
        self._pending += data
        while self._find_end() and len(self._pending) >= self._end:
            del self._pending[: self._end]
            self._end = 0
            self._transport.write(_REPLY)  # type: ignore[attr-defined]

    def _find_end(self) -> int:
        if not self._end and (head := self._pending.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._pending, 0, head)
            self._end = head + 4 + (int(length[1]) if length else 0)
        return self._end


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())

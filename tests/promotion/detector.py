"""A detector without a model: a process with a detector's doors that is told by files how to behave.

`faults` is a file of JSON, read once a change: {"from_answer": N, "kind": KIND, "value": X}, counting the frames that
it was asked, warming up left out. KIND is one of

    die        leave without a word              hang       answer nobody any more, the looks at /readyz included
    empty      valid answers without boxes       slower     X ms later
    refuse     status 500                        garbled    a confidence that is no number
    unready    never ready                       (none)     as a good model

While the file `outage` exists, every frame is answered with 503: a fault that all versions share.
A frame with the header `x-hold-s` is answered that much later by the version that `x-hold-version` names. Only the
standard library, so that it starts in no time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

LATENCY_S = 0.004
BOXES = [
    {"class_id": 0, "class_name": "car", "confidence": 0.9, "box": {"x1": 1.0, "y1": 2.0, "x2": 30.0, "y2": 40.0}},
    {"class_id": 1, "class_name": "bus", "confidence": 0.7, "box": {"x1": 50.0, "y1": 9.0, "x2": 90.0, "y2": 60.0}},
]


class Detector:
    def __init__(self, version: str, digest: str, faults: Path, outage: Path) -> None:
        self.version, self.digest, self.faults, self.outage = version, digest, faults, outage
        self.num_frames = 0
        self.in_flight = 0

    def fault(self) -> tuple[str, float]:
        try:
            told = json.loads(self.faults.read_text())
        except FileNotFoundError:
            return "", 0.0
        if self.num_frames < told.get("from_answer", 0):
            return "", 0.0
        return told["kind"], float(told.get("value", 0.0))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                await reader.readexactly(int(headers.get("content-length", 0)))
                self.in_flight += 1
                try:
                    status, tree = await self.answer(head[0].split()[1], headers)
                    body = json.dumps(tree).encode()
                    writer.write(
                        b"HTTP/1.1 %d OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                        % (status, len(body))
                        + body
                    )
                    await writer.drain()
                finally:
                    self.in_flight -= 1
        writer.close()

    async def answer(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, object]]:
        kind, value = self.fault()
        if kind == "hang":
            await asyncio.Event().wait()
        if not path.startswith("/v1/detect"):
            return (503 if kind == "unready" else 200), {"status": kind or "ready"}
        is_warm_up = "x-request-id" not in headers
        if kind == "die" and not is_warm_up:
            os.kill(os.getpid(), signal.SIGKILL)
        self.num_frames += not is_warm_up
        held_s = float(headers.get("x-hold-s", 0)) if headers.get("x-hold-version") == self.version else 0.0
        await asyncio.sleep(LATENCY_S + held_s + (value / 1000 if kind == "slower" else 0))
        if self.outage.exists() or kind == "refuse":
            return 503 if self.outage.exists() else 500, {"error": {"code": "told_so", "message": "as it was told"}}
        boxes = [] if kind == "empty" else BOXES
        if kind == "garbled":
            boxes = [{**box, "confidence": float("nan")} for box in BOXES]
        model = {"name": "stand-in", "version": self.version, "digest": self.digest}
        return 200, {"request_id": headers.get("x-request-id"), "model": model, "detections": boxes}

    async def finish(self) -> None:
        """What is in flight gets its answer before the process ends."""
        while self.in_flight:
            await asyncio.sleep(0.01)


async def main() -> None:
    port, version, digest, faults, outage = sys.argv[1:]
    detector = Detector(version, digest, Path(faults), Path(outage))
    told_to_stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_stop.set)
    server = await asyncio.start_server(detector.serve, "127.0.0.1", int(port))
    await told_to_stop.wait()
    server.close()
    await detector.finish()


if __name__ == "__main__":
    asyncio.run(main())
    os._exit(0)

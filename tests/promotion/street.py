"""Cameras that send frames, each with an id of its own, and count the answers to every id."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

PATIENCE_S = 60.0


@dataclass
class Sent:
    """One frame and what came back."""

    request_id: str
    camera: str
    at: float
    statuses: list[int] = field(default_factory=list)
    served: tuple[str, str] = ("", "")
    problem: str = ""

    @property
    def good(self) -> bool:
        """Exactly one 2xx, and it is the answer to this very frame."""
        return [status // 100 for status in self.statuses] == [2] and not self.problem


class Street:
    """`num_cameras` cameras at `fps` each, from a thread of its own, until `close`.

    Version 1 takes `hold_s` longer for each of their frames.
    """

    def __init__(self, url: str, num_cameras: int = 8, fps: float = 8.0, hold_s: float = 0.0) -> None:
        self.url, self.num_cameras, self.fps, self.hold_s = url, num_cameras, fps, hold_s
        self.sent: list[Sent] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Street:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Send nothing more, and wait for what is still to be answered."""
        self._stop.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def assert_none_lost(self) -> None:
        """Every id got exactly one 2xx. Closes the street."""
        self.close()
        assert self.sent
        assert len({one.request_id for one in self.sent}) == len(self.sent)
        lost = [one for one in self.sent if not one.good]
        assert not lost, f"{len(lost)} of {len(self.sent)} lost, first {lost[0].statuses} {lost[0].problem}"

    def served_versions(self, since: float = 0.0) -> Counter[str]:
        """Good answers by the version that gave them, of the frames sent from `since` on."""
        return Counter(one.served[1] for one in self.sent if one.good and one.at >= since)

    def wait_for_more(self, count: int) -> None:
        """Return when `count` more frames have been answered."""
        begin = len(self.sent)
        wait_until(lambda: sum(bool(one.statuses) for one in self.sent[begin:]) >= count)

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as client:
            await asyncio.gather(*(self._camera(client, number) for number in range(self.num_cameras)))

    async def _camera(self, client: aiohttp.ClientSession, number: int) -> None:
        began = time.monotonic() + number / self.num_cameras / self.fps
        in_flight: set[asyncio.Task[None]] = set()
        for index in itertools.count():
            while (left := began + index / self.fps - time.monotonic()) > 0 and not self._stop.is_set():
                await asyncio.sleep(min(left, 0.05))
            if self._stop.is_set():
                break
            frame = Sent(f"{id(self):x}-{number}-{index}", f"cam{number:02d}", time.time())
            self.sent.append(frame)
            task = asyncio.ensure_future(self._send(client, frame))
            in_flight.add(task)
            task.add_done_callback(in_flight.discard)
        await asyncio.gather(*in_flight)

    async def _send(self, client: aiohttp.ClientSession, frame: Sent) -> None:
        headers = {"x-request-id": frame.request_id, "x-camera-id": frame.camera, "content-type": "image/jpeg"}
        if self.hold_s:
            headers |= {"x-hold-s": str(self.hold_s), "x-hold-version": "1"}
        try:
            async with client.post(f"{self.url}/v1/detect", data=b"frame", headers=headers) as answer:
                tree = await answer.json(content_type=None)
                frame.served = (answer.headers.get("x-served-by", ""), answer.headers.get("x-served-version", ""))
                if answer.headers.get("x-request-id") != frame.request_id:
                    frame.problem = f"answer to {answer.headers.get('x-request-id')}"
                elif answer.status == 200 and tree["request_id"] != frame.request_id:
                    frame.problem = f"body of {tree['request_id']}"
                elif answer.status != 200:
                    frame.problem = str(tree)
                frame.statuses.append(answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            frame.problem = f"{type(error).__name__}: {error}"
            frame.statuses.append(0)


def wait_until(condition, limit_s: float = PATIENCE_S, what: str = "") -> None:
    """Return once `condition()`; fail after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {limit_s:.0f} s in vain {what}"
        with contextlib.suppress(InterruptedError):
            time.sleep(0.01)

"""Cameras replayed over HTTP: an open loop, so that a slow service cannot slow the load down and look fast.

Each camera has a connection of its own and a fixed schedule; latency counts from the *scheduled* moment of a frame,
also when the frame before it was late. As a process, which reports into a file when it is told to stop:

    python -m flows.adapters.replay data --url http://127.0.0.1:3000 --cameras 8 --fps 2 --json reports/replay.json
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import math
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.adapters.frame_source import CameraFeed, SentFrame, read_feeds
from flows.adapters.replay_report import ReplayReport, Tally, write_report
from flows.errors import InputError, ServiceError, TcaError
from flows.progress import Progress, silent
from flows.settings import api_key_headers

if TYPE_CHECKING:
    import aiohttp

ANSWER_TIMEOUT_S = 30.0
"""A frame without an answer by then is lost."""
STOP_GRACE_S = 2.0
"""How long frames in flight may still be answered after a stop."""
OVERTIME_S = 10.0
"""How long frames that are already late may still be sent after the end."""


def replay(
    source: Path,
    url: str,
    num_cameras: int,
    fps: float,
    duration_s: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    on_progress: Progress = silent,
) -> ReplayReport:
    """Send the frames of `source` to `url`/v1/detect until `duration_s` is over, `stop()` holds, SIGTERM or Ctrl-C.

    Raises:
        InputError: A number or the address is out of range; DataError when the source cannot be sent.
        ServiceError: Nothing answers at `url`.
    """
    if num_cameras < 1 or not (0 < fps < math.inf) or (duration_s is not None and not duration_s > 0):
        raise InputError(
            f"{num_cameras} cameras at {fps} frames a second for {duration_s} s cannot be replayed",
            "Expected at least one camera, and a rate and a duration above 0",
        )
    url = url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url!r} is not the address of a service", "Expected http://HOST:PORT")
    feeds = read_feeds(source, num_cameras)
    asyncio.run(_require_service(url))
    run = _Replay(url, fps, duration_s, stop, on_progress)
    asyncio.run(run.send_all(feeds.feeds))
    cameras = [feed.camera for feed in feeds.feeds]
    return run.tally.report(
        source=str(source), url=url, fps=fps, cameras=cameras, notes=list(feeds.notes), id_prefix=run.run_id
    )


async def _require_service(url: str) -> None:
    """Raises ServiceError unless something speaks HTTP at `url`."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=5.0)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as client, client.get(f"{url}/livez"):
            pass
    except aiohttp.InvalidURL:
        raise InputError(f"{url!r} is not the address of a service", "Expected http://HOST:PORT") from None
    except (aiohttp.ClientError, TimeoutError) as error:
        reason = str(error) or "no answer within 5 s"
        raise ServiceError(f"nothing answers at {url}: {reason}", "Start the champion with: tca serve") from None


class _Replay:
    """One run of some cameras."""

    def __init__(
        self, url: str, fps: float, duration_s: float | None, stop: Callable[[], bool], on_progress: Progress
    ) -> None:
        self.url = url
        self.fps = fps
        self.duration_s = duration_s
        self.should_stop = stop
        self.on_progress = on_progress
        self.key = api_key_headers()
        self.run_id = uuid.uuid4().hex[:12]
        self.tally = Tally()
        self.began = 0.0

    async def send_all(self, feeds: tuple[CameraFeed, ...]) -> None:
        """Run every camera until the end, or until told to stop."""
        self.stopped = asyncio.Event()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, self.stopped.set)
        self.began = time.perf_counter()
        end = self.began + self.duration_s if self.duration_s is not None else math.inf
        cameras: asyncio.Future[Any] = asyncio.gather(
            *(
                self._camera(number, feed, self.began + number / len(feeds) / self.fps, end)
                for number, feed in enumerate(feeds)
            )
        )
        watch = asyncio.ensure_future(self._watch(len(feeds)))
        stopping: asyncio.Future[Any] = asyncio.ensure_future(self.stopped.wait())
        await asyncio.wait({cameras, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not cameras.done():
            await asyncio.wait({cameras}, timeout=STOP_GRACE_S)
        for task in (cameras, watch, stopping):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await cameras
        self.tally.seconds = time.perf_counter() - self.began

    async def _watch(self, num_cameras: int) -> None:
        total = int(self.duration_s * self.fps * num_cameras) if self.duration_s is not None else 0
        for tick in itertools.count(1):
            await asyncio.sleep(0.1)
            if self.should_stop():
                self.stopped.set()
            if tick % 10 == 0:
                self.on_progress(self.tally.num_sent, total, self.tally.note())

    async def _camera(self, number: int, feed: CameraFeed, first: float, end: float) -> None:
        import aiohttp

        connector = aiohttp.TCPConnector(limit=1, keepalive_timeout=60.0)
        timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client:
            for index in itertools.count():
                due = first + index / self.fps
                if due >= end or not await self._wait_until(due):
                    return
                if time.perf_counter() > end + OVERTIME_S:
                    self.tally.num_unsent += math.ceil((end - due) * self.fps)
                    return
                await self._send(client, feed.camera, f"{self.run_id}-{number}-{index}", feed.frame(index), due)

    async def _wait_until(self, due: float) -> bool:
        """Sleep until `due`; False when the replay was stopped."""
        delay_s = due - time.perf_counter()
        if delay_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self.stopped.wait()
        return not self.stopped.is_set()

    async def _send(
        self, client: aiohttp.ClientSession, camera: str, request_id: str, frame: SentFrame, due: float
    ) -> None:
        import aiohttp

        headers = {"X-Request-ID": request_id, "X-Camera-ID": camera, "Content-Type": frame.content_type, **self.key}
        self.tally.count_sent(due - self.began)
        try:
            async with client.post(f"{self.url}/v1/detect", data=frame.body, headers=headers) as response:
                await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.tally.count_lost(str(error) or f"no answer within {ANSWER_TIMEOUT_S:.0f} s")
            return
        except asyncio.CancelledError:
            self.tally.count_lost("still open when the replay stopped")
            raise
        self._count(response, request_id, due)

    def _count(self, response: aiohttp.ClientResponse, request_id: str, due: float) -> None:
        if not 200 <= response.status < 300:
            self.tally.count_refused(response.status)
            return
        latency_ms = (time.perf_counter() - due) * 1000
        who = (response.headers.get("X-Served-By", "service"), response.headers.get("X-Served-Version", ""))
        answered_id = response.headers.get("X-Request-ID", request_id)
        self.tally.count_good(response.status, answered_id, due - self.began, latency_ms, " ".join(who).strip())


def main(argv: list[str] | None = None) -> int:
    """Run as a process; the report goes to --json, or to standard output. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.adapters.replay", description="Replay cameras over HTTP.")
    parser.add_argument("source", type=Path, help="folder of images, dataset folder, or video")
    parser.add_argument("--url", required=True, help="http://HOST:PORT of the router or of a service")
    parser.add_argument("--cameras", type=int, default=8, help="cameras, each on a connection of its own")
    parser.add_argument("--fps", type=float, default=2.0, help="frames a second of each camera")
    parser.add_argument("--seconds", type=float, help="how long; default: until SIGTERM, Ctrl-C or --until-file")
    parser.add_argument("--json", type=Path, help="file that the report is written to")
    parser.add_argument("--until-file", type=Path, help="stop once this file exists")
    given = parser.parse_args(argv)
    until: Path | None = given.until_file

    def stop() -> bool:
        return until is not None and until.exists()

    try:
        report = replay(given.source, given.url, given.cameras, given.fps, given.seconds, stop)
    except TcaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if given.json is not None:
        write_report(given.json, report)
    else:
        print(report.text())
    return 0


if __name__ == "__main__":
    sys.exit(main())

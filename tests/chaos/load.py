"""Load on a service: cameras that wait for their answers, and arrivals that wait for nothing."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import aiohttp
import numpy as np
from PIL import Image

from tests.chaos.pictures import JPEG, PNG, WEBP
from tests.chaos.service import FRAME_PATH


@dataclass(frozen=True)
class Frame:
    """What a camera sends."""

    media: str
    data: bytes


@dataclass(frozen=True)
class Sent:
    """One request: when it was due since the start, how long after that it was answered, and how (0: not at all)."""

    due_s: float
    latency_s: float
    status: int
    retry_after: str = ""


def mixed_frames() -> tuple[Frame, ...]:
    """What different cameras send: sizes, formats, turned ones."""
    frames = []
    for index, (size_wh, form, media) in enumerate(
        [
            ((1280, 720), "JPEG", JPEG),
            ((1920, 1080), "JPEG", JPEG),
            ((640, 480), "PNG", PNG),
            ((800, 600), "WEBP", WEBP),
            ((704, 576), "JPEG", JPEG),
            ((1280, 720), "JPEG", JPEG),
        ]
    ):
        dice = np.random.default_rng(index)
        coarse = dice.integers(0, 256, (size_wh[1] // 12, size_wh[0] // 12, 3), dtype=np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 6 if index == 4 else 1
        sink = BytesIO()
        image = Image.fromarray(coarse).resize(size_wh, Image.Resampling.BILINEAR)
        image.save(sink, form, exif=exif, progressive=index == 5)
        frames.append(Frame(media, sink.getvalue()))
    return tuple(frames)


def session() -> aiohttp.ClientSession:
    """Any number of connections, each kept."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=60), auto_decompress=False
    )


async def post(client: aiohttp.ClientSession, url: str, frame: Frame, camera: str = "") -> tuple[int, str]:
    """One attempt: status and Retry-After; status 0 when the connection broke."""
    headers = {"content-type": frame.media, "x-camera-id": camera}
    try:
        async with client.post(url + FRAME_PATH, data=frame.data, headers=headers) as answer:
            await answer.read()
            return answer.status, answer.headers.get("retry-after", "")
    except (aiohttp.ClientError, TimeoutError):
        return 0, ""


async def closed_loop(url: str, frames: Sequence[Frame], seconds: float, num_clients: int = 8) -> float:
    """Answers a second, each client sending as soon as it has its answer. Other answers than 200 count nothing."""
    num_good = 0
    stop_s = time.perf_counter() + seconds

    async def client(one: aiohttp.ClientSession, index: int) -> None:
        nonlocal num_good
        for number in itertools.count(index):
            if time.perf_counter() >= stop_s:
                return
            status, _ = await post(one, url, frames[number % len(frames)])
            num_good += status == 200

    began_s = time.perf_counter()
    async with session() as one:
        await asyncio.gather(*(client(one, index) for index in range(num_clients)))
    return num_good / (time.perf_counter() - began_s)


async def open_loop(url: str, frames: Sequence[Frame], rate: float, seconds: float) -> list[Sent]:
    """Send at `rate`, whatever becomes of the frames before; in order of sending."""
    async with session() as one:
        began_s = time.perf_counter()

        async def send(index: int) -> Sent:
            due_s = index / rate
            await asyncio.sleep(began_s + due_s - time.perf_counter())
            status, retry_after = await post(one, url, frames[index % len(frames)], f"camera {index % 20}")
            return Sent(due_s, time.perf_counter() - began_s - due_s, status, retry_after)

        sending: set[asyncio.Task[Sent]] = set()
        done: list[Sent] = []
        for index in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began_s + index / rate - time.perf_counter() - 0.5))
            task = asyncio.ensure_future(send(index))
            sending.add(task)
            task.add_done_callback(lambda ended: (sending.discard(ended), done.append(ended.result())))
        await asyncio.gather(*sending)
    return sorted(done, key=lambda sent: sent.due_s)


def percentile_s(sent: Sequence[Sent], share: float) -> float:
    """Latency that `share` of them do not exceed, s."""
    return float(np.quantile([one.latency_s for one in sent], share))

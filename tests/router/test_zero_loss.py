"""A walk through modes and faults: as long as one arm is well, every frame gets exactly one good answer."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from bentos.router.arms import ForwardingLimits

MODES = ("champion", "shadow", "canary")
FAULTS = ("dies", "answers 500", "cuts off", "hangs")
NUM_CAMERAS = 6


@pytest.fixture
def limits() -> ForwardingLimits:
    return ForwardingLimits(candidate_timeout_s=0.25, champion_timeout_s=20.0, copies_in_flight=2)


async def befall(detector: Any, fault: str) -> None:
    if fault == "dies":
        await detector.stop()
    elif fault == "hangs":
        detector.gate = asyncio.Event()
    detector.status = 500 if fault == "answers 500" else 200
    detector.drop = fault == "cuts off"


async def heal(detector: Any, fault: str) -> None:
    if fault == "dies":
        await detector.start(detector.port)
    elif fault == "hangs":
        detector.gate.set()
        detector.gate = None
    detector.status, detector.drop = 200, False


@pytest.mark.parametrize("seed", range(4))
async def test_every_frame_gets_exactly_one_good_answer(bench: Any, seed: int) -> None:
    """A fault comes and goes, and the routing changes, while frames are in flight."""
    chance = random.Random(seed)
    answers: Counter[str] = Counter()
    num_frames: Counter[str] = Counter()
    told: list[str] = []
    stop = asyncio.Event()

    async def film(camera: str) -> None:
        while not stop.is_set():
            name = f"{camera}-{num_frames[camera]}"
            got = await bench.detect(camera, request_id=name)
            assert got.status == 200, f"{name}: {got.status} {got.body!r}; {told[-3:]}"
            assert got.headers["x-request-id"] == got.json()["request_id"] == name
            answers[name] += 1
            num_frames[camera] += 1

    async def frames() -> None:
        """Each camera has two more answers, so at least one to a frame that began after now."""
        targets = {camera: num_frames[camera] + 2 for camera in names}
        await bench.until(
            lambda: (
                all(num_frames[camera] >= targets[camera] for camera in names)
                or any(camera.done() for camera in cameras)
            )
        )

    async def route() -> None:
        mode, share = chance.choice(MODES), chance.choice((0.2, 0.5, 1.0))
        told.append(f"{mode} {share}")
        await bench.route(mode, share if mode == "canary" else 0.0, candidate=bench.candidate.backend())

    await route()
    names = [f"cam{number}" for number in range(NUM_CAMERAS)]
    cameras = [asyncio.ensure_future(film(name)) for name in names]
    for _ in range(5):
        detector, fault = chance.choice((bench.champion, bench.candidate)), chance.choice(FAULTS)
        await frames()
        told.append(f"version {detector.version} {fault}")
        await befall(detector, fault)
        await frames()
        await route()
        await frames()
        await heal(detector, fault)
    stop.set()
    await asyncio.gather(*cameras)
    assert set(answers.values()) == {1}
    stats = await bench.get("/stats")
    assert (stats["errors_total"], stats["requests_total"]) == (0, answers.total())

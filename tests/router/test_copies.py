"""Copies are few, never in a user's way, and counted when they are not sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from bentos.router.arms import ForwardingLimits
from tests.router.served import CHAMPION, code, served_by


class TestShadowUnderLoad:
    @pytest.fixture
    def limits(self) -> ForwardingLimits:
        return ForwardingLimits(copies_in_flight=3, candidate_timeout_s=20.0)

    async def test_copies_that_hang_delay_nobody_and_are_dropped(self, bench: Any) -> None:
        bench.candidate.gate = asyncio.Event()
        await bench.route("shadow")
        for _ in range(10):
            assert served_by(await bench.detect()) == CHAMPION  # answered while the copies hang
        await bench.until(lambda: bench.candidate.num_waiting == 3)
        stats = await bench.get("/stats")
        assert (stats["shadow_dropped_total"], stats["in_flight"]["candidate"]) == (7, 3)
        assert stats["in_flight"][bench.candidate.url] == 3
        bench.candidate.gate.set()
        seen = await bench.observations(10)
        assert Counter(entry["candidate"] is None for entry in seen) == {True: 7, False: 3}

    async def test_no_copy_goes_to_a_back_end_that_is_no_longer_routed(self, bench: Any) -> None:
        bench.champion.gate = asyncio.Event()
        await bench.route("shadow")
        frame = asyncio.ensure_future(bench.detect())
        await bench.until(lambda: bench.champion.num_waiting == 1)
        await bench.route("champion")
        bench.champion.gate.set()
        assert served_by(await frame) == CHAMPION
        (seen,) = await bench.observations(1)
        assert (seen["mode"], seen["candidate"], bench.candidate.seen) == ("shadow", None, [])


class TestBusy:
    @pytest.fixture
    def limits(self) -> ForwardingLimits:
        return ForwardingLimits(busy_requests=2, requests_in_flight=3)

    async def test_users_come_before_copies(self, bench: Any) -> None:
        await bench.route("shadow")
        gate = bench.champion.gate = asyncio.Event()
        waiting = [asyncio.ensure_future(bench.detect()) for _ in range(2)]
        await bench.until(lambda: bench.champion.num_waiting == 2)
        bench.champion.gate = None
        assert served_by(await bench.detect()) == CHAMPION
        (seen,) = await bench.observations(1)
        assert (seen["candidate"], bench.candidate.seen) == (None, [])
        assert (await bench.get("/stats"))["shadow_dropped_total"] == 1
        gate.set()
        assert [served_by(await frame) for frame in waiting] == [CHAMPION] * 2

    async def test_too_many_users_are_told_to_come_back(self, bench: Any) -> None:
        await bench.route("champion")
        bench.champion.gate = asyncio.Event()
        waiting = [asyncio.ensure_future(bench.detect()) for _ in range(3)]
        await bench.until(lambda: bench.champion.num_waiting == 3)
        response = await bench.detect()
        assert (response.status, code(response), response.headers["retry-after"]) == (503, "overloaded", "1")
        bench.champion.gate.set()
        assert [served_by(await frame) for frame in waiting] == [CHAMPION] * 3


class TestHungTarget:
    @pytest.fixture
    def limits(self) -> ForwardingLimits:
        return ForwardingLimits(candidate_timeout_s=0.25, champion_timeout_s=20.0, copies_in_flight=1)

    async def test_a_copy_to_a_champion_that_hangs_gives_its_place_up_soon(self, bench: Any) -> None:
        await bench.route("canary", 1.0)
        bench.champion.gate = asyncio.Event()
        await bench.detect()
        (seen,) = await bench.observations(1)
        assert (seen["served_by"], seen["champion"]["error"]) == ("candidate", "no answer within 250 ms")
        assert (await bench.get("/stats"))["in_flight"]["champion"] == 0


async def test_no_copies_for_a_while_after_the_champion_had_no_room_for_a_user(bench: Any) -> None:
    await bench.route("canary", 1.0)
    bench.champion.status = 503
    await bench.route("champion", candidate=bench.candidate.backend())
    assert (await bench.detect("cam01")).headers["x-served-by"] == "candidate"
    bench.champion.status = 200
    await bench.route("shadow")
    assert served_by(await bench.detect("cam01")) == CHAMPION
    stats = await bench.get("/stats")
    assert stats["shadow_dropped"] == {"full": 0, "busy": 0, "overloaded": 1, "unrouted": 0}
    assert stats["shadow_dropped_total"] == 1

    async def copied_again() -> bool:
        await bench.detect("cam01")
        return (await bench.observations(1))[-1]["candidate"] is not None

    await bench.until(copied_again)

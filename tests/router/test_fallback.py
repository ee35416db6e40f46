"""Who answers when the arm that was meant to does not, in every mode."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bentos.router.arms import ForwardingLimits
from tests.router.served import CANDIDATE, CHAMPION, code, served_by


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_the_champion_answers_when_the_candidate_fails(bench: Any, status: int) -> None:
    bench.candidate.status = status
    await bench.route("canary", 1.0)
    assert served_by(await bench.detect()) == CHAMPION
    (seen,) = await bench.observations(1)
    assert (seen["served_by"], seen["fallback"], seen["candidate"]["status"]) == ("champion", True, status)
    assert seen["candidate"]["error"] == f"status {status}"
    assert (await bench.get("/stats"))["fallbacks_total"] == 1
    assert len(bench.champion.seen) == 1  # its answer to the user is the pair, no further copy


async def test_the_champion_answers_when_the_candidate_is_gone(bench: Any) -> None:
    await bench.route("canary", 1.0)
    assert served_by(await bench.detect()) == CANDIDATE
    await bench.candidate.stop()
    assert served_by(await bench.detect()) == CHAMPION
    seen = (await bench.observations(2))[-1]
    assert seen["candidate"]["status"] == 0 and seen["candidate"]["error"].startswith("no connection")


async def test_the_champion_answers_when_the_candidate_dies_in_the_middle(bench: Any) -> None:
    bench.candidate.drop = True
    await bench.route("canary", 1.0)
    assert served_by(await bench.detect()) == CHAMPION
    assert (await bench.observations(1))[0]["candidate"]["error"] == "closed before answering"


async def test_a_frame_that_both_refuse_is_no_fallback(bench: Any) -> None:
    bench.candidate.status = bench.champion.status = 400
    await bench.route("canary", 1.0)
    response = await bench.detect()
    assert (response.status, response.headers["x-served-by"]) == (400, "candidate")
    (seen,) = await bench.observations(1)
    assert (seen["fallback"], seen["champion"]["error"], seen["candidate"]["error"]) == (False, None, None)


async def test_a_frame_that_only_the_candidate_refuses_is_answered_by_the_champion(bench: Any) -> None:
    bench.candidate.status = 400
    await bench.route("canary", 1.0)
    assert served_by(await bench.detect()) == CHAMPION
    assert (await bench.observations(1))[0]["fallback"]


async def fail(detector: Any, how: str) -> None:
    """Have a detector die, answer 500 from now on, or cut its connections."""
    if how == "dies":
        await detector.stop()
    elif how == "500":
        detector.status = 500
    else:
        detector.drop = True


@pytest.mark.parametrize("mode", ["champion", "shadow", "canary"])
@pytest.mark.parametrize("how", ["dies", "500", "cuts off"])
async def test_the_candidate_answers_in_every_mode_when_the_champion_fails(bench: Any, mode: str, how: str) -> None:
    await bench.route(mode, 0.0, candidate=bench.candidate.backend())
    assert served_by(await bench.detect()) == CHAMPION
    await bench.observations(1)
    num_asked = len(bench.candidate.seen)
    await fail(bench.champion, how)
    assert served_by(await bench.detect(request_id="id-2")) == CANDIDATE
    seen = (await bench.observations(2))[-1]
    assert (seen["mode"], seen["served_by"], seen["fallback"], seen["request_id"]) == (mode, "candidate", True, "id-2")
    assert seen["champion"]["error"] and seen["candidate"]["error"] is None
    assert len(bench.candidate.seen) == num_asked + 1  # the answer is the pair, there is no copy besides
    assert (await bench.get("/stats"))["fallbacks_total"] == 1


async def test_a_shadow_that_fails_as_well_leaves_the_champions_answer(bench: Any) -> None:
    bench.champion.status, bench.candidate.status = 503, 500
    await bench.route("shadow")
    response = await bench.detect()
    assert (response.status, response.headers["x-served-by"]) == (503, "champion")
    (seen,) = await bench.observations(1)
    assert (seen["fallback"], seen["candidate"]["status"]) == (False, 500)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"detections": [{"box": 1}]}', b""])
async def test_what_is_no_answer_of_a_detector_never_reaches_a_client_from_a_candidate(bench: Any, body: bytes) -> None:
    bench.candidate.body = body
    await bench.route("canary", 1.0)
    assert served_by(await bench.detect()) == CHAMPION
    (seen,) = await bench.observations(1)
    assert seen["fallback"] and seen["candidate"]["error"].startswith("malformed answer")
    assert 'router_backend_errors_total{arm="candidate"} 1.0' in bench.router.metrics.render().decode()


async def test_other_doors_that_change_nothing_have_a_fallback_too(bench: Any) -> None:
    await bench.route("shadow")
    await bench.champion.stop()
    async with bench.client.get(f"{bench.url}/v1/model") as response:
        assert (response.status, response.headers["x-served-by"]) == (200, "candidate")
    async with bench.client.post(f"{bench.url}/v1/else", data=b"x") as response:
        assert response.status == 503
    assert [request.method for request in bench.candidate.seen] == ["GET"]


async def test_a_standby_that_is_not_ready_is_asked_only_when_there_is_nothing_to_lose(bench: Any) -> None:
    bench.candidate.ready = False
    bench.champion.status = 500
    await bench.route("canary", 0.0)
    await bench.until(lambda: bench.router.pools[bench.candidate.url].ready is False)
    assert served_by(await bench.detect()) == CANDIDATE  # it may have become so since it was looked at
    bench.candidate.status = 503
    response = await bench.detect()
    assert (response.status, response.headers["x-served-by"]) == (500, "champion")


async def test_a_champion_that_is_gone_is_a_clear_503(bench: Any) -> None:
    await bench.champion.stop()
    await bench.route("champion")
    response = await bench.detect(request_id="id-1")
    assert (response.status, code(response), response.headers["x-request-id"]) == (503, "no_answer", "id-1")
    assert (await bench.get("/stats"))["errors_total"] == 1


async def test_a_restarted_champion_loses_no_frame(bench: Any) -> None:
    """The kept connections died with it; the next frame goes out on a fresh one."""
    await bench.route("champion")
    await bench.detect()
    port = bench.champion.port
    await bench.champion.stop()
    await bench.champion.start(port)
    assert served_by(await bench.detect()) == CHAMPION


class TestHanging:
    """A back end that accepts and never answers."""

    @pytest.fixture
    def limits(self) -> ForwardingLimits:
        return ForwardingLimits(candidate_timeout_s=0.25, champion_timeout_s=60.0, copies_in_flight=1)

    @pytest.mark.parametrize("mode", ["champion", "shadow", "canary"])
    async def test_a_champion_that_hangs_holds_one_frame_and_gets_its_users_back_when_it_answers_copies(
        self, bench: Any, mode: str
    ) -> None:
        await bench.route(mode, 0.0, candidate=bench.candidate.backend())
        bench.champion.gate = asyncio.Event()
        assert served_by(await bench.detect()) == CANDIDATE
        (seen,) = await bench.observations(1)
        assert (seen["fallback"], seen["champion"]["error"]) == (True, "no answer within 250 ms")
        assert (await bench.get("/stats"))["arms"]["champion"]["hangs"]
        assert served_by(await bench.detect()) == CANDIDATE
        await bench.until(lambda: len(bench.champion.seen) == 2)
        assert "x-shadow-copy" in bench.champion.seen[1].headers  # no user waited for it
        bench.champion.gate.set()
        await self.until_served_by(bench, CHAMPION)
        copies = [request for request in bench.champion.seen if "x-shadow-copy" in request.headers]
        assert len(copies) >= 8
        assert not (await bench.get("/stats"))["arms"]["champion"]["hangs"]

    async def test_a_candidate_that_hangs_holds_one_frame_and_comes_back_in_the_same_way(self, bench: Any) -> None:
        await bench.route("canary", 1.0)
        bench.candidate.gate = asyncio.Event()
        assert served_by(await bench.detect()) == CHAMPION
        await bench.until(lambda: bench.candidate.num_waiting == 0)  # it was told that nobody waits any more
        assert served_by(await bench.detect()) == CHAMPION
        seen = await bench.observations(2)
        assert [entry["fallback"] for entry in seen] == [True, True]
        assert [entry["candidate"]["error"] for entry in seen] == ["no answer within 250 ms"] * 2
        bench.candidate.gate.set()
        await self.until_served_by(bench, CANDIDATE)

    async def test_a_champion_that_is_only_slow_still_answers_when_the_candidate_cannot(self, bench: Any) -> None:
        bench.champion.gate, bench.candidate.status = asyncio.Event(), 500
        await bench.route("shadow")
        frame = asyncio.ensure_future(bench.detect())
        await bench.until(lambda: len(bench.candidate.seen) == 1)
        bench.champion.gate.set()
        assert served_by(await frame) == CHAMPION
        assert len(bench.champion.seen) == 1  # it kept its place: nobody asked again

    async def test_a_champion_that_answers_first_after_all_is_served(self, bench: Any) -> None:
        bench.champion.gate, bench.candidate.gate = asyncio.Event(), asyncio.Event()
        await bench.route("champion", candidate=bench.candidate.backend())
        frame = asyncio.ensure_future(bench.detect())
        await bench.until(lambda: bench.candidate.num_waiting == 1)
        bench.champion.gate.set()
        assert served_by(await frame) == CHAMPION
        await bench.until(lambda: bench.candidate.num_waiting == 0)

    async def test_a_client_that_leaves_while_both_are_asked_costs_nothing_more(self, bench: Any) -> None:
        bench.champion.gate, bench.candidate.gate = asyncio.Event(), asyncio.Event()
        await bench.route("shadow")
        frame = asyncio.ensure_future(bench.detect())
        await bench.until(lambda: bench.candidate.num_waiting == 1)
        frame.cancel()
        await bench.until(lambda: bench.champion.num_waiting == bench.candidate.num_waiting == 0)
        assert (await bench.get("/stats"))["requests_total"] == 0

    async def until_served_by(self, bench: Any, arm: tuple[int, str, str]) -> None:
        async def arrived() -> bool:
            response = await bench.detect()
            assert response.status == 200
            return served_by(response) == arm

        await bench.until(arrived)


class TestBothHang:
    @pytest.fixture
    def limits(self) -> ForwardingLimits:
        return ForwardingLimits(candidate_timeout_s=0.05, champion_timeout_s=0.05)

    async def test_two_that_hang_are_a_clear_503(self, bench: Any) -> None:
        bench.champion.gate = bench.candidate.gate = asyncio.Event()
        await bench.route("canary", 1.0)
        response = await bench.detect()
        assert (response.status, code(response), response.headers["retry-after"]) == (503, "no_answer", "1")
        details = response.json()["error"]["details"]
        assert details == {"champion": "no answer within 50 ms", "candidate": "no answer within 50 ms"}

"""Every mode and every way to fall back, over real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.router.served import CANDIDATE, CHAMPION, canary_cameras, code, served_by


async def test_without_a_champion_there_is_a_clear_no(bench: Any) -> None:
    response = await bench.detect(request_id="id-1")
    assert (response.status, code(response), response.headers["retry-after"]) == (503, "no_champion", "1")
    assert response.json()["error"]["request_id"] == "id-1"


async def test_the_champion_answers(bench: Any) -> None:
    await bench.route("champion")
    response = await bench.detect(request_id="id-1", body=b"x" * 200_000)
    assert served_by(response) == CHAMPION
    assert response.json()["request_id"] == response.headers["x-request-id"] == "id-1"
    seen = bench.champion.seen[0]
    assert (seen.path_qs, seen.content_type, seen.headers["x-camera-id"]) == (
        "/v1/detect?conf=0.3",
        "image/jpeg",
        "cam01",
    )
    assert len(bench.champion.last_body) == 200_000


async def test_a_missing_request_id_is_made(bench: Any) -> None:
    await bench.route("champion")
    ids = [(await bench.detect()).headers["x-request-id"] for _ in range(2)]
    assert ids == bench.champion.ids and len(set(ids)) == 2


@pytest.mark.parametrize("status", [200, 400, 404, 413, 422, 429, 500, 503])
async def test_answers_are_relayed_as_they_are(bench: Any, status: int) -> None:
    bench.champion.status, bench.champion.body = status, b"\x00raw"
    bench.champion.headers = {
        "content-type": "image/x-own",
        "etag": '"7"',
        "retry-after": "9",
        "keep-alive": "timeout=5",
    }
    await bench.route("champion")
    response = await bench.detect()
    assert (response.status, response.body) == (status, b"\x00raw")
    assert (response.headers["content-type"], response.headers["etag"], response.headers["retry-after"]) == (
        "image/x-own",
        '"7"',
        "9",
    )
    assert "keep-alive" not in response.headers


async def test_other_paths_go_to_the_champion_and_are_not_observed(bench: Any) -> None:
    await bench.route("canary", 1.0)
    async with bench.client.get(f"{bench.url}/schema.json?a=b") as response:
        assert (response.status, response.headers["x-served-by"]) == (200, "champion")
    async with bench.client.head(f"{bench.url}/schema.json") as response:
        assert response.status == 200 and int(response.headers["content-length"]) > 0
    assert served_by(await bench.detect("cam01")) == CANDIDATE
    assert len(await bench.observations(1)) == 1
    assert [request.method for request in bench.candidate.seen] == ["POST"]


async def test_mode_champion_observes_the_champion_only(bench: Any) -> None:
    await bench.route("champion")
    await bench.detect("cam03", "id-1")
    (seen,) = await bench.observations(1)
    assert (seen["camera"], seen["request_id"], seen["served_by"], seen["fallback"]) == (
        "cam03",
        "id-1",
        "champion",
        False,
    )
    assert (seen["mode"], seen["promotion"], seen["candidate"]) == ("champion", 7, None)
    assert seen["champion"]["detections"] == [[1.0, 2.0, 30.5, 40.0, 0.75, 2]]
    assert seen["champion"]["status"] == 200 and seen["champion"]["latency_ms"] > 0


async def test_in_shadow_the_champion_answers_and_the_candidate_gets_a_copy(bench: Any) -> None:
    await bench.route("shadow")
    bench.candidate.detections = []
    assert served_by(await bench.detect(request_id="id-1", body=b"pixels")) == CHAMPION
    (seen,) = await bench.observations(1)
    assert (len(seen["champion"]["detections"]), seen["candidate"]["detections"]) == (1, [])
    assert (bench.candidate.ids, bench.candidate.last_body) == (["id-1"], b"pixels")
    assert "x-shadow-copy" in bench.candidate.seen[0].headers and "x-shadow-copy" not in bench.champion.seen[0].headers


async def test_a_shadow_that_fails_is_recorded_and_nobody_else_notices(bench: Any) -> None:
    bench.candidate.status = 500
    await bench.route("shadow")
    assert served_by(await bench.detect()) == CHAMPION
    (seen,) = await bench.observations(1)
    assert (seen["candidate"]["status"], seen["candidate"]["error"]) == (500, "status 500")


async def test_a_canary_is_sticky_by_camera_and_ramps_by_adding(bench: Any) -> None:
    few, rest = await canary_cameras(bench, 0.2)
    assert len(few) == 2
    for _ in range(2):
        assert {served_by(await bench.detect(camera)) for camera in few} == {CANDIDATE}
        assert {served_by(await bench.detect(camera)) for camera in [*rest, ""]} == {CHAMPION}
    await bench.route("canary", 0.5)
    more = (await bench.get("/stats"))["canary_cameras"]
    assert len(more) == 5 and set(few) < set(more)


async def test_a_canary_frame_is_also_judged_by_the_champion(bench: Any) -> None:
    await bench.route("canary", 1.0)
    bench.champion.detections = []
    response = await bench.detect(request_id="id-1")
    assert served_by(response) == CANDIDATE and len(response.json()["detections"]) == 1
    (seen,) = await bench.observations(1)
    assert (seen["served_by"], seen["fallback"], seen["mode"]) == ("candidate", False, "canary")
    assert (seen["champion"]["detections"], len(seen["candidate"]["detections"])) == ([], 1)
    assert bench.champion.ids == bench.candidate.ids == ["id-1"]


async def test_a_client_that_sends_too_much_is_told_so_and_nobody_else_is_asked(bench: Any) -> None:
    bench.candidate.status = bench.champion.status = 429
    bench.candidate.headers = {"retry-after": "7"}
    await bench.route("canary", 1.0)
    response = await bench.detect()
    served = response.headers["x-served-by"]
    assert (response.status, response.headers["retry-after"], served) == (429, "7", "candidate")
    (seen,) = await bench.observations(1)
    assert (seen["fallback"], seen["champion"], seen["candidate"]["error"]) == (False, None, None)
    await bench.route("shadow")
    assert (await bench.detect()).headers["x-served-by"] == "champion"
    stats = await bench.get("/stats")
    assert (stats["fallbacks_total"], stats["errors_total"]) == (0, 0)
    assert (len(bench.champion.seen), len(bench.candidate.seen)) == (1, 1)


async def test_keys_and_traces_reach_the_back_end(bench: Any) -> None:
    await bench.route("champion")
    given = {"authorization": "Bearer t", "x-api-key": "k", "traceparent": "00-1-2-01"}
    async with bench.client.get(f"{bench.url}/schema.json", headers=given) as response:
        assert response.status == 200
    (seen,) = bench.champion.seen
    assert {name: seen.headers[name] for name in given} == given


async def test_no_client_can_call_its_frame_a_copy(bench: Any) -> None:
    await bench.route("champion")
    headers = {"x-shadow-copy": "1"}
    async with bench.client.post(f"{bench.url}/v1/detect", data=b"frame", headers=headers) as response:
        assert response.status == 200
    assert "x-shadow-copy" not in bench.champion.seen[0].headers


async def test_a_client_that_leaves_costs_nothing_more(bench: Any) -> None:
    bench.candidate.gate = asyncio.Event()
    await bench.route("canary", 1.0)
    frame = asyncio.ensure_future(bench.detect())
    await bench.until(lambda: bench.candidate.num_waiting == 1)
    frame.cancel()
    await bench.until(lambda: bench.candidate.num_waiting == 0)
    stats = await bench.get("/stats")
    assert (bench.champion.seen, stats["in_flight"]["candidate"], stats["requests_total"]) == ([], 0, 0)


async def test_an_empty_valid_answer_is_an_answer(bench: Any) -> None:
    bench.candidate.detections = []
    await bench.route("canary", 1.0)
    assert served_by(await bench.detect()) == CANDIDATE
    seen = (await bench.observations(1))[0]
    assert (seen["candidate"]["detections"], seen["candidate"]["error"], seen["fallback"]) == ([], None, False)

"""The same frame again: kept, shared while under way, and never recorded twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bentos.detector.cache import AnswerCache
from bentos.detector.contract import Thresholds
from bentos.detector.detector import Detections
from bentos.detector.recorder import Recorder, read_records

JPEG = {"content-type": "image/jpeg"}
THRESHOLDS = Thresholds(conf=0.25, iou=0.6, max_det=5)


def found(num: int = 1) -> Detections:
    boxes, scores = np.zeros((num, 4), dtype=np.float32), np.zeros(num, dtype=np.float32)
    return Detections(boxes, scores, np.zeros(num, dtype=np.int64), (8, 8), {})


def test_the_key_tells_frames_thresholds_and_models_apart() -> None:
    cache = AnswerCache(10_000, "model")
    keys = [
        cache.key_of(b"a", THRESHOLDS),
        cache.key_of(b"b", THRESHOLDS),
        cache.key_of(b"a", THRESHOLDS.model_copy(update={"conf": 0.26})),
        cache.key_of(b"a", THRESHOLDS.model_copy(update={"iou": 0.61})),
        cache.key_of(b"a", THRESHOLDS.model_copy(update={"max_det": 4})),
        AnswerCache(10_000, "other").key_of(b"a", THRESHOLDS),
    ]
    assert len(set(keys)) == len(keys)
    assert cache.key_of(b"a", THRESHOLDS) == keys[0]


def test_the_least_recently_asked_gives_way() -> None:
    cache = AnswerCache(2_500, "model")
    cache.put(b"1", found())
    cache.put(b"2", found())
    assert cache.get(b"1") is not None
    cache.put(b"3", found())
    assert [cache.get(key) is not None for key in (b"1", b"2", b"3")] == [True, False, True]


def test_it_keeps_arrays_of_its_own() -> None:
    cache, whole = AnswerCache(10_000, "model"), np.zeros((300, 4), dtype=np.float32)
    cache.put(b"1", Detections(whole[:1], whole[:1, 0], whole[:1, 0].astype(np.int64), (8, 8), {}))
    kept = cache.get(b"1")
    assert kept is not None
    assert kept.boxes_xyxy.base is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 100)), max_size=80))
def test_it_never_outgrows_its_bytes(puts: list[tuple[int, int]]) -> None:
    cache = AnswerCache(6_000, "model")
    for key, num in puts:
        cache.put(bytes([key]), found(num))
        assert cache.num_bytes <= 6_000
    sizes = {key: 1000 + 28 * num for key, num in puts}
    held = [key for key in range(10) if cache.get(bytes([key])) is not None]
    assert cache.num_bytes == sum(sizes[key] for key in held)
    assert len(cache) == len(held)


async def test_a_frame_sent_again_runs_once(open_app: Any, hold: Any, picture: bytes) -> None:
    client, app = open_app(cache=AnswerCache(100_000, "model"))
    gate, sizes = hold(app)
    gate.set()
    answers = [
        await client.post("/v1/detect", content=picture, headers={**JPEG, "x-request-id": name}) for name in ("a", "b")
    ]
    other = await client.post("/v1/detect?conf=0.3", content=picture, headers=JPEG)
    assert [answer.headers["x-cache"] for answer in (*answers, other)] == ["miss", "hit", "miss"]
    first, again = (answer.json() for answer in answers)
    assert sizes == [1, 1]
    assert again["detections"] == first["detections"] != []
    assert (first["request_id"], again["request_id"]) == ("a", "b")
    assert again["timing_ms"]["inference"] == 0
    assert again["timing_ms"]["total"] > 0
    metrics = app.runtime.metrics()
    assert 'detector_cache_lookups_total{result="hit"} 1.0' in metrics
    assert 'detector_cache_lookups_total{result="miss"} 2.0' in metrics
    assert 'detector_stage_seconds_count{model_version="7",stage="inference"} 2.0' in metrics
    assert 'detector_stage_seconds_count{model_version="7",stage="total"} 3.0' in metrics


async def test_without_a_cache_nothing_is_said_of_it(open_app: Any, picture: bytes) -> None:
    client, _ = open_app()
    assert "x-cache" not in (await client.post("/v1/detect", content=picture, headers=JPEG)).headers


async def waiting(app: Any, num: int) -> None:
    while sum(len(flight.waiters) for flight in app.runtime.inference._flights) < num:
        await asyncio.sleep(0.001)


async def test_the_same_frame_under_way_is_shared(open_app: Any, hold: Any, picture: bytes, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "records", interval_s=0)
    client, app = open_app(cache=AnswerCache(100_000, "model"), recorder=recorder)
    gate, sizes = hold(app)
    posts = [
        asyncio.create_task(client.post("/v1/detect", content=picture, headers={**JPEG, "x-camera-id": f"c{index}"}))
        for index in range(5)
    ]
    await waiting(app, 5)
    gate.set()
    answers = await asyncio.gather(*posts)
    assert sizes == [1]
    assert sorted(answer.headers["x-cache"] for answer in answers) == ["hit"] * 4 + ["miss"]
    assert len({str(answer.json()["detections"]) for answer in answers}) == 1
    assert len({answer.json()["request_id"] for answer in answers}) == 5
    assert 'detector_cache_lookups_total{result="joined"} 4.0' in app.runtime.metrics()
    await asyncio.to_thread(recorder.close)
    assert len(list(read_records(tmp_path / "records"))) == 1


async def test_who_came_first_may_leave(open_app: Any, hold: Any, picture: bytes) -> None:
    _, app = open_app(cache=AnswerCache(100_000, "model"))
    gate, sizes = hold(app)
    inference, left = app.runtime.inference, asyncio.Event()

    async def receive() -> dict[str, Any]:
        await left.wait()
        return {"type": "http.disconnect"}

    blocker = asyncio.create_task(inference.run(picture + b"x", THRESHOLDS))
    while not sizes:
        await asyncio.sleep(0.001)
    first = asyncio.create_task(inference.run(picture, THRESHOLDS, receive))
    await waiting(app, 2)
    second = asyncio.create_task(inference.run(picture, THRESHOLDS))
    await waiting(app, 3)
    left.set()
    assert type(await asyncio.gather(first, return_exceptions=True)).__name__ == "list"
    assert first.exception() is not None
    gate.set()
    assert (await second).cache == "hit"
    await blocker
    assert sum(sizes) == 2


async def test_when_all_have_left_nothing_runs_and_nothing_is_shared(open_app: Any, hold: Any, picture: bytes) -> None:
    _, app = open_app(cache=AnswerCache(100_000, "model"))
    gate, sizes = hold(app)
    inference = app.runtime.inference
    blocker = asyncio.create_task(inference.run(picture + b"x", THRESHOLDS))
    while not sizes:
        await asyncio.sleep(0.001)

    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    leavers = [asyncio.create_task(inference.run(picture, THRESHOLDS, gone)) for _ in range(2)]
    outcomes = await asyncio.gather(*leavers, return_exceptions=True)
    assert [getattr(outcome, "code", None) for outcome in outcomes] == ["client_gone"] * 2
    gate.set()
    await blocker
    assert (await inference.run(picture, THRESHOLDS)).cache == "miss"
    assert sum(sizes) == 2
    assert not inference._shared


async def test_failures_are_not_kept(open_app: Any) -> None:
    client, app = open_app(cache=AnswerCache(100_000, "model"))
    for _ in range(2):
        assert (await client.post("/v1/detect", content=b"nothing", headers=JPEG)).status_code == 400
    assert len(app.runtime.cache) == 0
    assert app.runtime.cache.num_misses == 2

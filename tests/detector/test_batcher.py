"""Batches form by themselves, nobody is lost, and who left costs nothing. A gated engine stands for a slow one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_all
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.detector.batcher import Batcher, Outcome
from bentos.detector.detector import Detector
from bentos.detector.errors import BadImage, EngineFailed, NotReady, Overloaded
from bentos.detector.feeds import InlineFeed, RunningMean, StagedFeed

PATIENCE_S = 30


class GatedEngine:
    """Lets a batch through when it is told to, and remembers the batches."""

    def __init__(self, engine: Any, *, max_batch: int = 4, num_parallel: int = 1) -> None:
        self._engine = engine
        self.max_batch = max_batch
        self.num_parallel = num_parallel
        self.num_decoders = 0
        self.solo: Any = None
        self.sizes: list[int] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.error: Exception | None = None

    def infer(self, frames: np.ndarray) -> np.ndarray:
        self.sizes.append(len(frames))
        self.entered.release()
        assert self.gate.acquire(timeout=PATIENCE_S)
        if self.error is not None:
            raise self.error
        return self._engine.infer(frames)

    def open(self) -> None:
        self.gate.release(1000)

    def close(self) -> None:
        self._engine.close()


@pytest.fixture
def make(fake_dir) -> Iterator[Callable[..., tuple[Batcher, GatedEngine]]]:
    made: list[tuple[Batcher, GatedEngine]] = []

    def build(
        max_batch: int = 4, num_parallel: int = 1, num_decoders: int = 2, **options: Any
    ) -> tuple[Batcher, GatedEngine]:
        detector = Detector.load(fake_dir)
        engine = GatedEngine(detector.engine, max_batch=max_batch, num_parallel=num_parallel)
        detector.engine = engine
        made.append((Batcher(detector, num_decoders=num_decoders, **options), engine))
        return made[-1]

    yield build
    for batcher, engine in made:
        engine.open()
        batcher.close(PATIENCE_S)


def submit(batcher: Batcher, data: bytes, **options: Any) -> Future[Outcome]:
    return batcher.submit(data, batcher._detector.spec.thresholds, **options)


def wait_placed(batcher: Batcher, num: int) -> None:
    """Until `num` frames lie in the filling batch."""
    feed = batcher._feed
    assert isinstance(feed, StagedFeed)
    with feed._changed:
        placed = feed._changed.wait_for(
            lambda: num == 0 or (feed._filling is not None and feed._filling.num_placed >= num), PATIENCE_S
        )
    assert placed


both_feeds = pytest.mark.parametrize("num_decoders", [0, 2], ids=["inline", "staged"])


@both_feeds
def test_one_frame_is_answered_like_offline(make, num_decoders, picture) -> None:
    batcher, engine = make(num_decoders=num_decoders)
    engine.open()
    outcome = submit(batcher, picture).result(PATIENCE_S)
    (expected,) = batcher._detector.detect([picture])
    np.testing.assert_array_equal(outcome.detections.boxes_xyxy, expected.boxes_xyxy)
    assert outcome.detections.size_wh == (128, 64)
    assert outcome.features is None
    assert outcome.batch_size == 1
    assert set(outcome.detections.timing_ms) == {"decode", "queue", "inference", "postprocess"}
    assert batcher.num_waiting == 0


def test_a_free_engine_takes_what_is_there(make, picture) -> None:
    batcher, engine = make()
    first = submit(batcher, picture)
    assert engine.entered.acquire(timeout=PATIENCE_S)
    rest = [submit(batcher, picture) for _ in range(3)]
    wait_placed(batcher, 3)
    engine.open()
    wait_all([first, *rest], PATIENCE_S)
    assert engine.sizes == [1, 3]
    assert {future.result().batch_size for future in rest} == {3}


@both_feeds
def test_batches_never_exceed_their_size_and_nobody_is_lost(make, num_decoders, paint, encode) -> None:
    sizes: list[int] = []
    batcher, engine = make(num_decoders=num_decoders, max_batch=3, on_batch=sizes.append, max_queue=100)
    images = [encode(paint({i % 3: (8, 8, 40, 24)}, (64, 32)), "PNG") for i in range(40)]
    futures = [submit(batcher, image) for image in images]
    engine.open()
    for index, future in enumerate(futures):
        assert future.result(PATIENCE_S).detections.class_ids.tolist() == [index % 3]
    assert max(engine.sizes) <= 3
    assert sum(engine.sizes) == sum(sizes) == 40


@both_feeds
def test_two_batches_run_side_by_side_where_the_engine_can(make, num_decoders, picture) -> None:
    batcher, engine = make(num_decoders=num_decoders, max_batch=1, num_parallel=2)
    futures = [submit(batcher, picture) for _ in range(3)]
    assert engine.entered.acquire(timeout=PATIENCE_S)
    assert engine.entered.acquire(timeout=PATIENCE_S)
    engine.open()
    wait_all(futures, PATIENCE_S)
    assert [future.exception() for future in futures] == [None] * 3


@both_feeds
def test_a_bad_image_fails_alone(make, num_decoders, picture) -> None:
    batcher, engine = make(num_decoders=num_decoders)
    engine.open()
    bad, good = submit(batcher, b"nothing"), submit(batcher, picture)
    with pytest.raises(BadImage):
        bad.result(PATIENCE_S)
    assert len(good.result(PATIENCE_S).detections.scores) == 1


def test_who_left_before_the_batch_closed_is_not_run(make, paint, encode) -> None:
    batcher, engine = make(num_decoders=1)
    images = [encode(paint({i % 3: (8, 8, 40, 24)}, (64, 32)), "PNG") for i in range(4)]
    first = submit(batcher, images[0])
    assert engine.entered.acquire(timeout=PATIENCE_S)
    rest = [submit(batcher, image) for image in images[1:]]
    wait_placed(batcher, 3)
    assert rest[0].cancel()
    engine.open()
    assert first.result(PATIENCE_S).detections.class_ids.tolist() == [0]
    assert rest[1].result(PATIENCE_S).detections.class_ids.tolist() == [2]
    assert rest[2].result(PATIENCE_S).detections.class_ids.tolist() == [0]
    assert engine.sizes == [1, 2]
    with pytest.raises(CancelledError):
        rest[0].result(PATIENCE_S)
    assert batcher.num_waiting == 0


def test_who_left_before_decoding_is_not_even_decoded(make, picture, monkeypatch) -> None:
    batcher, engine = make(max_batch=1, num_decoders=1)
    decoded: list[bytes] = []
    original = batcher._detector.decode
    monkeypatch.setattr(batcher._detector, "decode", lambda data: decoded.append(data) or original(data))
    first = submit(batcher, picture)
    assert engine.entered.acquire(timeout=PATIENCE_S)
    second, third = submit(batcher, picture), submit(batcher, picture)
    wait_placed(batcher, 1)  # the second; the third, decoded, waits for a slot
    fourth = submit(batcher, picture)
    assert fourth.cancel()
    engine.open()
    wait_all([first, second, third], PATIENCE_S)
    batcher.close(PATIENCE_S)
    assert len(decoded) == 3


@both_feeds
def test_a_full_queue_refuses_and_says_when_to_come_back(make, num_decoders, picture) -> None:
    batcher, engine = make(num_decoders=num_decoders, max_queue=2)
    futures = [submit(batcher, picture) for _ in range(2)]
    with pytest.raises(Overloaded, match="2 frames are waiting") as caught:
        submit(batcher, picture)
    assert caught.value.retry_after_s >= 1
    assert caught.value.status == 503
    engine.open()
    wait_all(futures, PATIENCE_S)
    assert submit(batcher, picture).result(PATIENCE_S)


@both_feeds
def test_a_long_predicted_wait_refuses(make, num_decoders, picture) -> None:
    batcher, engine = make(num_decoders=num_decoders, max_wait_ms=2500)
    batcher._feed._frame_ms.add(1000.0)
    futures = [submit(batcher, picture) for _ in range(3)]
    with pytest.raises(Overloaded) as caught:
        submit(batcher, picture)
    assert caught.value.retry_after_s == 3  # three frames of a second each
    engine.open()
    wait_all(futures, PATIENCE_S)


@both_feeds
def test_a_lost_batch_fails_its_frames_and_no_others(make, num_decoders, picture) -> None:
    batcher, engine = make(num_decoders=num_decoders)
    engine.error = RuntimeError("the device fell off the bus")
    engine.gate.release()
    with pytest.raises(EngineFailed, match="the device fell off the bus"):
        submit(batcher, picture).result(PATIENCE_S)
    engine.error = None
    engine.open()
    assert submit(batcher, picture).result(PATIENCE_S)


@both_feeds
def test_features_only_where_asked_for(make, num_decoders, picture) -> None:
    batcher, engine = make(num_decoders=num_decoders)
    engine.open()
    outcome = submit(batcher, picture, wants_features=True).result(PATIENCE_S)
    assert outcome.features is not None
    assert set(outcome.features) == {"brightness", "contrast", "sharpness"}


@both_feeds
def test_closing_finishes_what_is_under_way_and_takes_no_more(make, num_decoders, picture) -> None:
    batcher, engine = make(num_decoders=num_decoders, max_batch=1)
    futures = [submit(batcher, picture) for _ in range(5)]
    engine.open()
    assert batcher.close(PATIENCE_S)
    assert [future.exception() for future in futures] == [None] * 5
    with pytest.raises(NotReady):
        submit(batcher, picture)


@both_feeds
def test_closing_without_time_tells_everybody(make, num_decoders, picture) -> None:
    batcher, engine = make(num_decoders=num_decoders, max_batch=1)
    first = submit(batcher, picture)
    assert engine.entered.acquire(timeout=PATIENCE_S)
    rest = [submit(batcher, picture) for _ in range(5)]
    closing = threading.Thread(target=batcher.close, args=(0,))
    closing.start()
    for future in rest:
        assert isinstance(future.exception(PATIENCE_S), NotReady)
    engine.open()
    closing.join(PATIENCE_S)
    assert first.result(PATIENCE_S)
    assert engine.sizes == [1]


@both_feeds
async def test_from_asyncio_with_cancellation(make, num_decoders, picture) -> None:
    batcher, engine = make(num_decoders=num_decoders, max_batch=1)
    first = asyncio.wrap_future(submit(batcher, picture))
    await asyncio.to_thread(engine.entered.acquire)
    left = asyncio.wrap_future(submit(batcher, picture))
    left.cancel()
    engine.open()
    assert len((await first).detections.scores) == 1
    await asyncio.to_thread(batcher.close, PATIENCE_S)
    assert sum(engine.sizes) == 1


def test_lanes_share_the_queue_and_slow_frames_go_alone(make, picture) -> None:
    batcher, _ = make(num_decoders=0, num_parallel=2, max_batch=4, max_batch_ms=25)
    feed = batcher._feed
    assert isinstance(feed, InlineFeed)
    shares = []
    for frame_ms, num_queued in [(0.0, 8), (1.0, 1), (1.0, 2), (1.0, 3), (1.0, 6), (1.0, 40), (12.0, 40), (80.0, 40)]:
        feed._frame_ms = RunningMean()
        feed._frame_ms.add(frame_ms)
        feed._queue.extend([None] * num_queued)  # type: ignore[list-item]
        shares.append(feed._share())
        feed._queue.clear()
    assert shares == [1, 1, 1, 2, 2, 4, 2, 1]


def test_who_is_alone_has_every_core(make, picture) -> None:
    batcher, engine = make(num_decoders=0, num_parallel=2)
    solo = GatedEngine(engine._engine)
    engine.solo = solo
    first = submit(batcher, picture)
    assert solo.entered.acquire(timeout=PATIENCE_S)
    second = submit(batcher, picture)
    assert engine.entered.acquire(timeout=PATIENCE_S)
    solo.open()
    engine.open()
    wait_all([first, second], PATIENCE_S)
    assert (solo.sizes, engine.sizes) == ([1], [1])


def test_who_left_the_queue_is_not_decoded_by_a_lane(make, picture, monkeypatch) -> None:
    batcher, engine = make(num_decoders=0, max_batch=4)
    decoded: list[bytes] = []
    original = batcher._detector.decode
    monkeypatch.setattr(batcher._detector, "decode", lambda data: decoded.append(data) or original(data))
    first = submit(batcher, picture)
    assert engine.entered.acquire(timeout=PATIENCE_S)
    left, stayed = submit(batcher, picture), submit(batcher, picture)
    assert left.cancel()
    engine.open()
    wait_all([first, stayed], PATIENCE_S)
    assert len(decoded) == sum(engine.sizes) == 2


@given(st.lists(st.floats(0.1, 1e4), min_size=1, max_size=50))
def test_a_running_mean_stays_among_its_values(values: list[float]) -> None:
    mean = RunningMean()
    for value in values:
        mean.add(value)
    assert min(values) * (1 - 1e-9) <= mean.value <= max(values) * (1 + 1e-9)


def test_one_outlier_moves_a_running_mean_little_and_a_trend_is_followed() -> None:
    mean = RunningMean()
    mean.add(10.0)
    mean.add(5000.0)
    assert mean.value == pytest.approx(13.0)
    for _ in range(60):
        mean.add(100.0)
    assert mean.value == pytest.approx(100.0, rel=0.05)

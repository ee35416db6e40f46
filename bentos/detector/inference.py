"""A frame's way to the engine and back, on the event loop: a cache before it, a breaker around it, a deadline on it.

    run -> cache: stored? -> the same frame under way? -> breaker -> batcher -> lands: breaker told, cache filled

What is under way is a flight. It usually has one waiter; with the cache all who sent the same frame wait for one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

from bentos.detector.batcher import Batcher, Outcome
from bentos.detector.breaker import Breaker
from bentos.detector.cache import AnswerCache
from bentos.detector.contract import Thresholds
from bentos.detector.detector import Detections
from bentos.detector.errors import ClientGone, EngineFailed, EngineTimeout
from bentos.detector.request import Receive

_STUCK_TIMEOUTS = 3
_IDLE_MS = {"decode": 0.0, "queue": 0.0, "inference": 0.0, "postprocess": 0.0}


@dataclass(frozen=True, slots=True)
class Found:
    """What one request gets. `cache` is empty where there is no cache; a hit has no features: its frame had them."""

    detections: Detections
    features: dict[str, float] | None
    cache: Literal["", "hit", "miss"]


@dataclass(eq=False, slots=True)
class _Flight:
    future: Future[Outcome]
    ticket: int
    started_s: float
    key: bytes
    waiters: list[asyncio.Future[Outcome]] = field(default_factory=list)


def _never() -> bool:
    return False


class Inference:
    """Runs frames through a `Batcher`. To be used from one event loop.

    Args:
        batcher: What runs them.
        breaker: Told of every outcome; refuses frames while the engine rests.
        cache: Answers to frames that were sent before, if any.
        timeout_s: How long a frame may take from here to its boxes before the engine counts as hung.
    """

    def __init__(
        self, batcher: Batcher, breaker: Breaker, cache: AnswerCache | None = None, timeout_s: float = 10.0
    ) -> None:
        self._batcher = batcher
        self._breaker = breaker
        self._cache = cache
        self._timeout_s = timeout_s
        self._flights: dict[_Flight, None] = {}  # oldest first
        self._shared: dict[bytes, _Flight] = {}
        self._given_up: dict[_Flight, None] = {}  # still in the engine, oldest first
        self._watch: asyncio.TimerHandle | None = None

    def is_stuck(self, now_s: float) -> bool:
        """Whether a frame has been in the engine for several timeouts: then only a new process helps.

        Args:
            now_s: Time of the event loop.
        """
        oldest = next(iter(self._given_up), None)
        return oldest is not None and now_s - oldest.started_s > _STUCK_TIMEOUTS * self._timeout_s

    async def run(
        self,
        data: bytes,
        thresholds: Thresholds,
        receive: Receive | None = None,
        wants_features: Callable[[], bool] = _never,
    ) -> Found:
        """Detect objects in the bytes of an image.

        Args:
            data: The image.
            thresholds: What becomes a detection.
            receive: Where the client's leaving is heard of; a frame that nobody waits for costs no inference.
            wants_features: Asked once if the frame is really run.

        Raises:
            ClientGone: The client left.
            EngineSuspended: The engine failed repeatedly, and rests.
            EngineTimeout: It did not answer in time.
            DetectorError: Whatever `Batcher.submit` and its future raise.
        """
        if self._cache is None:
            outcome = await self._wait(self._launch(data, thresholds, wants_features(), b""), receive)
            return Found(outcome.detections, outcome.features, "")
        return await self._run_cached(self._cache, data, thresholds, receive, wants_features)

    async def _run_cached(
        self,
        cache: AnswerCache,
        data: bytes,
        thresholds: Thresholds,
        receive: Receive | None,
        wants_features: Callable[[], bool],
    ) -> Found:
        began_s = time.perf_counter()
        key = cache.key_of(data, thresholds)
        stored = cache.get(key)
        if stored is not None:
            cache.num_hits += 1
            return Found(dataclasses.replace(stored, timing_ms=_IDLE_MS), None, "hit")
        flight = self._shared.get(key)
        if flight is None:
            cache.num_misses += 1
            flight = self._shared[key] = self._launch(data, thresholds, wants_features(), key)
            outcome = await self._wait(flight, receive)
            return Found(outcome.detections, outcome.features, "miss")
        cache.num_joined += 1
        outcome = await self._wait(flight, receive)
        timing_ms = {**_IDLE_MS, "queue": (time.perf_counter() - began_s) * 1000}
        return Found(dataclasses.replace(outcome.detections, timing_ms=timing_ms), None, "hit")

    def _launch(self, data: bytes, thresholds: Thresholds, wants_features: bool, key: bytes) -> _Flight:
        ticket = self._breaker.allow()
        try:
            future = self._batcher.submit(data, thresholds, wants_features=wants_features)
        except BaseException:
            self._breaker.undecided(ticket)
            raise
        loop = asyncio.get_running_loop()
        flight = _Flight(future, ticket, loop.time(), key)
        self._flights[flight] = None
        if self._watch is None:
            self._watch = loop.call_later(self._timeout_s, self._look, loop)

        def done(_: Future[Outcome]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._land, flight)

        future.add_done_callback(done)
        return flight

    async def _wait(self, flight: _Flight, receive: Receive | None) -> Outcome:
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        flight.waiters.append(waiter)
        watcher = asyncio.ensure_future(_until_gone(receive, waiter)) if receive is not None else None
        try:
            return await waiter
        finally:
            if watcher is not None:
                watcher.cancel()
            self._leave(flight, waiter)

    def _leave(self, flight: _Flight, waiter: asyncio.Future[Outcome]) -> None:
        """Whoever leaves last takes the flight down; nobody may join it any more."""
        flight.waiters.remove(waiter)
        if not flight.waiters and flight in self._flights:
            self._unshare(flight)
            flight.future.cancel()

    def _land(self, flight: _Flight) -> None:
        if flight not in self._flights:
            self._given_up.pop(flight, None)  # it lands after all
            return
        del self._flights[flight]
        self._unshare(flight)
        error = None if flight.future.cancelled() else flight.future.exception()
        if isinstance(error, EngineFailed) and not error.counted:
            error.counted = True
            self._breaker.failed(flight.ticket)
        elif error is not None or flight.future.cancelled():
            self._breaker.undecided(flight.ticket)
        else:
            self._breaker.succeeded(flight.ticket)
            if self._cache is not None:
                self._cache.put(flight.key, flight.future.result().detections)
        for waiter in flight.waiters:
            if not waiter.done():
                _hand_over(flight.future, error, waiter)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give up what is overdue, and come back when the next might be."""
        self._watch = None
        now_s = loop.time()
        for flight in list(self._flights):
            if (left_s := flight.started_s + self._timeout_s - now_s) > 0:
                self._watch = loop.call_later(left_s, self._look, loop)
                return
            self._give_up(flight)

    def _give_up(self, flight: _Flight) -> None:
        del self._flights[flight]
        self._unshare(flight)
        if not flight.future.cancel():
            self._given_up[flight] = None
        self._breaker.failed(flight.ticket)
        for waiter in flight.waiters:
            if not waiter.done():
                waiter.set_exception(EngineTimeout(f"the engine did not answer within {self._timeout_s:g} s"))

    def _unshare(self, flight: _Flight) -> None:
        if self._shared.get(flight.key) is flight:
            del self._shared[flight.key]


async def _until_gone(receive: Receive, waiter: asyncio.Future[Outcome]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if not waiter.done():
        waiter.set_exception(ClientGone("the client left before its answer"))


def _hand_over(future: Future[Outcome], error: BaseException | None, waiter: asyncio.Future[Outcome]) -> None:
    if future.cancelled():
        waiter.cancel()
    elif error is not None:
        waiter.set_exception(error)
    else:
        waiter.set_result(future.result())

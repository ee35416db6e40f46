"""Greedy micro-batching: a lane that is free takes the frames that are there, and waits for no more.

    submit -> feed (queue, decoding, slots of a batch) -> lane: engine -> NMS -> future

There are as many lanes as the engine runs batches side by side; where it has hardware of its own one more, so that one
lane finishes a batch (NMS, futures) while another already has the engine. How a batch fills is the feed's matter.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from bentos.detector.boxes import Floats
from bentos.detector.contract import Thresholds
from bentos.detector.detector import Detections, Detector
from bentos.detector.errors import DetectorError, NotReady, Overloaded
from bentos.detector.feeds import Feed, InlineFeed, StagedFeed
from bentos.detector.jobs import Batch, Job, Outcome

__all__ = ["Batcher", "Outcome"]


class Batcher:
    """Runs a `Detector` for many callers at once.

    Args:
        detector: The model.
        max_batch: Frames a batch; the engine's own choice if None.
        max_batch_ms: On a processor, a batch of several frames shall not take longer: the others wait for it.
        num_decoders: Threads that decode ahead; 0: lanes decode their own frames; None: whichever suits the engine.
        max_queue: Frames that may be under way; more are refused.
        max_wait_ms: Predicted wait from which frames are refused.
        on_batch: Called with the size of every batch that ran.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        max_batch: int | None = None,
        max_batch_ms: float = 25.0,
        num_decoders: int | None = None,
        max_queue: int = 64,
        max_wait_ms: float = 500.0,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        self._detector = detector
        self._max_queue = max_queue
        self._max_wait_ms = max_wait_ms
        self._on_batch = on_batch
        self._jobs: set[Job] = set()
        self._empty = threading.Condition(threading.Lock())
        self._accepting = True
        engine = detector.engine
        self._engine_free = threading.Semaphore(engine.num_parallel)
        size = max_batch or engine.max_batch
        if num_decoders is None:
            num_decoders = engine.num_decoders
        num_lanes = engine.num_parallel + (1 if num_decoders else 0)
        self._feed: Feed = (
            StagedFeed(detector, engine.num_parallel, size, num_decoders)
            if num_decoders
            else InlineFeed(detector, num_lanes, size, max_batch_ms)
        )
        self._lanes = [threading.Thread(target=self._work, name=f"lane-{i}", daemon=True) for i in range(num_lanes)]
        for lane in self._lanes:
            lane.start()

    @property
    def num_waiting(self) -> int:
        """Frames under way."""
        return len(self._jobs)

    def predicted_wait_ms(self) -> float:
        """How long a frame sent now waits for those before it, from the running means of what frames cost."""
        return self._feed.wait_ms(len(self._jobs))

    def submit(self, data: bytes, thresholds: Thresholds, *, wants_features: bool = False) -> Future[Outcome]:
        """Queue the bytes of an image. Cancel the future when nobody waits any more: unless its batch runs already, the
        frame then costs nothing. The future raises what `Detector.decode`, `infer` and `finish` raise.

        Raises:
            Overloaded: The queue is full, or the predicted wait too long.
            NotReady: The batcher is closing.
        """
        job = Job(data, thresholds, wants_features, time.perf_counter())
        with self._empty:
            self._admit()
            self._jobs.add(job)
        job.future.add_done_callback(lambda _: self._forget(job))
        self._feed.put(job)
        return job.future

    def close(self, timeout_s: float | None = None) -> bool:
        """Take no more, finish what is under way within `timeout_s`, stop the threads. False if something was lost."""
        with self._empty:
            self._accepting = False
            drained = self._empty.wait_for(lambda: not self._jobs, timeout_s)
            lost = list(self._jobs)
        self._feed.stop(drained)
        for job in lost:
            job.fail(NotReady("the service stopped before this frame had its turn"))
        for lane in self._lanes:
            lane.join(timeout=5.0)
        return drained

    def _admit(self) -> None:
        if not self._accepting:
            raise NotReady("the service is stopping; send the frame to another instance")
        num, wait_ms = len(self._jobs), self.predicted_wait_ms()
        if num >= self._max_queue or wait_ms > self._max_wait_ms:
            retry_after_s = max(1, math.ceil(wait_ms / 1000))
            raise Overloaded(
                f"{num} frames are waiting, about {wait_ms:.0f} ms; come back in {retry_after_s} s",
                retry_after_s,
                predicted_wait_ms=round(wait_ms, 1),
            )

    def _forget(self, job: Job) -> None:
        with self._empty:
            self._jobs.discard(job)
            if not self._jobs:
                self._empty.notify_all()

    def _work(self) -> None:
        while True:
            with self._engine_free:
                if (batch := self._feed.take()) is None:
                    return
                started_s = time.perf_counter()
                result = self._infer(batch) if batch.jobs else None
                ended_s = time.perf_counter()
            num = len(batch.jobs)
            self._feed.release(batch, (ended_s - batch.began_s) * 1000 / num if num else None)
            if isinstance(result, DetectorError):
                for job in batch.jobs:
                    job.future.set_exception(result)
            elif result is not None:
                for job, candidates in zip(batch.jobs, result, strict=True):
                    self._finish(job, candidates, started_s, (ended_s - started_s) * 1000, num)

    def _infer(self, batch: Batch) -> Floats | DetectorError:
        try:
            candidates = self._detector.infer(batch.frames[: len(batch.jobs)], alone=batch.alone)
        except DetectorError as error:
            return error
        if self._on_batch is not None:
            self._on_batch(len(batch.jobs))
        return candidates

    def _finish(self, job: Job, candidates: Floats, started_s: float, inference_ms: float, batch_size: int) -> None:
        assert job.box is not None
        finishing_s = time.perf_counter()
        try:
            boxes, scores, class_ids = self._detector.finish(candidates, job.box, job.thresholds)
        except Exception as error:  # a lane must outlive whatever one frame does to it
            job.future.set_exception(error)
            return
        timing_ms = {
            "decode": job.decode_ms,
            "queue": max(0.0, (started_s - job.submitted_s) * 1000 - job.decode_ms),
            "inference": inference_ms,
            "postprocess": (time.perf_counter() - finishing_s) * 1000,
        }
        detections = Detections(boxes, scores, class_ids, job.box.image_wh, timing_ms)
        job.future.set_result(Outcome(detections, job.features, batch_size))

"""Greedy micro-batching: frames decode straight into the next batch, and a free engine takes what is there.

    submit -> queue of bodies -> decoders -> slots of the filling batch -> engine -> NMS -> future

A body waits as the JPEG that it is, never as pixels: only one batch fills while others run, so that a decoder which
finds it full waits. A batch is sealed at the last moment, when the engine is free, with whatever has a slot by then;
while one thread finishes a batch (NMS, futures), another already has the engine.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from bentos.detector.boxes import Floats, Letterbox
from bentos.detector.contract import Thresholds
from bentos.detector.detector import Detections, Detector
from bentos.detector.errors import DetectorError, EngineFailed, NotReady, Overloaded
from bentos.detector.features import image_features
from bentos.detector.imaging import Pixels

_SMOOTHING = 0.1  # weight of the latest batch in the running means that predict a wait


@dataclass(frozen=True)
class Outcome:
    """What became of one frame. `features` only where they were asked for, see `image_features`."""

    detections: Detections
    features: dict[str, float] | None
    batch_size: int


@dataclass(eq=False)
class _Job:
    data: bytes
    thresholds: Thresholds
    wants_features: bool
    submitted_s: float
    future: Future[Outcome] = field(default_factory=Future)
    features: dict[str, float] | None = None
    box: Letterbox | None = None
    decode_ms: float = 0.0


@dataclass
class _Batch:
    """Slots of `frames` (max_batch, H, W, 3), given to jobs in order; `num_placed` of them are painted or given up."""

    frames: Pixels
    jobs: list[_Job] = field(default_factory=list)
    num_placed: int = 0


class Batcher:
    """Runs a `Detector` for many callers at once.

    Args:
        detector: The model.
        max_batch: Frames a batch; the engine's own choice if None.
        num_decoders: Threads that decode and letterbox.
        max_queue: Frames that may be under way; more are refused.
        max_wait_ms: Predicted wait from which frames are refused.
        on_batch: Called with the size of every batch that ran.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        max_batch: int | None = None,
        num_decoders: int = 2,
        max_queue: int = 64,
        max_wait_ms: float = 1000.0,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        self._detector = detector
        self._max_batch = max_batch or detector.engine.max_batch
        self._max_queue = max_queue
        self._max_wait_ms = max_wait_ms
        self._on_batch = on_batch
        self._changed = threading.Condition()
        num_workers = detector.engine.num_parallel + 1
        self._free = [detector.new_frames(self._max_batch) for _ in range(num_workers)]
        self._filling: _Batch | None = None
        self._jobs: set[_Job] = set()
        self._num_decoders = num_decoders
        self._decode_ms = self._infer_ms = 0.0  # running means, per frame
        self._accepting, self._running = True, True
        self._engine_free = threading.Semaphore(detector.engine.num_parallel)
        self._decoders = ThreadPoolExecutor(num_decoders, thread_name_prefix="decode")
        self._workers = [threading.Thread(target=self._work, name="engine", daemon=True) for _ in range(num_workers)]
        for worker in self._workers:
            worker.start()

    @property
    def num_waiting(self) -> int:
        """Frames under way."""
        return len(self._jobs)

    def predicted_wait_ms(self) -> float:
        """How long a frame sent now waits for those before it, from the running means of decoding and inference."""
        per_frame_ms = self._decode_ms / self._num_decoders + self._infer_ms / self._detector.engine.num_parallel
        return len(self._jobs) * per_frame_ms

    def submit(self, data: bytes, thresholds: Thresholds, *, wants_features: bool = False) -> Future[Outcome]:
        """Queue the bytes of an image. Cancel the future when nobody waits any more: unless its batch is sealed, the
        frame then costs nothing. The future raises what `Detector.decode`, `infer` and `finish` raise.

        Raises:
            Overloaded: The queue is full, or the predicted wait too long.
            NotReady: The batcher is closing.
        """
        job = _Job(data, thresholds, wants_features, time.perf_counter())
        with self._changed:
            self._admit()
            self._jobs.add(job)
        job.future.add_done_callback(lambda _: self._forget(job))
        self._decoders.submit(self._decode, job)
        return job.future

    def close(self, timeout_s: float | None = None) -> bool:
        """Take no more, finish what is under way within `timeout_s`, stop the threads. False if something was lost."""
        with self._changed:
            self._accepting = False
            drained = self._changed.wait_for(lambda: not self._jobs, timeout_s)
            self._running = False
            lost = list(self._jobs)
            self._changed.notify_all()
        self._decoders.shutdown(wait=drained, cancel_futures=True)
        for job in lost:
            _fail(job.future, NotReady("the service stopped before this frame had its turn"))
        for worker in self._workers:
            worker.join(timeout=5.0)
        return drained

    def _admit(self) -> None:
        if not self._accepting:
            raise NotReady("the service is stopping; send the frame to another instance")
        wait_ms = self.predicted_wait_ms()
        if len(self._jobs) >= self._max_queue or wait_ms > self._max_wait_ms:
            retry_after_s = max(1, math.ceil(wait_ms / 1000))
            raise Overloaded(
                f"{len(self._jobs)} frames are waiting, about {wait_ms:.0f} ms; come back in {retry_after_s} s",
                retry_after_s,
                predicted_wait_ms=round(wait_ms, 1),
            )

    def _forget(self, job: _Job) -> None:
        with self._changed:
            self._jobs.discard(job)
            self._changed.notify_all()

    # Decoder threads

    def _decode(self, job: _Job) -> None:
        if job.future.cancelled():
            return
        try:
            started_s = time.perf_counter()
            picture = self._detector.decode(job.data)
            job.data = b""  # a body is dropped as soon as it is pixels
            if job.wants_features:
                job.features = image_features(picture.rgb)
            decoded_s = time.perf_counter()
            claimed = self._claim(job)
            if claimed is None:
                return
            batch, slot = claimed
            placing_s = time.perf_counter()
            try:
                job.box = self._detector.place(picture, batch.frames[slot])
            finally:
                job.decode_ms = (decoded_s - started_s + time.perf_counter() - placing_s) * 1000
                with self._changed:
                    self._decode_ms = _blend(self._decode_ms, job.decode_ms)
                    batch.num_placed += 1
                    self._changed.notify_all()
        except Exception as error:  # also what nobody foresaw must reach the caller, or it waits for ever
            _fail(job.future, error)

    def _claim(self, job: _Job) -> tuple[_Batch, int] | None:
        """A slot of the filling batch, waiting for one; None when nobody wants the frame any more."""
        with self._changed:
            while self._running and not job.future.cancelled():
                if self._filling is None and self._free:
                    self._filling = _Batch(self._free.pop())
                if self._filling is not None and len(self._filling.jobs) < self._max_batch:
                    self._filling.jobs.append(job)
                    self._changed.notify_all()
                    return self._filling, len(self._filling.jobs) - 1
                self._changed.wait()
        return None

    # Engine threads

    def _work(self) -> None:
        while True:
            with self._engine_free:
                batch = self._seal()
                if batch is None:
                    return
                # A job without a box has failed; one that was cancelled is not run.
                taken = [i for i, job in enumerate(batch.jobs) if job.box and _take(job.future)]
                jobs = [batch.jobs[index] for index in taken]
                frames = batch.frames[: len(jobs)] if len(jobs) == len(batch.jobs) else batch.frames[taken]
                started_s = time.perf_counter()
                result = self._infer(frames) if jobs else None
                inference_ms = (time.perf_counter() - started_s) * 1000
            with self._changed:
                self._free.append(batch.frames)
                self._changed.notify_all()
            if isinstance(result, DetectorError):
                for job in jobs:
                    job.future.set_exception(result)
            elif result is not None:
                self._infer_ms = _blend(self._infer_ms, inference_ms / len(jobs))
                for job, candidates in zip(jobs, result, strict=True):
                    self._finish(job, candidates, started_s, inference_ms, len(jobs))

    def _seal(self) -> _Batch | None:
        """Wait for a frame, close the filling batch, wait until its last slot is painted; None when it is over."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running or self._has_frames())
            batch = self._filling
            if batch is None or not batch.jobs:
                return None
            self._filling = None
            self._changed.notify_all()
            self._changed.wait_for(lambda: batch.num_placed == len(batch.jobs))
            return batch

    def _has_frames(self) -> bool:
        return self._filling is not None and bool(self._filling.jobs)

    def _infer(self, frames: Pixels) -> Floats | DetectorError:
        try:
            candidates = self._detector.infer(frames)
        except DetectorError as error:
            return error
        if self._on_batch is not None:
            self._on_batch(len(frames))
        return candidates

    def _finish(self, job: _Job, candidates: Floats, started_s: float, inference_ms: float, batch_size: int) -> None:
        assert job.box is not None
        finishing_s = time.perf_counter()
        try:
            boxes, scores, class_ids = self._detector.finish(candidates, job.box, job.thresholds)
        except EngineFailed as error:
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


def _blend(mean: float, latest: float) -> float:
    return latest if mean == 0.0 else mean + _SMOOTHING * (latest - mean)


def _take(future: Future[Outcome]) -> bool:
    """Whether the future still wants an answer; if so, only the caller may give it from now on."""
    if future.done() or future.running():
        return False
    with contextlib.suppress(RuntimeError):  # another thread was faster
        return future.set_running_or_notify_cancel()
    return False


def _fail(future: Future[Outcome], error: Exception) -> None:
    """Hand over `error`, unless the future is answered, cancelled, or another thread is about to answer it."""
    if _take(future):
        future.set_exception(error)

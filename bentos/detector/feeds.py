"""How frames become batches: decoded by the lane that runs them, or by threads of their own.

Where the engine computes on the processor, a lane that decodes its own frames is as fast as the processor allows: as
many threads as cores, none waiting for another (`InlineFeed`). Where the engine has hardware of its own, that hardware
must not wait for a decoder: frames are decoded ahead, straight into the batch that runs next (`StagedFeed`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from bentos.detector.detector import Detector
from bentos.detector.imaging import Picture, Pixels
from bentos.detector.jobs import Batch, Job


class Feed(Protocol):
    """Takes jobs from the event loop, gives batches to lanes. What does not decode fails its own job alone."""

    def put(self, job: Job) -> None:
        """Queue a job."""
        ...

    def take(self) -> Batch | None:
        """The next batch, waiting for a frame; it may turn out empty. None once it is stopped."""
        ...

    def release(self, batch: Batch, frame_ms: float | None) -> None:
        """Take a batch's memory back; `frame_ms` is what a frame of it cost the lane, None where none was run."""
        ...

    def stop(self, drained: bool) -> None:
        """Wake all who wait; no more batches."""
        ...

    def wait_ms(self, num_jobs: int) -> float:
        """How long a frame waits that finds `num_jobs` before it."""
        ...


class RunningMean:
    """Follows a changing figure; 0 until the first. One outlier moves it little: one 8K image is no trend."""

    def __init__(self, weight: float = 0.1) -> None:
        self.value = 0.0
        self._weight = weight

    def add(self, latest: float) -> None:
        """The first value counts whole, later ones by their weight, as at most four times the mean."""
        if self.value:
            self.value += (min(latest, 4 * self.value) - self.value) * self._weight
        else:
            self.value = latest


class InlineFeed:
    """Each lane takes its share of the queue and decodes it itself.

    Args:
        detector: Decodes.
        num_lanes: Threads that call `take`.
        max_batch: Frames a batch.
        max_batch_ms: A batch of several frames shall not keep a lane for longer.
    """

    def __init__(self, detector: Detector, num_lanes: int, max_batch: int, max_batch_ms: float) -> None:
        self._detector = detector
        self._num_lanes = num_lanes
        self._max_batch = max_batch
        self._max_batch_ms = max_batch_ms
        self._queue: deque[Job] = deque()
        self._some = threading.Condition(threading.Lock())
        self._free = [detector.new_frames(max_batch) for _ in range(num_lanes)]
        self._running = True
        self._frame_ms = RunningMean()

    def put(self, job: Job) -> None:
        """See `Feed.put`."""
        with self._some:
            self._queue.append(job)
            self._some.notify()

    def take(self) -> Batch | None:
        """See `Feed.take`. Decodes in the calling thread."""
        with self._some:
            while not self._queue:
                if not self._running:
                    return None
                self._some.wait()
            jobs = [self._queue.popleft() for _ in range(self._share())]
            frames = self._free.pop()
            alone = len(self._free) == self._num_lanes - 1 and not self._queue and len(jobs) == 1
        batch = Batch(frames, [], time.perf_counter(), alone)
        for job in jobs:
            self._add(batch, job)
        return batch

    def release(self, batch: Batch, frame_ms: float | None) -> None:
        """See `Feed.release`."""
        with self._some:
            self._free.append(batch.frames)
            if frame_ms is not None:
                self._frame_ms.add(frame_ms)

    def stop(self, drained: bool) -> None:
        """See `Feed.stop`."""
        with self._some:
            self._running = False
            self._queue.clear()
            self._some.notify_all()

    def wait_ms(self, num_jobs: int) -> float:
        """See `Feed.wait_ms`."""
        return num_jobs * self._frame_ms.value / self._num_lanes

    def _share(self) -> int:
        """A fair part of the queue, so that lanes end together; less where frames are slow; one of 1, 2, 4, ..."""
        fair = -(-len(self._queue) // self._num_lanes)
        quick = int(self._max_batch_ms / self._frame_ms.value) if self._frame_ms.value else 1
        num = max(1, min(fair, quick, self._max_batch))
        return 1 << num.bit_length() - 1  # what engines are built for

    def _add(self, batch: Batch, job: Job) -> None:
        if job.future.cancelled():
            return
        try:
            job.place(self._detector, job.decode(self._detector), batch.frames[len(batch.jobs)])
        except Exception as error:  # also what nobody foresaw must reach the caller, or it waits for ever
            job.fail(error)
        else:
            if job.claim():  # who left while it was decoded leaves the slot to the next
                batch.jobs.append(job)


@dataclass
class _Filling:
    """Slots of `frames` (max_batch, H, W, 3), given to jobs in order; `num_placed` of them are painted or given up."""

    frames: Pixels
    jobs: list[Job] = field(default_factory=list)
    num_placed: int = 0


class StagedFeed:
    """Decoders paint into the next batch while others run; a free lane takes it with whatever has a slot by then.

    A frame waits as the JPEG that it is, never as pixels: only one batch fills, so that a decoder which finds it full
    waits.

    Args:
        detector: Decodes.
        num_parallel: Batches that the engine runs side by side; one thread more may call `take`.
        max_batch: Frames a batch.
        num_decoders: Threads that decode and letterbox.
    """

    def __init__(self, detector: Detector, num_parallel: int, max_batch: int, num_decoders: int) -> None:
        self._detector = detector
        self._num_parallel = num_parallel
        self._max_batch = max_batch
        self._num_decoders = num_decoders
        self._changed = threading.Condition()
        self._free = [detector.new_frames(max_batch) for _ in range(num_parallel + 2)]
        self._filling: _Filling | None = None
        self._running = True
        self._decode_ms, self._frame_ms = RunningMean(), RunningMean()
        self._decoders = ThreadPoolExecutor(num_decoders, thread_name_prefix="decode")

    def put(self, job: Job) -> None:
        """See `Feed.put`."""
        self._decoders.submit(self._decode, job)

    def take(self) -> Batch | None:
        """See `Feed.take`. Closes the filling batch and waits until its last slot is painted."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running or (self._filling is not None and self._filling.jobs))
            filled = self._filling
            if filled is None or not filled.jobs:
                return None
            self._filling = None
            self._changed.notify_all()
            self._changed.wait_for(lambda: filled.num_placed == len(filled.jobs))
        # A job without a box has failed; one that was cancelled is not run.
        taken = [index for index, job in enumerate(filled.jobs) if job.box is not None and job.claim()]
        if len(taken) < len(filled.jobs):
            filled.frames[: len(taken)] = filled.frames[taken]
        return Batch(filled.frames, [filled.jobs[index] for index in taken], time.perf_counter())

    def release(self, batch: Batch, frame_ms: float | None) -> None:
        """See `Feed.release`."""
        with self._changed:
            self._free.append(batch.frames)
            if frame_ms is not None:
                self._frame_ms.add(frame_ms)
            self._changed.notify_all()

    def stop(self, drained: bool) -> None:
        """See `Feed.stop`."""
        with self._changed:
            self._running = False
            self._changed.notify_all()
        self._decoders.shutdown(wait=drained, cancel_futures=True)

    def wait_ms(self, num_jobs: int) -> float:
        """See `Feed.wait_ms`."""
        return num_jobs * max(self._decode_ms.value / self._num_decoders, self._frame_ms.value / self._num_parallel)

    def _decode(self, job: Job) -> None:
        if job.future.cancelled():
            return
        try:
            picture = job.decode(self._detector)
            if (claimed := self._claim(job)) is not None:
                self._place(job, picture, *claimed)
        except Exception as error:  # also what nobody foresaw must reach the caller, or it waits for ever
            job.fail(error)

    def _claim(self, job: Job) -> tuple[_Filling, int] | None:
        """A slot of the filling batch, waiting for one; None when nobody wants the frame any more."""
        with self._changed:
            while self._running and not job.future.cancelled():
                if self._filling is None and self._free:
                    self._filling = _Filling(self._free.pop())
                if self._filling is not None and len(self._filling.jobs) < self._max_batch:
                    self._filling.jobs.append(job)
                    self._changed.notify_all()
                    return self._filling, len(self._filling.jobs) - 1
                self._changed.wait()
        return None

    def _place(self, job: Job, picture: Picture, filling: _Filling, slot: int) -> None:
        try:
            job.place(self._detector, picture, filling.frames[slot])
        finally:
            with self._changed:
                self._decode_ms.add(job.decode_ms)
                filling.num_placed += 1
                self._changed.notify_all()

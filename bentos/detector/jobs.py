"""One frame on its way through the batcher, and a batch of them."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from bentos.detector.boxes import Letterbox
from bentos.detector.contract import Thresholds
from bentos.detector.detector import Detections, Detector
from bentos.detector.features import image_features
from bentos.detector.imaging import Picture, Pixels


@dataclass(frozen=True)
class Outcome:
    """What became of one frame. `features` only where they were asked for, see `image_features`."""

    detections: Detections
    features: dict[str, float] | None
    batch_size: int


@dataclass(eq=False, slots=True)
class Job:
    """A frame that somebody waits for. `data` is dropped as soon as it is pixels."""

    data: bytes
    thresholds: Thresholds
    wants_features: bool
    submitted_s: float
    future: Future[Outcome] = field(default_factory=Future)
    features: dict[str, float] | None = None
    box: Letterbox | None = None
    decode_ms: float = 0.0

    def decode(self, detector: Detector) -> Picture:
        """Bytes to pixels. Raises what `Detector.decode` raises."""
        started_s = time.perf_counter()
        picture = detector.decode(self.data)
        self.data = b""
        if self.wants_features:
            self.features = image_features(picture.rgb)
        self.decode_ms += (time.perf_counter() - started_s) * 1000
        return picture

    def place(self, detector: Detector, picture: Picture, slot: Pixels) -> None:
        """Pixels into a slot, (H, W, 3), of a batch."""
        started_s = time.perf_counter()
        self.box = detector.place(picture, slot)
        self.decode_ms += (time.perf_counter() - started_s) * 1000

    def claim(self) -> bool:
        """Whether somebody still waits; if so, only the caller may answer from now on."""
        if self.future.done() or self.future.running():
            return False
        with contextlib.suppress(RuntimeError):  # another thread was faster
            return self.future.set_running_or_notify_cancel()
        return False

    def fail(self, error: Exception) -> None:
        """Hand over `error`, unless somebody answers already or nobody waits."""
        if self.claim():
            self.future.set_exception(error)


@dataclass(slots=True)
class Batch:
    """What a lane runs next.

    Attributes:
        frames: (max_batch, H, W, 3), of which the jobs have the first rows.
        jobs: Claimed: all of them wait for an answer.
        began_s: perf_counter() when the lane began with it.
        alone: Nothing else is under way, so that the batch may have every core.
    """

    frames: Pixels
    jobs: list[Job]
    began_s: float
    alone: bool = False

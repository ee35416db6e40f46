"""What each arm answered, frame by frame, in a bounded ring that the controller reads by sequence number."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from bentos.router.messages import Reply
from bentos.router.routing import Arm, Backend, Mode

MAX_READ = 5000
"""Most observations in one answer."""


@dataclass(slots=True)
class Answer:
    """What one back end made of one request. `status` 0: no answer, and `error` says why."""

    arm: Arm
    backend: Backend
    status: int
    latency_ms: float
    error: str | None
    reply: Reply | None
    _boxes: list[list[float]] | None = None

    @property
    def good(self) -> bool:
        """Whether the client gets what it came for."""
        return 200 <= self.status < 300 and self.error is None

    @property
    def failed(self) -> bool:
        """Whether it is the back end's fault: no answer, a 5xx (an overload included), or a 200 that `read` could not
        read. A 400 is the client's.
        """
        return self.status == 0 or self.status >= 500 or self.error is not None

    @property
    def limited(self) -> bool:
        """Whether the client sent more than it may: that is its own doing, and says nothing about the model."""
        return self.status == 429

    def read(self) -> list[list[float]]:
        """The boxes of a good answer, read once. One that cannot be read is an `error` from then on."""
        if self._boxes is None:
            self._boxes = []
            if self.good and self.reply is not None:
                try:
                    self._boxes = read_detections(self.reply.body)
                except ValueError as defect:
                    self.error = f"malformed answer: {defect}"
        return self._boxes


@dataclass(slots=True)
class Observation:
    """One frame: who answered it, and what each arm said. `time` in seconds since the epoch."""

    time: float
    promotion: int | None
    mode: Mode
    camera: str
    request_id: str
    served_by: Arm
    fallback: bool
    champion: Answer | None
    candidate: Answer | None


class ObservationRing:
    """The newest observations as JSON; the oldest give way.

    Sequence numbers begin at the start time in microseconds, so that they rise over restarts too.
    """

    def __init__(self, capacity: int = 10_000, clock: Callable[[], float] = time.time) -> None:
        self._ring: deque[tuple[int, bytes]] = deque(maxlen=capacity)
        self._first = int(clock() * 1e6) + 1
        self._next = self._first

    def record(self, observation: Observation) -> None:
        """Keep an observation. Reads the detections out of the answers: call it after the client has its own."""
        tree = {
            "seq": self._next,
            "time": observation.time,
            "promotion": observation.promotion,
            "mode": observation.mode,
            "camera": observation.camera,
            "request_id": observation.request_id,
            "served_by": observation.served_by,
            "fallback": observation.fallback,
            "champion": _describe(observation.champion),
            "candidate": _describe(observation.candidate),
        }
        self._ring.append((self._next, orjson.dumps(tree)))  # bytes: a tenth of the memory of the tree
        self._next += 1

    def read(self, after: int, limit: int) -> bytes:
        """JSON {"next", "dropped", "observations"}: at most `limit` of those with seq > `after`, oldest first.

        `next` is the `after` of the next call; `dropped` counts what gave way since `after` before it was read.
        """
        if after >= self._next:  # a reader of an earlier run, and the clock was set back
            after = 0
        oldest = self._ring[0][0] if self._ring else self._next
        begin = max(after + 1, oldest)
        dropped = max(0, oldest - max(after + 1, self._first))
        count = max(0, min(limit, MAX_READ, self._next - begin))
        skip = begin - oldest
        chosen = [self._ring[index][1] for index in range(skip, skip + count)]
        fragments = [orjson.Fragment(text) for text in chosen]
        following = begin + count - 1 if count else max(after, begin - 1)
        return orjson.dumps({"next": following, "dropped": dropped, "observations": fragments})


def _describe(answer: Answer | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    detections = answer.read()  # read first: it may turn out to be an error
    return {
        "version": answer.backend.version,
        "status": answer.status,
        "latency_ms": round(answer.latency_ms, 3),
        "error": answer.error,
        "detections": detections,
    }


def read_detections(body: bytes) -> list[list[float]]:
    """The boxes of a detector's answer: [[x1, y1, x2, y2, score, class_id], ...], pixels of the sent image.

    Raises:
        ValueError: It is not such an answer.
    """
    tree = orjson.loads(body)
    try:
        return [_row(detection, detection["box"]) for detection in tree["detections"]]
    except (TypeError, KeyError) as error:
        raise ValueError(f"no detections with box, confidence and class_id ({type(error).__name__}: {error})") from None


def _row(detection: dict[str, Any], box: dict[str, Any]) -> list[float]:
    corners = float(box["x1"]), float(box["y1"]), float(box["x2"]), float(box["y2"])
    return [*corners, float(detection["confidence"]), int(detection["class_id"])]

"""What production looks like, for the comparison with training: features of a frame now and then, never the frame."""

from __future__ import annotations

import errno
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bentos.detector.detector import Detections

logger = logging.getLogger("bentos.detector")

_PATTERN = "features-*.jsonl"

WARM_UP_CAMERA = "warm-up"  # who starts a service sends its first frames under this name; they are no production


class FeatureRecord(BaseModel):
    """One line of a recording."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: str = Field(description="ISO 8601, UTC")
    camera: str = Field(description="X-Camera-ID, empty where none was sent")
    model_version: str
    width: int = Field(description="px")
    height: int = Field(description="px")
    brightness: float
    contrast: float
    sharpness: float
    num_detections: int
    mean_score: float | None = Field(description="0..1; null without detections")
    mean_box_share: float | None = Field(description="box area over image area, 0..1; null without detections")
    class_counts: dict[str, int] = Field(description="class name to detections; 0 where there is none")


def describe(
    detections: Detections,
    features: dict[str, float],
    *,
    camera: str,
    model_version: str,
    classes: tuple[str, ...],
    time_s: float,
) -> FeatureRecord:
    """Sum up one answered frame. `time_s` is seconds since the epoch."""
    counts = np.bincount(detections.class_ids, minlength=len(classes))
    sides = detections.boxes_xyxy[:, 2:] - detections.boxes_xyxy[:, :2]
    area = detections.size_wh[0] * detections.size_wh[1]
    any_found = len(detections.scores) > 0
    return FeatureRecord(
        time=datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds"),
        camera=camera,
        model_version=model_version,
        width=detections.size_wh[0],
        height=detections.size_wh[1],
        **features,
        num_detections=len(detections.scores),
        mean_score=float(detections.scores.mean()) if any_found else None,
        mean_box_share=float(sides.prod(axis=1).mean() / area) if any_found else None,
        class_counts={name: int(count) for name, count in zip(classes, counts, strict=True)},
    )


class Recorder:
    """Appends records as JSON lines in a thread of its own. Whatever goes wrong there, answers do not wait for it.

    A file that has reached `max_bytes` is followed by a new one; of all files in the folder the newest `keep` remain.
    """

    def __init__(self, folder: Path, *, interval_s: float = 1.0, max_bytes: int = 8_000_000, keep: int = 16) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._interval_s = interval_s
        self._max_bytes = max_bytes
        self._keep = keep
        self._last_s: dict[str, float] = {}
        self._lines: queue.Queue[FeatureRecord | None] = queue.Queue(maxsize=256)
        self.num_dropped = 0
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._thread.start()

    def wants(self, camera: str, now_s: float) -> bool:
        """Whether this camera's last recorded frame is `interval_s` ago; if so, this one is taken to be recorded."""
        last_s = self._last_s.get(camera)
        if last_s is not None and now_s - last_s < self._interval_s:
            return False
        if last_s is None and len(self._last_s) >= 10_000:  # names come from outside: they must not fill the memory
            self._last_s.clear()
        self._last_s[camera] = now_s
        return True

    def record(self, record: FeatureRecord) -> None:
        """Hand over a record; dropped and counted when the disk does not keep up."""
        try:
            self._lines.put_nowait(record)
        except queue.Full:
            self.num_dropped += 1

    def close(self) -> None:
        """Write what was handed over, and stop."""
        self._lines.put(None)
        self._thread.join(timeout=5.0)

    def _write(self) -> None:
        path: Path | None = None
        num_lost = 0
        while (record := self._lines.get()) is not None:
            try:
                if path is None or (path.exists() and path.stat().st_size >= self._max_bytes):
                    path = self._next_file()
                _append(path, record.model_dump_json().encode() + b"\n")
            except OSError as error:
                # The same file is tried again: a new one each time would push the good ones out of the folder.
                if num_lost == 0:
                    logger.error("%s: %s; frames are answered, but no longer recorded", self._folder, error.strerror)
                num_lost += 1
                self.num_dropped += 1
            else:
                if num_lost:
                    logger.warning("%s: recording goes on; %d records are lost", self._folder, num_lost)
                num_lost = 0

    def _next_file(self) -> Path:
        name = f"features-{time.time_ns():020d}-{os.getpid()}.jsonl"
        for old in sorted(self._folder.glob(_PATTERN))[: -(self._keep - 1) or None]:
            old.unlink(missing_ok=True)
        return self._folder / name


def _append(path: Path, line: bytes) -> None:
    """Write a whole line or none of it. Raises OSError."""
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        if file.write(line) != len(line):  # the disk became full within the line
            file.truncate(before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_records(folder: Path) -> Iterator[FeatureRecord]:
    """All records in `folder`, oldest file first; a last line that a killed process left half-written is passed over.

    Raises:
        ValueError: Another line is no record.
    """
    for path in sorted(folder.glob(_PATTERN)):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        for index, line in enumerate(lines):
            if index == len(lines) - 1 and not line.endswith("\n"):
                continue
            yield FeatureRecord.model_validate_json(line)

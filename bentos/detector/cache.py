"""Answers to frames that were sent before, byte for byte: a camera that hangs sends the same picture for hours.

Off by default: among live frames no two are alike, and every frame pays for its digest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from collections import OrderedDict

from bentos.detector.contract import Thresholds
from bentos.detector.detector import Detections

_ENTRY_BYTES = 1000
"""What an entry costs beside its arrays: objects, key and a place in the table."""


class AnswerCache:
    """Detections by digest of frame, thresholds and model; the least recently asked give way beyond `max_bytes`."""

    def __init__(self, max_bytes: int, model_digest: str) -> None:
        self._max_bytes = max_bytes
        self._start = hashlib.sha256(model_digest.encode())
        self._entries: OrderedDict[bytes, tuple[Detections, int]] = OrderedDict()
        self.num_bytes = 0
        self.num_hits = self.num_joined = self.num_misses = 0
        """Lookups answered from the cache, by a frame under way, and not at all."""

    def __len__(self) -> int:
        return len(self._entries)

    def key_of(self, data: bytes, thresholds: Thresholds) -> bytes:
        """The digest by which a frame is found, 32 bytes."""
        digest = self._start.copy()
        digest.update(struct.pack("<ddqq", thresholds.conf, thresholds.iou, thresholds.max_det, len(data)))
        digest.update(data)
        return digest.digest()

    def get(self, key: bytes) -> Detections | None:
        """What is kept under `key`; it counts as asked for just now."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: bytes, found: Detections) -> None:
        """Keep an answer, in arrays of its own: those of a batch would keep the whole batch alive."""
        kept = dataclasses.replace(
            found, boxes_xyxy=found.boxes_xyxy.copy(), scores=found.scores.copy(), class_ids=found.class_ids.copy()
        )
        size = _ENTRY_BYTES + kept.boxes_xyxy.nbytes + kept.scores.nbytes + kept.class_ids.nbytes
        former = self._entries.pop(key, None)
        self.num_bytes += size - (former[1] if former is not None else 0)
        self._entries[key] = (kept, size)
        while self.num_bytes > self._max_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self.num_bytes -= freed

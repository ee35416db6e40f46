"""An engine without a model, for tests and rehearsals: it finds what is painted in a pure colour."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bentos.detector.contract import ModelSpec
from bentos.detector.engines import Engine

_SCORE = 0.9


class FakeEngine:
    """Finds one object a colour: class 0 pure red, class 1 pure green, class 2 pure blue, each the box around all
    its pixels, score 0.9. The engine's file, if there is one, is JSON: `{"delay_ms": 5}` makes every batch take that
    long; `{"fail": true}` makes every batch fail.
    """

    max_batch = 4
    num_parallel = 1
    num_decoders = 0
    solo: Engine | None = None

    def __init__(self, model_dir: Path, spec: ModelSpec) -> None:
        path = model_dir / spec.engine.file
        options = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self._delay_s = float(options.get("delay_ms", 0)) / 1000
        self._fail = bool(options.get("fail", False))
        self._top_k = spec.top_k
        self._num_classes = len(spec.classes)

    def infer(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `Engine.infer`."""
        if self._fail:
            raise RuntimeError("the fake engine was told to fail")
        if self._delay_s:
            time.sleep(self._delay_s)
        found = np.zeros((len(frames), self._top_k, 6), dtype=np.float32)
        for index, frame in enumerate(frames):
            boxes = self._boxes(frame)[: self._top_k]
            found[index, : len(boxes)] = boxes
        return found

    def close(self) -> None:
        """See `Engine.close`."""

    def _boxes(self, frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:  # (H, W, 3) -> (N, 6)
        boxes = []
        for class_id in range(min(3, self._num_classes)):
            others = [channel for channel in range(3) if channel != class_id]
            painted = (frame[:, :, class_id] > 160) & (frame[:, :, others].max(axis=2) < 96)
            if painted.any():
                rows, columns = np.flatnonzero(painted.any(axis=1)), np.flatnonzero(painted.any(axis=0))
                boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1, _SCORE, class_id])
        return np.array(boxes, dtype=np.float32).reshape(-1, 6)

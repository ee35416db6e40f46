"""The one inference path: bytes of an image in, boxes in its pixels out. Evaluation and serving both walk it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bentos.detector.boxes import Floats, Ints, Letterbox, select_detections, unletterbox_boxes
from bentos.detector.contract import ModelSpec, Thresholds, read_spec, verify_files
from bentos.detector.engines import Engine, Hint, load_engine, require_library
from bentos.detector.errors import BadParameter, EngineFailed, ModelRefused, RequestError
from bentos.detector.imaging import MAX_PIXELS, Picture, Pixels, decode_image, letterbox_into


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best first.

    Attributes:
        boxes_xyxy: (N, 4) corners in pixels of the sent image, as displayed.
        scores: (N,) confidence, 0..1.
        class_ids: (N,) index into the model's classes.
        size_wh: Size of the sent image as displayed, px.
        timing_ms: decode, queue, inference and postprocess; those of a batch count for each of its images.
    """

    boxes_xyxy: Floats
    scores: Floats
    class_ids: Ints
    size_wh: tuple[int, int]
    timing_ms: dict[str, float]


class Detector:
    """A loaded model. Its steps (`decode`, `place`, `infer`, `finish`) are safe to call from several threads."""

    def __init__(self, spec: ModelSpec, engine: Engine, *, max_pixels: int = MAX_PIXELS) -> None:
        self.spec = spec
        self.engine = engine
        self._max_pixels = max_pixels
        self._cover_wh = spec.input.size_wh if spec.input.scaled_decode else None

    @classmethod
    def load(
        cls,
        model_dir: Path,
        *,
        verify: bool = True,
        num_threads: int | None = None,
        hint: Hint = "latency",
        max_pixels: int = MAX_PIXELS,
    ) -> Detector:
        """Load a model directory.

        Args:
            model_dir: Folder with model.json and the files that it names.
            verify: Check the sha256 of every file first.
            num_threads: Threads of the engine; None leaves it to the engine.
            hint: Whether the engine shall favour a lone frame, many at once, or whichever there is.
            max_pixels: Width times height that is accepted of an image.

        Raises:
            ModelRefused: model.json or a file is missing, damaged or changed.
            EngineUnavailable: The engine cannot run here.
        """
        spec = read_spec(model_dir)
        if verify:
            verify_files(model_dir, spec)
        engine = load_engine(model_dir, spec, num_threads=num_threads, hint=hint)
        return cls(spec, engine, max_pixels=max_pixels)

    def detect(
        self,
        images: Sequence[bytes],
        *,
        conf: float | None = None,
        iou: float | None = None,
        max_det: int | None = None,
    ) -> list[Detections]:
        """Find objects in images, each given as the bytes of its file; thresholds default to the model's.

        Raises:
            BadImage: An image does not decode; its `details` have the index of the image.
            ImageTooLarge: An image has too many pixels.
            BadParameter: A threshold is out of its range.
            EngineFailed: The engine lost a batch.
        """
        thresholds = self.thresholds(conf=conf, iou=iou, max_det=max_det)
        size = self.engine.max_batch
        found: list[Detections] = []
        for start in range(0, len(images), size):
            found += self._detect_batch(images[start : start + size], thresholds, start)
        return found

    def thresholds(
        self, *, conf: float | None = None, iou: float | None = None, max_det: int | None = None
    ) -> Thresholds:
        """The model's thresholds, with some replaced. Raises BadParameter."""
        own = self.spec.thresholds
        chosen = Thresholds.model_construct(
            conf=own.conf if conf is None else conf,
            iou=own.iou if iou is None else iou,
            max_det=own.max_det if max_det is None else max_det,
        )
        for name, value in (("conf", chosen.conf), ("iou", chosen.iou)):
            if not 0 <= value <= 1:
                raise BadParameter(f"{name} = {value}: expected a number from 0 to 1", parameter=name)
        if not 1 <= chosen.max_det <= self.spec.top_k:
            raise BadParameter(f"max_det = {chosen.max_det}: expected 1 to {self.spec.top_k}", parameter="max_det")
        return chosen

    def new_frames(self, num: int) -> Pixels:
        """Memory for `num` input frames, (num, H, W, 3) uint8."""
        width, height = self.spec.input.size_wh
        return np.zeros((num, height, width, 3), dtype=np.uint8)

    def decode(self, data: bytes) -> Picture:
        """First step: see `decode_image` for what it raises."""
        return decode_image(data, max_pixels=self._max_pixels, cover_wh=self._cover_wh)

    def place(self, picture: Picture, slot: Pixels) -> Letterbox:  # slot (H, W, 3)
        """Second step: letterbox into a slot of a batch."""
        return letterbox_into(slot, picture, self.spec.input.letterbox_fill)

    def infer(self, frames: Pixels, *, alone: bool = False) -> Floats:  # (B, H, W, 3) -> (B, top_k, 6)
        """Third step: run the graph; `alone` says that nothing else competes for the machine.

        Raises:
            EngineFailed: Whatever the engine raised.
        """
        engine = self.engine.solo if alone and self.engine.solo is not None else self.engine
        try:
            candidates = engine.infer(frames)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise EngineFailed(f"the {self.spec.engine.kind} engine failed: {reason}") from error
        expected = (len(frames), self.spec.top_k, 6)
        if candidates.shape != expected:
            raise EngineFailed(f"the engine answered with shape {candidates.shape}, expected {expected}; re-export it")
        return candidates

    def finish(self, candidates: Floats, box: Letterbox, thresholds: Thresholds) -> tuple[Floats, Floats, Ints]:
        """Last step: candidates of one frame, (top_k, 6), to boxes in image pixels (N, 4), scores and class ids (N,).

        Raises:
            EngineFailed: A candidate is of a class that model.json does not name.
        """
        boxes, scores, class_ids = select_detections(candidates, thresholds.conf, thresholds.iou, thresholds.max_det)
        if len(class_ids) and not 0 <= class_ids.min() <= class_ids.max() < len(self.spec.classes):
            known = len(self.spec.classes)
            raise EngineFailed(f"the engine knows more classes than the {known} of model.json; re-export it")
        return unletterbox_boxes(boxes, box), scores, class_ids

    def warm_up(self, max_batch: int | None = None) -> None:
        """Run every batch size once, so that no user pays for first allocations. Raises what `infer` raises."""
        frames = self.new_frames(max_batch or self.engine.max_batch)
        for size in range(1, len(frames) + 1):
            self.infer(frames[:size])
        if self.engine.solo is not None:
            self.infer(frames[:1], alone=True)

    def close(self) -> None:
        """Give the engine back."""
        self.engine.close()

    def _detect_batch(self, images: Sequence[bytes], thresholds: Thresholds, first: int) -> list[Detections]:
        frames = self.new_frames(len(images))
        placed = [self._read(data, frames[index], first + index) for index, data in enumerate(images)]
        started = time.perf_counter()
        candidates = self.infer(frames)
        inference_ms = (time.perf_counter() - started) * 1000
        found = []
        for (box, decode_ms), one in zip(placed, candidates, strict=True):
            started = time.perf_counter()
            boxes, scores, class_ids = self.finish(one, box, thresholds)
            postprocess_ms = (time.perf_counter() - started) * 1000
            timing = {"decode": decode_ms, "queue": 0.0, "inference": inference_ms, "postprocess": postprocess_ms}
            found.append(Detections(boxes, scores, class_ids, box.image_wh, timing))
        return found

    def _read(self, data: bytes, slot: npt.NDArray[np.uint8], index: int) -> tuple[Letterbox, float]:
        started = time.perf_counter()
        try:
            box = self.place(self.decode(data), slot)
        except RequestError as error:
            error.details["index"] = index
            raise
        return box, (time.perf_counter() - started) * 1000


def check_model(model_dir: Path) -> ModelSpec:
    """What can be said about a model directory without loading the engine: digests, and the library it needs.

    Raises:
        ModelRefused: model.json or a file is missing, damaged or changed.
        EngineUnavailable: The engine's library is absent or another version.
    """
    if not model_dir.is_dir():
        raise ModelRefused(f"{model_dir} is no folder. Give a model directory, as `tca export` writes it")
    spec = read_spec(model_dir)
    verify_files(model_dir, spec)
    require_library(spec)
    return spec

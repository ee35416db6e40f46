"""What all peers share: where things are, and the usual code around a model, once with Ultralytics, once with OpenVINO.

Written the usual way on purpose: OpenCV decodes and letterboxes, numpy suppresses overlaps, OpenVINO compiles the file
with its defaults. Nothing here is from the service.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Answer = list[dict[str, Any]]
_PRECISION = {"bf16": "bf16", "fp16": "f16"}


@dataclass(frozen=True)
class Setup:
    """What a peer is told: PEER_PORT, PEER_WAY, PEER_MODEL, PEER_WEIGHTS and PEER_SIZE of the environment."""

    port: int
    way: str
    model_dir: Path
    weights: Path
    size: int

    @classmethod
    def read(cls) -> Setup:
        """Take it from the environment. Raises KeyError for a variable that is not set."""
        given = {name: os.environ[f"PEER_{name}"] for name in ("PORT", "WAY", "MODEL", "WEIGHTS", "SIZE")}
        return cls(int(given["PORT"]), given["WAY"], Path(given["MODEL"]), Path(given["WEIGHTS"]), int(given["SIZE"]))


@dataclass(frozen=True)
class Geometry:
    """How an image was letterboxed: one scale, and borders left and above, px."""

    scale: float
    left: int
    top: int
    image_wh: tuple[int, int]


class EngineModel:
    """The engine file of the service through OpenVINO's defaults. Safe to call from several threads."""

    def __init__(self, model_dir: Path) -> None:
        import openvino

        spec = json.loads((model_dir / "model.json").read_text(encoding="utf-8"))
        self._size_wh = tuple(spec["input"]["size_wh"])
        self._classes = spec["classes"]
        self._limits = spec["thresholds"]
        # The same arithmetic as the service's; the rest is what compile_model chooses: all cores for one request.
        config = {"INFERENCE_PRECISION_HINT": _PRECISION.get(spec["engine"]["precision"], "f32")}
        self._compiled = openvino.Core().compile_model(model_dir / spec["engine"]["file"], "CPU", config)
        self._local = threading.local()

    def detect(self, bodies: list[bytes]) -> list[Answer]:
        """From JPEGs to boxes."""
        read = [self.read(body) for body in bodies]
        candidates = self.infer(np.stack([frame for frame, _ in read]))
        return [self.boxes(one, geometry) for one, (_, geometry) in zip(candidates, read, strict=True)]

    def read(self, body: bytes) -> tuple[Pixels, Geometry]:
        """Decode and letterbox: (H, W, 3) RGB."""
        image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError("no image")
        return self.letterbox(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))

    def letterbox(self, image: npt.NDArray[Any]) -> tuple[Pixels, Geometry]:
        """Fit an RGB image into the input, grey around it."""
        height, width = image.shape[:2]
        input_w, input_h = self._size_wh
        scale = min(input_w / width, input_h / height)
        new_w, new_h = round(width * scale), round(height * scale)
        left, top = (input_w - new_w) // 2, (input_h - new_h) // 2
        resized = cv2.resize(image, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
        frame = cv2.copyMakeBorder(
            resized, top, input_h - new_h - top, left, input_w - new_w - left, cv2.BORDER_CONSTANT, value=(114,) * 3
        )
        return np.asarray(frame, np.uint8), Geometry(scale, left, top, (width, height))

    def infer(self, frames: Pixels) -> Floats:
        """(B, H, W, 3) to candidates (B, K, 6)."""
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        found: Floats = self._local.request.infer({0: frames})[self._compiled.output(0)].copy()
        return found

    def boxes(self, candidates: Floats, geometry: Geometry) -> Answer:
        """Threshold, suppress, and map back to the image."""
        found = candidates[candidates[:, 4] >= self._limits["conf"]]
        kept = suppress(found, self._limits["iou"])[: self._limits["max_det"]]
        corners = (found[kept, :4] - [geometry.left, geometry.top] * 2) / geometry.scale
        corners = corners.clip(0, [*geometry.image_wh] * 2)
        return [
            {"name": self._classes[int(class_id)], "confidence": float(score), "box": box.tolist()}
            for box, score, class_id in zip(corners, found[kept, 4], found[kept, 5], strict=True)
        ]


class UltralyticsModel:
    """The checkpoint through Ultralytics' `YOLO`, as its documentation calls it, at the input size that is compared."""

    def __init__(self, weights: Path, size: int) -> None:
        from ultralytics import YOLO  # type: ignore[attr-defined]

        self._model = YOLO(str(weights))
        self._size = size

    def detect(self, images: list[Any]) -> list[Answer]:
        """From Pillow images, paths or BGR arrays to boxes."""
        return [_describe(result) for result in self._model.predict(images, imgsz=self._size)]


def suppress(found: Floats, iou: float) -> list[int]:
    """Greedy non-maximum suppression by class over rows x1, y1, x2, y2, score, class; best first."""
    boxes = found[:, :4] + found[:, 5:6] * 8192  # boxes of different classes never overlap
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = (-found[:, 4]).argsort()
    kept: list[int] = []
    while order.size:
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        wide = np.minimum(boxes[best, 2], boxes[rest, 2]) - np.maximum(boxes[best, 0], boxes[rest, 0])
        high = np.minimum(boxes[best, 3], boxes[rest, 3]) - np.maximum(boxes[best, 1], boxes[rest, 1])
        shared = wide.clip(0) * high.clip(0)
        order = rest[shared / (areas[best] + areas[rest] - shared + 1e-9) <= iou]
    return kept


def _describe(result: Any) -> Answer:
    rows = zip(result.boxes.xyxy.tolist(), result.boxes.conf.tolist(), result.boxes.cls.tolist(), strict=True)
    return [{"name": result.names[int(class_id)], "confidence": score, "box": box} for box, score, class_id in rows]

"""The reference model whose opinion of the labels is asked: a checkpoint or a model directory, as a detector."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bentos.detector.contract import EngineSpec, InputSpec, ModelSpec, Thresholds, file_sha256
from bentos.detector.detector import Detector
from bentos.detector.errors import LoadError
from flows.dataset.review.objects import LOW_CONF
from flows.errors import CheckpointError
from flows.exporting.graph import DetectorGraph, num_anchors
from flows.exporting.parity import reference_detector
from flows.weights import Weights, read_weights

if TYPE_CHECKING:
    from torch import nn

_IOU = 0.6  # of the same class, above which the weaker box goes
_TOP_K = 1000  # pairs of place and class that NMS sees
_MAX_DETECTIONS = 300
_STRIDE = 32
Shape = tuple[int, int]


@dataclass(frozen=True)
class ReferenceModel:
    """A model that can be asked.

    Attributes:
        name: What people call it: the name of its file or folder.
        key: sha256, hex, of all that its answers depend on, beside the image.
        classes: Names by class id.
        scores_every_class: Whether a place has a score for every class, or only for the best.
        is_ours: Whether this product trained it, so that it may have learnt the very labels it is asked about.
        side_px: Longer side of its input.
        input_wh: The size of the input, px, for frames of a size.
        detector: The detector for an input size.
    """

    name: str
    key: str
    classes: tuple[str, ...]
    scores_every_class: bool
    is_ours: bool
    side_px: int
    input_wh: Callable[[Shape], Shape]
    detector: Callable[[Shape], Detector]


def open_reference(
    path: Path, image_size: int, choose_classes: Callable[[Sequence[str]], Sequence[int]], home: Path
) -> ReferenceModel:
    """Open a checkpoint (.pt), read without running what is in it, or a model directory with its engine.

    A checkpoint gives its score for every chosen class at every place; the engine of a model directory, built for
    serving, only that of the best one. A checkpoint of ours sees frames at the size that it was trained at, another one
    at `image_size` on the longer side.

    Args:
        path: File or folder.
        image_size: Longer side of the input, px, for a checkpoint that is not ours.
        choose_classes: Given the names that the model knows, the ids of those that matter.
        home: Where facts about checkpoints are kept: where all answers are known, none must be loaded again.

    Raises:
        CheckpointError: There is nothing, or something else than a detector.
    """
    return _open_directory(path) if path.is_dir() else _open_checkpoint(path, image_size, choose_classes, home)


@dataclass(frozen=True)
class _Facts:
    """What must be known of a checkpoint before it is asked; `size_wh` only of one of ours: what it was trained at."""

    sha256: str
    classes: tuple[str, ...]
    size_wh: Shape | None


def _open_checkpoint(
    path: Path, image_size: int, choose_classes: Callable[[Sequence[str]], Sequence[int]], home: Path
) -> ReferenceModel:
    facts = _read_facts(path, home)
    class_ids = sorted(choose_classes(facts.classes))
    if not class_ids:
        raise CheckpointError(
            f"{path} knows none of the classes of the data; it knows {_shortened(facts.classes)}",
            "Name the correspondence (params.yaml: validate.review.classes), or give another model",
        )
    fixed, side = facts.size_wh, max(facts.size_wh or (image_size,))
    model = functools.cache(lambda: read_weights(path).model)

    def detector(input_wh: Shape) -> Detector:
        top_k = min(_TOP_K, num_anchors(input_wh) * len(class_ids))
        graph = DetectorGraph(_class_candidates(model(), class_ids, top_k), facts.classes, input_wh, top_k)
        return reference_detector(graph, _spec(path.stem, graph))

    return ReferenceModel(
        name=path.name,
        key=_digest("checkpoint", facts.sha256, class_ids, fixed or side, LOW_CONF, _IOU, _TOP_K),
        classes=facts.classes,
        scores_every_class=True,
        is_ours=fixed is not None,
        side_px=side,
        input_wh=lambda size_wh: fixed or fitting_input(size_wh, side),
        detector=detector,
    )


def _read_facts(path: Path, home: Path) -> _Facts:
    try:
        sha256 = file_sha256(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}", "Give the path of a .pt file") from None
    kept = home / f"{sha256[:32]}.json"
    try:
        content = json.loads(kept.read_text(encoding="utf-8"))
        size_wh = content["size_wh"]
        return _Facts(sha256, tuple(content["classes"]), (size_wh[0], size_wh[1]) if size_wh else None)
    except (OSError, ValueError, KeyError, TypeError):  # not there yet, or of another version
        weights = read_weights(path)
    if weights.task != "detect":
        raise CheckpointError(f"{path} was made to {weights.task}, not to detect", "Give a detection checkpoint")
    facts = _Facts(sha256, weights.classes, _trained_size(weights))
    home.mkdir(parents=True, exist_ok=True)
    draft = kept.with_suffix(".draft")
    draft.write_text(json.dumps({"classes": facts.classes, "size_wh": facts.size_wh}), encoding="utf-8")
    draft.replace(kept)
    return facts


def _open_directory(path: Path) -> ReferenceModel:
    try:
        loaded = Detector.load(path)
    except LoadError as error:
        raise CheckpointError(
            f"{path} does not load: {error}", "Give a checkpoint (.pt) or a model directory"
        ) from error
    return ReferenceModel(
        name=path.name,
        key=_digest("directory", loaded.spec.digest, LOW_CONF),
        classes=loaded.spec.classes,
        scores_every_class=False,
        is_ours=True,
        side_px=max(loaded.spec.input.size_wh),
        input_wh=lambda size_wh: loaded.spec.input.size_wh,
        detector=lambda input_wh: loaded,
    )


def max_detections(detector: Detector) -> int:
    """Most detections to ask of an image."""
    return min(_MAX_DETECTIONS, detector.spec.top_k)


def fitting_input(size_wh: Shape, side: int) -> Shape:
    """The smallest input, in whole strides, that holds a frame scaled to `side` on its longer side."""
    scale = side / max(size_wh)
    width, height = (max(math.ceil(round(length * scale) / _STRIDE), 1) * _STRIDE for length in size_wh)
    return width, height


def _trained_size(weights: Weights) -> Shape | None:
    """Width and height that a checkpoint of ours was trained at; None for another one."""
    notes = weights.content.get("detector")
    if not isinstance(notes, dict) or "input_size_wh" not in notes:
        return None
    width, height = notes["input_size_wh"]
    return int(width), int(height)


def _spec(name: str, graph: DetectorGraph) -> ModelSpec:
    return ModelSpec(
        name=name,
        classes=graph.classes,
        input=InputSpec(size_wh=graph.size_wh),
        thresholds=Thresholds(conf=LOW_CONF, iou=_IOU, max_det=min(_MAX_DETECTIONS, graph.top_k)),
        top_k=graph.top_k,
        engine=EngineSpec(kind="fake", file="weights.pt"),  # never served
    )


def _class_candidates(model: nn.Module, class_ids: Sequence[int], top_k: int) -> nn.Module:
    """Pixels before the model, and behind it the best pairs of place and class.

    Serving keeps the best class of a place; here a place that looks like a car and like a truck gives both, because
    the question is how sure the model is of the class that somebody wrote down.
    """
    import torch
    from torch import nn

    head = list(model.children())[-1][-1]  # type: ignore[index]
    head.export, head.format, head.xyxy = True, "onnx", True  # decoded boxes alone, as corners
    chosen = torch.tensor(class_ids)

    class Candidates(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, frames: torch.Tensor) -> torch.Tensor:  # (B, H, W, 3) -> (B, K, 6)
            predictions = self.model(frames.to(torch.float32).permute(0, 3, 1, 2) / 255)  # (B, 4 + C, A)
            scores = predictions[:, 4:][:, chosen].flatten(1)  # (B, c * A)
            scores, best = scores.topk(top_k, dim=1)  # (B, K)
            places, ids = best % predictions.shape[2], chosen[best // predictions.shape[2]]
            corners = predictions[:, :4].transpose(1, 2).gather(1, places[..., None].expand(-1, -1, 4))
            return torch.cat([corners, scores[..., None], ids[..., None].to(torch.float32)], dim=-1)

    return Candidates().eval()


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")

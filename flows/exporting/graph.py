"""The graph that serving runs: uint8 frames in, the best K candidates of each frame out, and its way to ONNX.

Candidates are cut to the best K inside the graph so that K rows leave it instead of thousands; suppression of
overlaps stays outside, over K boxes, where it costs next to nothing.
"""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from flows.errors import CheckpointError, EngineUnavailable
from flows.weights import read_weights

if TYPE_CHECKING:
    from torch import nn

INPUT, OUTPUT = "frames", "detections"
OPSET = 17
_STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class DetectorGraph:
    """A checkpoint with pixels before it and top-K behind it: the reference that every engine is compared with."""

    module: nn.Module
    classes: tuple[str, ...]
    size_wh: tuple[int, int]
    top_k: int

    def infer(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(B, H, W, 3) RGB to (B, top_k, 6): x1, y1, x2, y2 in input pixels, score, class id."""
        import torch

        with torch.inference_mode():
            found: npt.NDArray[np.float32] = self.module(torch.from_numpy(frames)).numpy()
        return found


def read_graph(checkpoint: Path, image_size: int, top_k: int) -> DetectorGraph:
    """Wrap a checkpoint.

    The input size is what the checkpoint was trained at (our trainer notes width and height, Ultralytics the side of
    the square), and `image_size` squared where it does not say. There are never more candidates than anchors.

    Raises:
        CheckpointError: The file is no detection checkpoint.
    """
    weights = read_weights(checkpoint)
    if weights.task != "detect":
        raise CheckpointError(f"{checkpoint} was made to {weights.task}, not to detect", "Give a detection checkpoint")
    size_wh = _input_size_wh(weights.content, image_size)
    k = min(top_k, num_anchors(size_wh))
    return DetectorGraph(_wrap(weights.model, k), weights.classes, size_wh, k)


def num_anchors(size_wh: tuple[int, int]) -> int:
    """How many candidates YOLO11 makes of one frame: one for each cell of its three grids."""
    width, height = size_wh
    return sum(math.ceil(width / stride) * math.ceil(height / stride) for stride in _STRIDES)


def write_onnx(graph: DetectorGraph, path: Path) -> None:
    """Write the graph as ONNX with a free batch dimension, simplified and checked.

    Raises:
        EngineUnavailable: ONNX's checker refuses what came out.
    """
    import onnx
    import onnxslim
    import torch

    width, height = graph.size_wh
    example = torch.zeros((2, height, width, 3), dtype=torch.uint8)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.module,
            (example,),
            path,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
    logging.getLogger("onnxslim").setLevel(logging.ERROR)
    slim = onnxslim.slim(onnx.load(path))
    try:
        onnx.checker.check_model(slim, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise EngineUnavailable(f"the exported graph is not valid ONNX: {str(error).splitlines()[0]}") from error
    onnx.save(slim, path)


def _input_size_wh(content: dict[str, object], image_size: int) -> tuple[int, int]:
    notes, arguments = content.get("detector"), content.get("train_args")
    if isinstance(notes, dict) and "input_size_wh" in notes:
        width, height = notes["input_size_wh"]
        return int(width), int(height)
    side = arguments.get("imgsz", image_size) if isinstance(arguments, dict) else image_size
    return (int(side), int(side)) if isinstance(side, int) else (image_size, image_size)


def _wrap(model: nn.Module, top_k: int) -> nn.Module:
    import torch
    from torch import nn

    head = list(model.children())[-1][-1]  # type: ignore[index]
    head.export, head.format, head.xyxy = True, "onnx", True  # decoded boxes alone, as corners

    class Candidates(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, frames: torch.Tensor) -> torch.Tensor:  # (B, H, W, 3) -> (B, K, 6)
            # TensorRT takes uint8 only where a cast comes first.
            pixels = frames.to(torch.float32).permute(0, 3, 1, 2) / 255
            predictions = self.model(pixels)  # (B, 4 + C, A)
            scores, class_ids = predictions[:, 4:].max(dim=1)  # (B, A)
            scores, best = scores.topk(top_k, dim=1)  # (B, K)
            corners = predictions[:, :4].transpose(1, 2)  # (B, A, 4)
            corners = corners.gather(1, best[..., None].expand(-1, -1, 4))
            class_ids = class_ids.gather(1, best).to(torch.float32)
            return torch.cat([corners, scores[..., None], class_ids[..., None]], dim=-1)

    return Candidates().eval()

"""What travels to the GPU machine: the network as programs that PyTorch alone can run, ONNX, frames, and the answers.

Made where Ultralytics is installed; read where there is nothing but PyTorch and numpy.
"""

from __future__ import annotations

import json
import platform
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

PRECISIONS = ("fp32", "fp16", "bf16")
NUM_INPUTS = 16
TOP_K = 300
MAX_BYTES = 60_000_000
_NOTES = "bundle.json"


@dataclass(frozen=True)
class Notes:
    """bundle.json."""

    name: str
    classes: tuple[str, ...]
    size_wh: tuple[int, int]
    top_k: int
    gflop_per_frame: float
    """Multiplications and additions of one frame, counted by PyTorch."""
    made_with: dict[str, str]


@dataclass(frozen=True)
class Bundle:
    """A folder that `prepare` wrote, in memory.

    Attributes:
        inputs: (N, H, W, 3) letterboxed frames.
        reference: (N, K, 6) what PyTorch found in them on a CPU, in FP32.
        frames: JPEGs as a camera sends them.
    """

    folder: Path
    notes: Notes
    inputs: Pixels
    reference: Floats
    frames: tuple[bytes, ...]

    def program(self, precision: str) -> Path:
        """The TorchScript file."""
        return self.folder / f"{precision}.ts"

    @property
    def onnx_file(self) -> Path:
        return self.folder / "model.onnx"


class BundleError(Exception):
    """The folder is not what `prepare` writes, or what it should be made of is not there."""


def prepare(weights: Path, folder: Path, image_size: int, images: Path | None, num_inputs: int = NUM_INPUTS) -> Notes:
    """Write a bundle.

    Args:
        weights: YOLO11 checkpoint.
        image_size: Side of the input for a checkpoint that does not say what it was trained at, px.
        images: Folder of JPEGs; drawn frames if None.

    Raises:
        BundleError: A package that this needs is missing, or the bundle became too large to travel.
        TcaError: The checkpoint is none.
    """
    try:
        from benchmarks.serving.frames import draw_frames, read_frames
        from flows.exporting.graph import read_graph, write_onnx
        from flows.weights import digest_state
    except ImportError as error:
        raise BundleError(f"{error.name} is missing; run --prepare where the whole project is installed") from None
    folder.mkdir(parents=True, exist_ok=True)
    frames = read_frames(images) if images else draw_frames()
    graph = read_graph(weights, image_size, TOP_K)
    inputs = _letterbox(frames[:num_inputs], graph.size_wh)
    write_onnx(graph, folder / "model.onnx")
    digest = digest_state(graph.module)[:16]
    reference = np.concatenate([graph.infer(frame[None]) for frame in inputs])
    _write_programs(graph.module, folder, inputs[:2])
    np.savez_compressed(folder / "inputs.npz", inputs=inputs, reference=reference)
    _write_frames(frames, folder / "frames")
    made_with = {**_versions(), "weights": digest}
    notes = Notes(weights.stem, graph.classes, graph.size_wh, graph.top_k, _gflop(graph.module, inputs), made_with)
    (folder / _NOTES).write_text(json.dumps(asdict(notes), indent=1) + "\n", encoding="utf-8")
    if (size := sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())) > MAX_BYTES:
        raise BundleError(f"{folder} has {size / 1e6:.0f} MB, more than {MAX_BYTES / 1e6:.0f}: give fewer --images")
    return notes


def read_bundle(folder: Path) -> Bundle:
    """Read what `prepare` wrote. Raises BundleError."""
    try:
        content: dict[str, Any] = json.loads((folder / _NOTES).read_text(encoding="utf-8"))
        size_wh = (int(content["size_wh"][0]), int(content["size_wh"][1]))
        notes = Notes(**{**content, "size_wh": size_wh, "classes": tuple(content["classes"])})
        with np.load(folder / "inputs.npz", allow_pickle=False) as arrays:
            inputs, reference = arrays["inputs"], arrays["reference"]
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise BundleError(
            f"{folder} is no bundle ({error}). Make one: python -m benchmarks.gpu --prepare FOLDER"
        ) from None
    frames = tuple(path.read_bytes() for path in sorted((folder / "frames").glob("*.jpg")))
    return Bundle(folder, notes, inputs, reference, frames)


def _letterbox(frames: Sequence[bytes], size_wh: tuple[int, int]) -> Pixels:
    from bentos.detector.imaging import decode_image, letterbox_into

    inputs = np.zeros((len(frames), size_wh[1], size_wh[0], 3), dtype=np.uint8)
    for slot, frame in zip(inputs, frames, strict=True):
        letterbox_into(slot, decode_image(frame), 114)
    return inputs


def _write_programs(module: Any, folder: Path, example: Pixels) -> None:
    """Trace the network, normalisation folded into its convolutions, in each precision.

    As in the engines, decoding of boxes keeps FP32: only what lies before the last convolutions is halved.
    """
    import torch

    network = module.model
    network.fuse(verbose=False)
    head = list(network.children())[-1][-1]
    frames = torch.from_numpy(example)
    chosen = {"kind": torch.float32}
    network.register_forward_pre_hook(lambda _, given: (given[0].to(chosen["kind"]), *given[1:]))
    for branch in (*head.cv2, *head.cv3):
        branch.register_forward_hook(lambda _, given, sums: sums.float())
    kinds = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for precision, kind in kinds.items():  # fp32 last: it is what `module` is used for afterwards
        chosen["kind"] = kind
        network.to(kind)
        head.dfl.float()
        network.load_state_dict(state)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated; it is what PyTorch of another version reads
            module(frames)  # anchors are made once for a size and kept; the trace shall find them there
            torch.jit.trace(module, (frames,), check_trace=False).save(str(folder / f"{precision}.ts"))


def _gflop(module: Any, inputs: Pixels) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.from_numpy(inputs[:1]))
    return float(counter.get_total_flops()) / 1e9


def _write_frames(frames: Sequence[bytes], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for index, frame in enumerate(frames):
        (folder / f"{index:02d}.jpg").write_bytes(frame)


def _versions() -> dict[str, str]:
    import torch

    return {"python": platform.python_version(), "torch": torch.__version__}

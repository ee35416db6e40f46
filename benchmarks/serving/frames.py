"""What the cameras send: drawn frames of the size and weight that real ones have, or real ones from a folder."""

from __future__ import annotations

import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image

from benchmarks.report import ROOT
from flows.dataset.rendering.scene import render_dataset
from flows.params_file import read_params

NUM_FRAMES = 32
SIZE_WH = (1280, 720)
TARGET_BYTES = 108_000
"""A traffic camera's JPEG of this size has 90 to 125 KB."""
_QUALITIES = range(30, 96)


def draw_frames() -> list[bytes]:
    """JPEGs of two cameras in four kinds of weather, each of about `TARGET_BYTES`; the same on every machine."""
    params = read_params(ROOT / "params.yaml", [])
    few = params.render.model_copy(
        update={
            "cameras": 2,
            "clips_per_camera": 4,
            "frames_per_clip": NUM_FRAMES // 8,
            "size_wh": SIZE_WH,
            "jpeg_quality": 95,
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        render_dataset(Path(folder, "data"), few, params.seed)
        return [weigh(path.read_bytes(), TARGET_BYTES) for path in sorted(Path(folder).rglob("*.jpg"))]


def read_frames(folder: Path) -> list[bytes]:
    """JPEGs of a folder as they are, `NUM_FRAMES` of them at even distances by name.

    Raises:
        ValueError: There are none.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg"})
    if not paths:
        raise ValueError(f"{folder} holds no JPEG. Give a folder of camera frames: --frames FOLDER")
    step = max(1, len(paths) // NUM_FRAMES)
    return [path.read_bytes() for path in paths[::step][:NUM_FRAMES]]


def weigh(jpeg: bytes, target_bytes: int) -> bytes:
    """Save a picture anew, in the highest quality of at most `target_bytes`; in the lowest where none is."""
    with Image.open(BytesIO(jpeg)) as opened:
        picture = opened.convert("RGB")
    low, high = _QUALITIES.start, _QUALITIES.stop
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if len(_save(picture, middle)) <= target_bytes else (low, middle)
    return _save(picture, low)


def _save(picture: Image.Image, quality: int) -> bytes:
    sink = BytesIO()
    picture.save(sink, "JPEG", quality=quality, subsampling="4:2:0")
    return sink.getvalue()

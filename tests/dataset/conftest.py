"""A small sound dataset, made anew for each test that wants to spoil it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.dataset.layout import SPLITS, Frame, write_data_yaml, write_frames

CLASSES = ("car", "big truck", "bus")
SIZE_WH = (96, 64)


def _draw(path: Path, seed: int, grey: int = 120) -> None:
    noise = np.random.default_rng(seed).integers(-15, 16, (SIZE_WH[1], SIZE_WH[0], 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((noise + grey).clip(0, 255).astype(np.uint8)).save(path, quality=95)


@pytest.fixture
def draw_image() -> Callable[..., None]:
    """`draw_image(path, seed, grey)` writes an image that no other seed gives."""
    return _draw


@pytest.fixture
def sound_dataset(tmp_path: Path) -> Path:
    """Root of a dataset in which nothing is wrong: two cameras, a clip per split, two frames a clip, three classes."""
    root = tmp_path / "data"
    frames = []
    for split in SPLITS:
        for camera in ("cam1", "cam2"):
            for number in range(2):
                name = f"{camera}_{split}_{number}"
                time = f"2026-05-01T12:00:0{number}+02:00"
                frame = Frame(f"images/{split}/{name}.jpg", split, camera, f"c_{split}", time, "day")
                _draw(root / frame.image, seed=len(frames))
                (root / frame.label).parent.mkdir(parents=True, exist_ok=True)
                (root / frame.label).write_text("0 0.25 0.5 0.2 0.2\n1 0.5 0.5 0.3 0.4\n2 0.8 0.5 0.4 1.0\n")
                frames.append(frame)
    write_data_yaml(root, CLASSES)
    write_frames(root, frames)
    return root

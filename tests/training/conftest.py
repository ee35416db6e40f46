"""Tiny frames with red and blue boxes, and one real training on them that the tests of this room share."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from flows.params_train import TrainParams
from flows.training.epochs import EpochMetrics
from flows.training.loop.trainer import train_model
from flows.training.reproducibility import TrainReport


@dataclass(frozen=True)
class TinyFrame:
    image: str
    label: str


@dataclass(frozen=True)
class TinyFrames:
    root: Path
    classes: tuple[str, ...]
    splits: dict[str, tuple[TinyFrame, ...]]

    def split(self, name: str) -> tuple[TinyFrame, ...]:
        return self.splits.get(name, ())


@dataclass(frozen=True)
class Trained:
    report: TrainReport
    out_dir: Path
    epochs: list[EpochMetrics]
    progress: list[tuple[int, int, str]]


def draw_frames(
    root: Path, classes: tuple[str, ...] = ("car", "bus"), size_wh: tuple[int, int] = (96, 64)
) -> TinyFrames:
    dice = random.Random(5)
    splits = {}
    for split, count in (("train", 8), ("val", 4)):
        frames = tuple(TinyFrame(f"images/{split}/f{i}.jpg", f"labels/{split}/f{i}.txt") for i in range(count))
        for frame in frames:
            draw_frame(root, frame, size_wh, dice, len(classes))
        splits[split] = frames
    return TinyFrames(root, classes, splits)


def draw_frame(root: Path, frame: TinyFrame, size_wh: tuple[int, int], dice: random.Random, num_classes: int) -> None:
    width, height = size_wh
    picture = Image.new("RGB", size_wh, (90, 90, 90))
    lines = []
    for number in range(3):
        class_id = number % num_classes
        x, y = dice.randrange(width - 30), dice.randrange(height - 24)
        ImageDraw.Draw(picture).rectangle((x, y, x + 29, y + 19), fill=((200, 30, 30), (30, 30, 220))[class_id % 2])
        lines.append(f"{class_id} {(x + 15) / width} {(y + 10) / height} {30 / width} {20 / height}")
    for path in (root / frame.image, root / frame.label):
        path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(root / frame.image)
    (root / frame.label).write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def draw() -> Callable[..., TinyFrames]:
    """`draw(root, classes, size_wh)` draws the frames."""
    return draw_frames


@pytest.fixture(scope="session")
def make_params() -> Callable[..., TrainParams]:
    """Sound parameters of a tiny training, with some replaced."""
    return _params


def _params(**changes: object) -> TrainParams:
    values: dict[str, object] = {
        "task": "detect",
        "start_from": "model",
        "model": "yolo11n.yaml",
        "epochs": 1,
        "patience": 0,
        "image_size": 64,
        "batch": 4,
        "learning_rate": 0.002,
        "optimizer": "AdamW",
        "warmup_epochs": 0.0,
        "mosaic": 0.0,
        "freeze": 0,
        "workers": 0,
        "cache": "ram",
        "cache_share": 0.5,
        "precision": "fp32",
        "compile": False,
        "threads": 1,
        "checkpoint_minutes": 10.0,
        "distributed": {
            "nodes": 1,
            "processes_per_node": 1,
            "rendezvous": "",
            "backend": "auto",
            "sync_batchnorm": True,
            "restarts": 1,
            "timeout_s": 60.0,
        },
    }
    return TrainParams.model_validate({**values, **changes})


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyFrames:
    return draw_frames(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trained]:
    """Train for real; keyword arguments are keys of train."""

    def run(frames: TinyFrames, start: Path | None = None, seed: int = 3, **changes: object) -> Trained:
        out_dir = tmp_path_factory.mktemp("training") / "out"
        epochs: list[EpochMetrics] = []
        told: list[tuple[int, int, str]] = []

        def progress(done: int, total: int, note: str) -> None:
            told.append((done, total, note))

        report = train_model(frames, _params(**changes), seed, out_dir, epochs.append, progress, start)
        assert report
        return Trained(report, out_dir, epochs, told)

    return run


@pytest.fixture(scope="session")
def trained(tiny: TinyFrames, train: Callable[..., Trained]) -> Trained:
    return train(tiny, epochs=2)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """`disk("42m")`: a file system of that size; called again, the same one of another size."""
    place = tmp_path / "disk"
    place.mkdir()

    def resize(size: str) -> Path:
        options = f"remount,size={size}" if place.is_mount() else f"size={size}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        mounted = subprocess.run(command, check=False, capture_output=True)
        if mounted.returncode:
            pytest.skip(f"no tmpfs may be mounted here: {mounted.stderr.decode().strip()}")
        return place

    try:
        yield resize
    finally:
        if place.is_mount():
            subprocess.run(["umount", str(place)], check=True)

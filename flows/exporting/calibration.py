"""Frames that show an INT8 engine its ranges: of the training split, from every slice and camera, letterboxed once.

The frozen frames must not be among them: an engine that was fitted to its examination proves nothing.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from bentos.detector.imaging import decode_image, letterbox_into
from flows.errors import EngineUnavailable

Pixels = npt.NDArray[np.uint8]
FILL = 114
_KEPT = 3  # sets on disk; older ones go


class CalibrationReport(BaseModel):
    """What an INT8 engine was calibrated on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_frames: int = Field(description="frames of the training split")
    num_strata: int = Field(description="pairs of slice and camera that they come from")
    sha256: str = Field(description="over names and content of the files and the input size, 16 hex digits")


@dataclass(frozen=True)
class TrainingFrame:
    """An image file of the training split. `name` is its path within the data, `stratum` its slice and camera."""

    path: Path
    name: str
    stratum: tuple[str, str]


@dataclass(frozen=True)
class Calibration:
    """The frames to calibrate on, and the folder where they are kept as pixels."""

    chosen: tuple[TrainingFrame, ...]
    folder: Path

    def read(self, size_wh: tuple[int, int]) -> tuple[Pixels, CalibrationReport]:  # (N, H, W, 3)
        """Letterboxed as serving does it; from disk where the same frames were read before.

        Raises:
            EngineUnavailable: There is no frame.
        """
        if not self.chosen:
            raise EngineUnavailable("there is no training frame to calibrate INT8 on", "Choose another precision")
        contents = [frame.path.read_bytes() for frame in self.chosen]
        key = _key(self.chosen, contents, size_wh)
        strata = {frame.stratum for frame in self.chosen}
        report = CalibrationReport(num_frames=len(contents), num_strata=len(strata), sha256=key)
        kept = self.folder / f"{key}.npy"
        pixels = _load(kept, (len(contents), size_wh[1], size_wh[0], 3))
        if pixels is None:
            pixels = _letterbox(contents, size_wh)
            _keep(kept, pixels)
        return pixels, report


def choose_frames(frames: Sequence[TrainingFrame], count: int, seed: int) -> tuple[TrainingFrame, ...]:
    """At most `count` frames, as many from each stratum as it has and the others leave; the same for the same seed.

    Strata take turns in the order of their names, so that two of them never differ by more than one frame unless one
    has run out.
    """
    strata: dict[tuple[str, str], list[TrainingFrame]] = defaultdict(list)
    for frame in sorted(frames, key=lambda one: one.name):
        strata[frame.stratum].append(frame)
    for stratum, members in strata.items():
        # Of each stratum's own, so that a new camera does not change the draw of the others.
        np.random.default_rng([seed, zlib.crc32("/".join(stratum).encode())]).shuffle(members)
    chosen: list[TrainingFrame] = []
    turns = [strata[name] for name in sorted(strata)]
    for depth in range(max(map(len, turns), default=0)):
        chosen += [members[depth] for members in turns if depth < len(members)]
    return tuple(chosen[:count])


def _key(chosen: Sequence[TrainingFrame], contents: Sequence[bytes], size_wh: tuple[int, int]) -> str:
    sha256 = hashlib.sha256(f"{size_wh[0]}x{size_wh[1]} fill {FILL}\n".encode())
    for frame, content in zip(chosen, contents, strict=True):
        sha256.update(f"{frame.name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return sha256.hexdigest()[:16]


def _letterbox(contents: Sequence[bytes], size_wh: tuple[int, int]) -> Pixels:
    pixels = np.zeros((len(contents), size_wh[1], size_wh[0], 3), dtype=np.uint8)
    for slot, content in zip(pixels, contents, strict=True):
        letterbox_into(slot, decode_image(content), FILL)
    return pixels


def _load(path: Path, shape: tuple[int, ...]) -> Pixels | None:
    try:
        pixels: Pixels = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return pixels if pixels.shape == shape and pixels.dtype == np.uint8 else None


def _keep(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    with draft.open("wb") as sink:
        np.save(sink, pixels)
    draft.replace(path)
    for old in sorted(path.parent.glob("*.npy"), key=lambda one: one.stat().st_mtime)[:-_KEPT]:
        old.unlink(missing_ok=True)

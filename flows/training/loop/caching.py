"""Where decoded frames are kept between epochs: chosen within limits of memory and disk, where it pays.

Written against Ultralytics 8.4.190. In memory each training process keeps every frame of train and val, resized to the
network's long side; while they are packed, each is there twice (`flows.memory.give_back_memory` frees the first copies
afterwards). On disk lies a .npy file of the full size beside each image of the mirror. The choice changes no pixel, as
long as mosaics are made of all frames and not of those that were read last.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.memory import read_memory
from flows.params_train import TrainParams
from flows.training.frames import LabelledFrames

Kind = Literal["ram", "disk", "none"]
_CHANNELS = 3
_COPIES_IN_MEMORY = 2
_SAMPLE_FRAMES = 8


class CacheChoice(BaseModel):
    """Where frames are kept, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = Field(description="ram, disk or none, as Ultralytics calls them")
    reason: str = Field(description="the figures that decided")
    num_bytes: int = Field(description="what all processes of this machine keep together; 0 for none")
    warning: str | None = Field(default=None, description="what is wrong with a cache that was asked for by name")

    @property
    def sentence(self) -> str:
        """The choice with its reason, for a record."""
        return f"{self.kind}: {self.reason}"


@dataclass(frozen=True)
class CacheFacts:
    """What the choice depends on; bytes are those of all processes of this machine together."""

    num_frames: int
    num_processes: int
    epochs: int
    ram_bytes: int
    disk_bytes: int
    free_ram_bytes: int
    free_disk_bytes: int
    share: float


@dataclass(frozen=True)
class ReadTimes:
    """Seconds for one frame, files not in the page cache."""

    decode_s: float
    write_s: float
    load_s: float


def choose_cache(
    dataset: LabelledFrames,
    params: TrainParams,
    sizes_wh: Sequence[tuple[int, int]],
    disk_folder: Path,
    num_processes: int = 1,
) -> CacheChoice:
    """Choose the cache for `params.cache`; reading times are measured only where memory is too short for all frames.

    Args:
        dataset: The frames.
        params: Asks for a cache by name, or for `auto` within `cache_share` of what is free.
        sizes_wh: Width and height of every frame of train and val, px.
        disk_folder: An existing folder on the disk where the cache files would lie.
        num_processes: Training processes on this machine; each keeps frames of its own.
    """
    facts = CacheFacts(
        num_frames=len(sizes_wh),
        num_processes=num_processes,
        epochs=params.epochs,
        ram_bytes=num_processes * memory_bytes(sizes_wh, params),
        disk_bytes=num_processes * disk_bytes(sizes_wh),
        free_ram_bytes=read_memory().free_bytes,
        free_disk_bytes=shutil.disk_usage(disk_folder).free,
        share=params.cache_share,
    )
    if params.cache != "auto":
        return take_cache(params.cache, facts)
    return decide_cache(facts, lambda: measure_reading(dataset, disk_folder))


def decide_cache(facts: CacheFacts, measure: Callable[[], ReadTimes]) -> CacheChoice:
    """Memory if the frames fit, else the disk if they fit and reading files repays writing them, else none.

    `measure` is called only where the frames fit on the disk alone.
    """
    frames = _frames(facts)
    in_memory = f"{_gb(facts.ram_bytes)} of {_gb(facts.free_ram_bytes)} free memory"
    if facts.ram_bytes <= facts.share * facts.free_ram_bytes:
        return CacheChoice(kind="ram", reason=f"{frames} take {in_memory}", num_bytes=facts.ram_bytes)
    on_disk = f"{_gb(facts.disk_bytes)} of {_gb(facts.free_disk_bytes)} free disk"
    if facts.disk_bytes > facts.share * facts.free_disk_bytes:
        short = f"{frames} would take {in_memory} or {on_disk}, more than a share of {facts.share:g}"
        return CacheChoice(kind="none", reason=short, num_bytes=0)
    try:
        times = measure()
    except OSError as error:
        return CacheChoice(kind="none", reason=f"no cache can be written: {error}", num_bytes=0)
    shown = f"a frame is read in {1000 * times.load_s:.1f} ms and decoded in {1000 * times.decode_s:.1f} ms"
    if pays(times, facts.epochs):
        reason = f"{frames} take {on_disk}, and would {in_memory}; {shown}"
        return CacheChoice(kind="disk", reason=reason, num_bytes=facts.disk_bytes)
    reason = f"{frames} would take {in_memory}, and a disk cache does not pay: {shown}"
    return CacheChoice(kind="none", reason=reason, num_bytes=0)


def take_cache(kind: Kind, facts: CacheFacts) -> CacheChoice:
    """The cache that was asked for by name, with a warning where it does not fit."""
    needed, free = {
        "ram": (facts.ram_bytes, facts.free_ram_bytes),
        "disk": (facts.disk_bytes, facts.free_disk_bytes),
        "none": (0, 0),
    }[kind]
    warning = None
    if needed > free:
        where = "memory" if kind == "ram" else "disk"
        warning = (
            f"train.cache: {kind} takes {_gb(needed)} for {_frames(facts)}, and {_gb(free)} of {where} are free; "
            "auto chooses what fits"
        )
    return CacheChoice(kind=kind, reason="as train.cache says", num_bytes=needed, warning=warning)


def tell_kept(choice: CacheChoice, train: Any, val: Any) -> str:
    """The choice for a record, beside what Ultralytics' datasets really keep.

    They look for room of their own, with a wider margin, and silently do without a cache where it is too small.
    """
    if choice.kind == "none" or (_keeps(train, choice.kind) and _keeps(val, choice.kind)):
        return choice.sentence
    if _keeps(train, choice.kind):
        return f"{choice.sentence}; frames of val did not fit"
    return f"none: {choice.kind} was asked for and did not fit"


def _keeps(dataset: Any, kind: Literal["ram", "disk"]) -> bool:
    if hasattr(dataset, "cache_ram"):  # frames to classify
        return bool(dataset.cache_ram if kind == "ram" else dataset.cache_disk)
    return bool(dataset.cache == kind)


def pays(times: ReadTimes, epochs: int) -> bool:
    """Whether reading files for `epochs` epochs saves more time than decoding and writing each frame once takes."""
    return epochs * (times.decode_s - times.load_s) > times.decode_s + times.write_s


def memory_bytes(sizes_wh: Sequence[tuple[int, int]], params: TrainParams) -> int:
    """What one process takes for all frames in memory; classification keeps them at their full size."""
    if params.task == "classify":
        return _COPIES_IN_MEMORY * disk_bytes(sizes_wh)
    return _COPIES_IN_MEMORY * sum(_resized_bytes(size_wh, params.image_size) for size_wh in sizes_wh)


def disk_bytes(sizes_wh: Sequence[tuple[int, int]]) -> int:
    """What one process takes for all frames on disk, at their full size."""
    return sum(width * height * _CHANNELS for width, height in sizes_wh)


def measure_reading(dataset: LabelledFrames, disk_folder: Path) -> ReadTimes:
    """Time a few frames of the training split: the image file against a .npy file in `disk_folder`, both cold.

    Frames for which memory is too short do not stay in the page cache either, so it is emptied of each file first.

    Raises:
        OSError: `disk_folder` cannot be written to.
    """
    frames = dataset.split("train")
    step = max(1, len(frames) // _SAMPLE_FRAMES)
    with tempfile.TemporaryDirectory(prefix="cache-", dir=disk_folder) as place:
        sample = [dataset.root / frame.image for frame in frames[::step][:_SAMPLE_FRAMES]]
        times = list(_time_files(sample, Path(place) / "frame.npy"))
    if not times:
        return ReadTimes(0.0, 0.0, 0.0)
    decode_s, write_s, load_s = (statistics.median(column) for column in zip(*times, strict=True))
    return ReadTimes(decode_s, write_s, load_s)


def _time_files(paths: Sequence[Path], npy: Path) -> Iterator[tuple[float, float, float]]:
    """Seconds for decoding, writing and loading each image; files that are no images are left out."""
    import cv2
    import numpy as np

    for path in paths:
        _forget(path)
        started = time.perf_counter()
        image_bgr = cv2.imread(str(path))
        decoded = time.perf_counter()
        if image_bgr is None:
            continue
        with npy.open("wb") as stream:
            np.save(stream, image_bgr, allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())
        written = time.perf_counter()
        _forget(npy)
        forgotten = time.perf_counter()
        np.load(npy)
        yield decoded - started, written - decoded, time.perf_counter() - forgotten


def _forget(path: Path) -> None:
    """Ask the kernel to drop a file from its page cache."""
    with contextlib.suppress(OSError, AttributeError), path.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _resized_bytes(size_wh: tuple[int, int], image_size: int) -> int:
    scale = image_size / max(size_wh)
    width, height = (min(math.ceil(side * scale), image_size) for side in size_wh)
    return width * height * _CHANNELS


def _frames(facts: CacheFacts) -> str:
    processes = f" in each of {facts.num_processes} processes" if facts.num_processes > 1 else ""
    return f"{facts.num_frames} frames{processes}"


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB"

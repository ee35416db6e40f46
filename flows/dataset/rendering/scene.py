"""The demo data: traffic scenes drawn from a seed, byte for byte the same on every machine.

The pictures depend on the seed, the parameters and the versions of Pillow and numpy, and on nothing else: every clip
has its own random stream, so neither order nor number of processes matters.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path

import numpy as np

from flows.dataset.layout import DATA_YAML, SPLITS, Frame, write_data_yaml, write_frames
from flows.dataset.rendering.background import draw_background
from flows.dataset.rendering.frame import SceneBox, draw_frame
from flows.dataset.rendering.site import Site, draw_site
from flows.dataset.rendering.traffic import draw_traffic
from flows.dataset.rendering.vehicles import CLASSES
from flows.dataset.rendering.weather import LOOKS, SLICES, expose
from flows.dataset.replacing import replaced_folder
from flows.errors import DataError
from flows.params_data import RenderParams
from flows.progress import Progress, silent

FRAME_STEP_S = 0.5
EXPOSURE = (232, 284)  # how a clip is exposed, in 1/256
_SITE, _BACKGROUND, _CLIP = 1, 2, 3
_FIRST_DAY = datetime(2026, 3, 2, tzinfo=timezone(timedelta(hours=1)))


@dataclass(frozen=True)
class RenderSummary:
    """What was drawn: totals, and the names of slices and classes."""

    num_images: int
    num_boxes: int
    num_cameras: int
    slices: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Clip:
    """A clip to draw: its camera and number count from 0."""

    camera: int
    number: int
    split: str
    slice: str


@dataclass(frozen=True)
class _Job:
    root: Path
    params: RenderParams
    seed: int
    clips: tuple[Clip, ...]  # of one camera and slice: they share a background


def render_dataset(target: Path, params: RenderParams, seed: int, progress: Progress = silent) -> RenderSummary:
    """Draw the demo data into `target`, which appears whole or not at all; an older dataset there is replaced.

    Raises:
        DataError: `target` holds something that is no dataset.
    """
    _refuse_foreign(target)
    clips = plan_clips(params)
    total = len(clips) * params.frames_per_clip
    rows: list[Frame] = []
    num_boxes = 0
    with replaced_folder(target) as root:
        for split in SPLITS:
            (root / "images" / split).mkdir(parents=True)
            (root / "labels" / split).mkdir(parents=True)
        jobs = [_Job(root, params, seed, group) for group in _by_background(clips)]
        progress(0, total, "drawing")
        for frames, boxes in _run(jobs, _num_workers(total)):
            rows += frames
            num_boxes += boxes
            progress(len(rows), total, f"{num_boxes} vehicles")
        write_frames(root, sorted(rows, key=lambda frame: (frame.camera, frame.clip, frame.image)))
        write_data_yaml(root, CLASSES)
    drawn = {row.slice for row in rows}
    return RenderSummary(len(rows), num_boxes, params.cameras, tuple(s for s in SLICES if s in drawn), CLASSES)


def plan_clips(params: RenderParams) -> list[Clip]:
    """Split the clips of each camera, half to train and a quarter each to val and test, and give each its slice.

    Within a split the slices take turns over the cameras, so that each split sees all of them as soon as it has as
    many clips as there are slices.
    """
    count = params.clips_per_camera
    num_train = count - count // 2
    num_val = (count - num_train + 1) // 2
    sizes = {"train": num_train, "val": num_val, "test": count - num_train - num_val}
    clips = []
    for camera in range(params.cameras):
        number = 0
        for split, size in sizes.items():
            shift = 2 if split == "test" else 0
            for place in range(size):
                clips.append(Clip(camera, number, split, SLICES[(camera * size + place + shift) % len(SLICES)]))
                number += 1
    return clips


def _refuse_foreign(target: Path) -> None:
    if target.is_file():
        raise DataError(f"{target} is a file", "The demo data need a folder")
    if target.is_dir() and any(target.iterdir()) and not (target / DATA_YAML).is_file():
        raise DataError(f"{target} holds something that is no dataset: no {DATA_YAML}", "Move it, or render elsewhere")


def _by_background(clips: Iterable[Clip]) -> list[tuple[Clip, ...]]:
    groups: dict[tuple[int, str], list[Clip]] = {}
    for clip in clips:
        groups.setdefault((clip.camera, clip.slice), []).append(clip)
    return [tuple(group) for group in groups.values()]


def _num_workers(num_frames: int) -> int:
    """One process a core, but none beside this one when there is too little to draw to start them for."""
    return 1 if num_frames < 48 else min(os.cpu_count() or 1, 16)


def _run(jobs: list[_Job], num_workers: int) -> Iterator[tuple[list[Frame], int]]:
    if num_workers == 1:
        yield from map(_draw_job, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        futures = [pool.submit(_draw_job, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _stream(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(key))))


@lru_cache(maxsize=2)
def _site(camera: int, size_wh: tuple[int, int], seed: int) -> Site:
    return draw_site(camera, size_wh, _stream(seed, _SITE, camera))


def _draw_job(job: _Job) -> tuple[list[Frame], int]:
    camera, look = job.clips[0].camera, LOOKS[job.clips[0].slice]
    width, height = job.params.size_wh
    site = _site(camera, (width, height), job.seed)
    background = draw_background(site, look, _stream(job.seed, _BACKGROUND, camera))
    frames: list[Frame] = []
    num_boxes = 0
    for clip in job.clips:
        rng = _stream(job.seed, _CLIP, camera, clip.number)
        vehicles = draw_traffic(site.layout, FRAME_STEP_S * job.params.frames_per_clip, rng)
        start = _start(clip, rng)
        exposed = replace(background, light=expose(background.light, int(rng.integers(*EXPOSURE))))
        for number in range(job.params.frames_per_clip):
            time_s = FRAME_STEP_S * number
            picture, boxes = draw_frame(site, exposed, look, vehicles, time_s, rng)
            frame = _frame(clip, number, start + timedelta(seconds=time_s))
            picture.save(
                job.root / frame.image, "JPEG", quality=job.params.jpeg_quality, subsampling="4:2:0",
                optimize=False, progressive=False,
            )  # fmt: skip
            (job.root / frame.label).write_text(label_text(boxes, (width, height)), encoding="utf-8")
            frames.append(frame)
            num_boxes += len(boxes)
    return frames, num_boxes


def _start(clip: Clip, rng: np.random.Generator) -> datetime:
    first, last = LOOKS[clip.slice].hours
    day = _FIRST_DAY + timedelta(days=clip.number)
    return day + timedelta(hours=int(rng.integers(first, last)), seconds=int(rng.integers(3600)))


def _frame(clip: Clip, number: int, time: datetime) -> Frame:
    camera, name = f"cam{clip.camera + 1:02d}", f"clip{clip.number + 1:02d}"
    image = f"images/{clip.split}/{camera}_{name}_{number + 1:04d}.jpg"
    return Frame(image, clip.split, camera, name, time.isoformat(timespec="milliseconds"), clip.slice)


def label_text(boxes: Iterable[SceneBox], size_wh: tuple[int, int]) -> str:
    """The boxes as lines of a YOLO label file."""
    width, height = size_wh
    lines = []
    for box in boxes:
        x1, y1, x2, y2 = box.xyxy
        place = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        lines.append(f"{box.class_id} " + " ".join(f"{value:.6f}" for value in place) + "\n")
    return "".join(lines)

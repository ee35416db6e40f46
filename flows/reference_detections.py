"""What the reference model found in every frame, remembered by content, so that it is asked once about each."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bentos.detector.detector import Detector
from bentos.detector.errors import RequestError
from flows.comparison.predictions import detect_frames
from flows.dataset.review.objects import LOW_CONF, Detected
from flows.progress import Progress, silent
from flows.reference import ReferenceModel, Shape, max_detections

if TYPE_CHECKING:
    import pandas as pd

_BATCH = 8
Row = dict[str, Any]


def detect_images(
    model: ReferenceModel, root: Path, images: pd.DataFrame, home: Path, progress: Progress = silent
) -> dict[str, Detected]:
    """What the model finds in each image, of confidence `LOW_CONF` and more; images that it refuses are missing.

    Kept in `home` batch by batch, by the content of model and image: an interrupted run goes on where it was.

    Args:
        model: From `open_reference`.
        root: Folder of the dataset.
        images: Readable images of the manifest; the columns image, sha256, width and height are read.
        home: Folder of what is kept.
        progress: Told after every batch.

    Raises:
        DataError: A file cannot be read.
    """
    rows: list[Row] = images[["image", "sha256", "width", "height"]].to_dict("records")  # type: ignore[assignment]
    with _store(home / f"{model.key[:32]}.db") as store:
        found = {row["image"]: known for row in rows if (known := _recall(store, row["sha256"])) is not None}
        unknown = [row for row in rows if row["image"] not in found]
        progress(len(found), len(rows), f"{len(found)} known already")
        num_asked = len(found)
        with closing(_answers(unknown, model, root)) as answers:
            for batch, answer in answers:
                _keep(store, [(row["sha256"], answer[row["image"]]) for row in batch if row["image"] in answer])
                found |= answer
                num_asked += len(batch)
                progress(num_asked, len(rows), f"{sum(len(one.scores) for one in answer.values())} boxes")
    return found


def _answers(
    rows: Sequence[Row], model: ReferenceModel, root: Path
) -> Generator[tuple[list[Row], dict[str, Detected]], None, None]:
    """Every batch with its detections.

    Batches are spread over the cores, each on one thread: several threads on one batch wait for each other by spinning,
    which costs ten times as much where others want the cores, too.
    """
    num_workers = len(os.sched_getaffinity(0))
    pool = ThreadPoolExecutor(num_workers, initializer=_one_thread if model.scores_every_class else None)
    try:
        for shape, same in _by_shape(rows, model).items():
            detector = model.detector(shape)
            batches = [same[start : start + _BATCH] for start in range(0, len(same), _BATCH)]
            # the first one alone: it lays out the grid of this shape, which the others share
            yield batches[0], pool.submit(_ask, detector, root, _names(batches[0])).result()
            jobs = {pool.submit(_ask, detector, root, _names(batch)): batch for batch in batches[1:]}
            for job in as_completed(jobs):
                yield jobs[job], job.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _by_shape(rows: Sequence[Row], model: ReferenceModel) -> dict[Shape, list[Row]]:
    """Frames that need the same input size."""
    shapes: dict[Shape, list[Row]] = {}
    for row in rows:
        shapes.setdefault(model.input_wh((row["width"], row["height"])), []).append(row)
    return shapes


def _names(rows: Sequence[Row]) -> list[str]:
    return [row["image"] for row in rows]


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _ask(detector: Detector, root: Path, images: Sequence[str]) -> dict[str, Detected]:
    """Detections by image. Where a batch is refused, its images are asked about one by one."""
    try:
        found = detect_frames(detector, root, images, conf=LOW_CONF, max_det=max_detections(detector))
    except RequestError:
        return (
            {name: one for each in images for name, one in _ask(detector, root, [each]).items()} if images[1:] else {}
        )
    parts = [found.of(index) for index in range(len(images))]
    boxes, scores = found.boxes_xyxy.astype(np.float32), found.scores.astype(np.float32)  # what the detector gave
    return {
        image: Detected(boxes[part], scores[part], found.class_ids[part])
        for image, part in zip(images, parts, strict=True)
    }


@contextmanager
def _store(path: Path) -> Iterator[sqlite3.Connection]:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        store = _opened(path)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorname not in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            raise
        path.unlink()  # damaged: what it held can be found out again
        store = _opened(path)
    with closing(store):
        yield store


def _opened(path: Path) -> sqlite3.Connection:
    store = sqlite3.connect(path, timeout=60)
    try:
        store.execute("PRAGMA journal_mode = WAL")
        store.execute("CREATE TABLE IF NOT EXISTS detections (image TEXT PRIMARY KEY, boxes BLOB NOT NULL)")
    except sqlite3.DatabaseError:
        store.close()
        raise
    return store


def _recall(store: sqlite3.Connection, sha256: str) -> Detected | None:
    row = store.execute("SELECT boxes FROM detections WHERE image = ?", (sha256,)).fetchone()
    if row is None:
        return None
    boxes = np.frombuffer(row[0], dtype="<f4").reshape(-1, 6)
    return Detected(boxes[:, :4], boxes[:, 4], boxes[:, 5].astype(np.int64))


def _keep(store: sqlite3.Connection, answers: Sequence[tuple[str, Detected]]) -> None:
    rows = [
        (sha256, np.column_stack([one.boxes_xyxy, one.scores, one.class_ids]).astype("<f4").tobytes())
        for sha256, one in answers
    ]
    with store:
        store.executemany("INSERT OR REPLACE INTO detections VALUES (?, ?)", rows)

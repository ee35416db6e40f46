"""Train a YOLO11 model: from labelled frames to the best checkpoint and its curve."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.params_train import TrainParams
from flows.progress import Progress, silent
from flows.training.checkpoints import CheckpointInfo, find_start, inspect_checkpoint
from flows.training.distributed.seat import ALONE, Seat
from flows.training.epochs import OnEpoch
from flows.training.frames import LabelledFrames, input_size_wh, mirror_frames, read_sizes_wh, require_splits
from flows.training.loop.arguments import Precision, choose_precision, require_compiler, ultralytics_arguments
from flows.training.loop.caching import choose_cache, tell_kept
from flows.training.loop.failures import explained
from flows.training.loop.results import publish, write_results
from flows.training.loop.schedule import BatchPlan
from flows.training.loop.state import StateStore, describe_job, partial_of, silent_tell
from flows.training.reproducibility import TrainReport
from flows.training.start import notes_on_data, notes_on_start
from flows.training.tasks import TASKS, load_trainer
from flows.weights import load_ultralytics, threads

if TYPE_CHECKING:
    from flows.training.loop.keeper import Keeper, Listeners, Notes


def never() -> bool:
    """The `should_stop` that never asks to stop."""
    return False


def train_model(
    dataset: LabelledFrames,
    params: TrainParams,
    seed: int,
    out_dir: Path,
    on_epoch: OnEpoch,
    progress: Progress = silent,
    start_checkpoint: Path | None = None,
    *,
    seat: Seat = ALONE,
    micro_batch: int | None = None,
    should_stop: Callable[[], bool] = never,
    tell: Callable[[str], None] = silent_tell,
) -> TrainReport | None:
    """Train on the split `train`, choose by the task's score on `val`.

    `out_dir` gets best.pt, last.pt, epochs.csv and training.json, and is replaced only when all is done. Until then the
    work lies beside it in `<out_dir>.partial`. There the state is saved after every epoch, and in a longer one every
    `params.checkpoint_minutes`: called again with the same data, parameters, seed and starting weights, the training
    goes on from it, and `on_epoch` hears of the epochs before once more. What was begun with others is begun anew.

    On a CPU the same input gives the same weights, interrupted or not, as long as nothing else in the process draws
    from its random numbers: see `flows.training.launching.launch`.

    Args:
        on_epoch: Called after every epoch; its exception ends the training and is passed on.
        start_checkpoint: Train on from these weights instead of from `params.model`.
        seat: This process among several that train together; each makes the same call.
        micro_batch: Most frames that a process takes at once; gradients are summed until a batch is full.
        should_stop: Asked after every step, and must answer the same in all processes.
        tell: Hears what goes otherwise than planned.

    Returns:
        The report; None in all processes but the first, which writes.

    Raises:
        DataError: A split is empty, or an image cannot be read.
        ParamsError: `train.batch` is too small for the processes, or the precision is not to be had here.
        CheckpointError: The weights to start from are not those of a YOLO11 model for the task.
        MemoryShort: A step did not fit into memory; the state is that of the last time it was saved.
        Preempted: `should_stop` said so; the state is saved.
        OutsideError: The disk is too full for the results; the state is kept.
    """
    job = _Job.prepare(dataset, params, seed, start_checkpoint, seat, micro_batch)
    load_ultralytics()
    from flows.training.loop.keeper import Listeners, Notes

    notes, listeners = Notes(tell), Listeners(on_epoch, progress, should_stop)
    for note in job.surprises() if seat.is_first else []:
        notes.add(note)
    draft = partial_of(out_dir) if seat.is_first else None
    started = time.monotonic()
    with _workplace(draft) as work, threads(params.threads):
        mirror_frames(dataset, work / "mirror", params.task)
        cache = choose_cache(dataset, params, job.sizes_wh, work, seat.world_size // seat.num_nodes)
        if cache.warning:
            notes.add(cache.warning)
        keeper = _begin(job, work, cache.kind, _open_store(job, draft), listeners, notes)
        with threads(params.threads) as num_threads:  # Ultralytics has just left PyTorch one less than there are cores
            _run(keeper)
        if not draft:
            return None
        session = keeper.session
        known = {
            **job.origin(),
            "seconds": round(time.monotonic() - started, 2),
            "num_threads": num_threads,
            "cache": tell_kept(cache, session.train_loader.dataset, session.test_loader.dataset),
            "notes": tuple(notes.kept),
        }
        report = write_results(keeper, work / "results", known)
        publish(work / "results", out_dir)
    shutil.rmtree(draft)
    return report


@dataclass(frozen=True)
class _Job:
    """One call of `train_model`, checked."""

    dataset: LabelledFrames
    params: TrainParams
    seed: int
    seat: Seat
    micro_batch: int | None
    start: str | Path
    info: CheckpointInfo | None
    precision: Precision
    sizes_wh: list[tuple[int, int]]
    size_wh: tuple[int, int]

    @classmethod
    def prepare(
        cls,
        dataset: LabelledFrames,
        params: TrainParams,
        seed: int,
        start_checkpoint: Path | None,
        seat: Seat,
        micro_batch: int | None,
    ) -> _Job:
        start = start_checkpoint or find_start(params.model, params.task)
        info = inspect_checkpoint(start, params.task) if isinstance(start, Path) else None
        precision = choose_precision(params.precision)
        if params.compile:
            require_compiler()
        require_splits(dataset)
        sizes_wh = read_sizes_wh(dataset)
        square = (params.image_size, params.image_size)
        size_wh = input_size_wh(sizes_wh, params.image_size) if TASKS[params.task].has_boxes else square
        BatchPlan.of(len(dataset.split("train")), params.batch, size_wh, seat, micro_batch)
        return cls(dataset, params, seed, seat, micro_batch, start, info, precision, sizes_wh, size_wh)

    def surprises(self) -> list[str]:
        """What the caller may not expect of these parameters, data and starting weights."""
        on_data = notes_on_data(self.params, len(self.dataset.split("train")), self.sizes_wh)
        return on_data + (notes_on_start(self.info, self.dataset.classes) if self.info else [])

    def origin(self) -> dict[str, Any]:
        """The fields of the report that say what it started from."""
        if self.info is None:
            return {"started_from": str(self.start), "classes_started_from": None, "head_kept": None}
        shown = f"{Path(self.start).name} {self.info.sha256[:12]}"
        kept = self.info.classes == self.dataset.classes
        return {"started_from": shown, "classes_started_from": self.info.classes, "head_kept": kept}


@contextlib.contextmanager
def _workplace(draft: Path | None) -> Iterator[Path]:
    """A directory for what is needed while training; beside the state in the first process."""
    if draft:
        draft.mkdir(parents=True, exist_ok=True)
        for left in draft.glob("work-*"):  # by a process that was killed
            shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix="work-", dir=draft) as work:
        yield Path(work)


def _open_store(job: _Job, draft: Path | None) -> StateStore | None:
    if not draft:
        return None
    start = job.info.sha256 if job.info else str(job.start)
    return StateStore(draft, describe_job(job.dataset, job.params, job.seed, start, job.precision))


def _begin(job: _Job, work: Path, cache: str, store: StateStore | None, listeners: Listeners, notes: Notes) -> Keeper:
    """The session and its keeper, told of what an earlier one has saved."""
    from flows.training.loop.keeper import Keeper
    from flows.training.loop.session import Assignment, Session

    content = store.load(notes.add) if store else None
    if store and content is None:
        store.clear()
    params, dataset = job.params, job.dataset
    given = Assignment(
        params=params,
        precision=job.precision,
        seed=job.seed,
        seat=job.seat,
        micro_batch=job.micro_batch,
        root=dataset.root,
        mirror=work / "mirror",
        classes=dataset.classes,
        size_wh=job.size_wh,
    )
    # Mosaics are squares of four frames; without them frames of one shape need no borders.
    rect = params.mosaic == 0 and job.size_wh[0] != job.size_wh[1]
    arguments = ultralytics_arguments(params, job.precision, job.seed, work, str(job.start), rect, cache)
    trainer = type("Trainer", (Session, load_trainer(params.task)), {})
    return Keeper(trainer(given, arguments), store, content, listeners, notes)


def _run(keeper: Keeper) -> None:
    with warnings.catch_warnings(), explained():
        warnings.simplefilter("ignore")
        try:
            keeper.run()
        finally:
            for name in ("train_loader", "test_loader"):
                if hasattr(keeper.session, name):
                    getattr(keeper.session, name).close()

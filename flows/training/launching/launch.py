"""Train in processes of their own, one or several, so that nothing else draws from their random numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flows.errors import MemoryShort
from flows.params_train import DistributedParams, TrainParams
from flows.progress import Progress, silent
from flows.training.epochs import EpochMetrics, OnEpoch
from flows.training.frames import LabelledFrames
from flows.training.launching.attempt import Attempt, Died, Handlers
from flows.training.launching.messages import TrainJob
from flows.training.launching.placing import Placing, place_processes, place_training
from flows.training.loop.state import partial_of, records_in, silent_tell
from flows.training.reproducibility import TrainReport


def train_apart(
    dataset: LabelledFrames,
    params: TrainParams,
    seed: int,
    out_dir: Path,
    on_epoch: OnEpoch,
    progress: Progress = silent,
    start_checkpoint: Path | None = None,
    *,
    tell: Callable[[str], None] = silent_tell,
) -> TrainReport:
    """`train_model`, with the same arguments, result and errors, in as many processes as `params.distributed` says.

    The training waits after every epoch until `on_epoch` has returned, which is called once for each; an exception of
    `on_epoch`, `progress` or `tell`, and Ctrl-C, end all processes before they are passed on.

    What interrupts a training is met where that can be done: when memory is short, all start again from the last
    state with half as many images at once; when a process dies, all start again from there, at most
    `params.distributed.restarts` times. A process alone is started again only if the state has advanced meanwhile:
    where memory is short the kernel kills it, and would again.

    Args:
        tell: Gets a note of each of these; they are in the report, too.

    Raises:
        ParamsError: More processes than devices, or than images in a batch; several machines without a rendezvous.
        Conflict: The port of the rendezvous is in use.
        ServiceError: A process died once too often (the end of what it printed is told), or machines did not come.
    """
    placing = place_training(params)
    job = TrainJob.of(dataset, params, seed, out_dir, start_checkpoint)
    story = _Story(on_epoch, progress, tell)
    restarts = params.distributed.restarts
    while True:
        before = _state_of(out_dir)
        try:
            report = Attempt(job, placing, restarts, story).run()
            assert report
            return report.model_copy(update={"notes": (*story.notes, *report.notes)})
        except MemoryShort as short:
            job = _halved(job, placing, short)
            story.on_note(
                f"memory was short: {job.micro_batch} images at once in each process, gradients summed to batches of "
                f"{params.batch}"
            )
        except Died as death:
            if not (placing.is_alone and restarts and _state_of(out_dir) != before):
                raise
            restarts -= 1
            story.on_note(f"{death.message}; started again after epoch {story.epochs_done}")


def help_training(data: Path, distributed: DistributedParams, say: Callable[[str], None]) -> None:
    """Run the processes of this machine for a training whose first machine is another one.

    Args:
        data: The folder with the frames here.
        say: Hears when processes were started again.

    Raises:
        ParamsError: More processes than devices.
        TcaError: What ended the training on all machines; `MemoryShort` when it begins again.
        ServiceError: Nobody answers at the rendezvous, or the first machine has gone.
    """
    placing = place_processes(distributed)

    class Helper(Handlers):
        def on_restart(self, died: int | None) -> None:
            say("a process died; all started again")

    Attempt(
        None,
        placing,
        0,
        Helper(),
        data=data,
        rendezvous=distributed.rendezvous,
        timeout_s=distributed.timeout_s,
    ).run()


class _Story(Handlers):
    """Hands on to the caller what an attempt tells: each epoch once, though a new attempt repeats them."""

    def __init__(self, on_epoch: OnEpoch, progress: Progress, tell: Callable[[str], None]) -> None:
        self._on_epoch, self._progress, self._tell = on_epoch, progress, tell
        self.epochs_done = 0
        self.notes: list[str] = []

    def on_epoch(self, metrics: EpochMetrics) -> None:
        if metrics.epoch > self.epochs_done:
            self.epochs_done = metrics.epoch
            self._on_epoch(metrics)

    def on_batch(self, done: int, total: int, note: str) -> None:
        self._progress(done, total, note)

    def on_told(self, text: str) -> None:
        self._tell(text)

    def on_note(self, text: str) -> None:
        self.notes.append(text)
        self._tell(text)

    def on_restart(self, died: int | None) -> None:
        who = "a process of another machine" if died is None else f"process {died}"
        self.on_note(f"{who} died; all started again after epoch {self.epochs_done}")


def _halved(job: TrainJob, placing: Placing, short: MemoryShort) -> TrainJob:
    processes = placing.num_processes * placing.num_nodes
    present = job.micro_batch or -(-min(job.params.batch, len(job.split("train"))) // processes)
    if present == 1:
        raise short
    return job.model_copy(update={"micro_batch": present // 2})


def _state_of(out_dir: Path) -> list[str]:
    """What the training has saved of itself; empty before the first time."""
    try:
        return [f"{path.name} {path.read_text(encoding='utf-8')}" for path in records_in(partial_of(out_dir))]
    except (OSError, ValueError):
        return []

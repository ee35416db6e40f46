"""A process that trains, alone or one of several, and talks to the flow by a socket.

    python -m flows.training.launching.worker

It exists because Ultralytics draws its randomness from the one generator of the process. In the process of a flow
others draw from it, too: the keep-alive of Prefect's connection takes a number every twenty seconds.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from flows.errors import OutsideError, TcaError
from flows.training.distributed.company import agreed, join_company, leave_company
from flows.training.distributed.seat import Seat
from flows.training.epochs import EpochMetrics
from flows.training.launching.handout import hand_out
from flows.training.launching.messages import (
    GO_ON,
    BatchDone,
    EpochDone,
    Finished,
    Hello,
    Lost,
    Message,
    Told,
    TrainJob,
)
from flows.training.launching.verdict import Verdict
from flows.training.launching.wire import BACKEND, STOPPED, Line, call_parent, die_with_parent
from flows.training.loop.trainer import train_model
from flows.training.reproducibility import TrainReport


def main() -> None:
    """Train the job that the first process is given; end as soon as the parent is gone, or asks by SIGTERM."""
    die_with_parent()
    stopping = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent says what follows
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    line = call_parent()
    seat, store = join_company(os.environ.get(BACKEND, "gloo"))
    worker = _Worker(seat, line, stopping)
    worker.tell(Hello(rank=seat.rank))
    verdict = Verdict(seat, store, worker.tell)
    try:
        report = worker.train()
    except TcaError as error:
        verdict.fail(error)
    except OSError as error:
        verdict.fail(OutsideError(f"the training stopped: {error}"))
    except RuntimeError:
        if not seat.is_alone:
            worker.tell(Lost())  # most likely: the cause is told by the process that died
        raise
    else:
        leave_company()
        if seat.local_rank == 0:
            worker.tell(Finished(report=report))


class _Worker:
    """One process, its seat, and its line to the flow of this machine."""

    def __init__(self, seat: Seat, line: Line, stopping: threading.Event) -> None:
        self._seat, self._line, self._stopping = seat, line, stopping

    def train(self) -> TrainReport | None:
        """Train the job. None on every process but the first."""
        with tempfile.TemporaryDirectory(prefix="tca-rank-") as scratch:
            own = TrainJob.model_validate_json(self._line.read() or b"null") if self._seat.is_first else None
            job = hand_out(own, self._seat, Path(scratch))
            return train_model(
                job,
                job.params,
                job.seed,
                job.out_dir,
                self._on_epoch,
                self._on_batch,
                job.start_checkpoint,
                seat=self._seat,
                micro_batch=job.micro_batch,
                should_stop=lambda: agreed(self._stopping.is_set()),
                tell=self._on_note,
            )

    def tell(self, message: Message) -> None:
        """Say it to the flow; end when that is gone."""
        try:
            self._line.tell(message)
        except (BrokenPipeError, ConnectionResetError):
            sys.exit(STOPPED)

    def _on_epoch(self, metrics: EpochMetrics) -> None:
        if self._seat.is_first:
            self.tell(EpochDone(metrics=metrics))
            if self._line.read() != GO_ON:
                sys.exit(STOPPED)

    def _on_batch(self, done: int, total: int, note: str) -> None:
        if self._seat.local_rank == 0:
            self.tell(BatchDone(done=done, total=total, note=note))

    def _on_note(self, text: str) -> None:
        if self._seat.is_first:
            self.tell(Told(text=text))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()

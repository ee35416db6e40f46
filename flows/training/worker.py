"""The process that trains: `python -m flows.training.worker`, job and answers on stdin, messages on stdout.

It exists because Ultralytics draws its randomness from the one generator of the process. In the process of a flow
others draw from it, too: the keep-alive of Prefect's connection takes a number every twenty seconds.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import BinaryIO, NoReturn

from flows.errors import OutsideError, TcaError
from flows.training.epochs import EpochMetrics
from flows.training.messages import (
    GO_ON,
    BatchDone,
    EpochDone,
    Failed,
    Finished,
    Message,
    TrainJob,
    write_message,
)
from flows.training.trainer import train_detector

STOPPED = 75


def main() -> None:
    """Train the job of the first line; end as soon as the parent is gone, or says so by SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent says what follows
    signal.signal(signal.SIGTERM, _stop)
    answers, told = sys.stdin.buffer, _take_stdout()

    def tell(message: Message) -> None:
        try:
            told.write(write_message(message))
        except BrokenPipeError:
            sys.exit(STOPPED)

    def on_epoch(metrics: EpochMetrics) -> None:
        tell(EpochDone(metrics=metrics))
        if answers.readline() != GO_ON:
            sys.exit(STOPPED)

    def progress(done: int, total: int, note: str) -> None:
        tell(BatchDone(done=done, total=total, note=note))

    job = TrainJob.model_validate_json(answers.readline())
    try:
        report = train_detector(job, job.params, job.seed, job.out_dir, on_epoch, progress, job.start_checkpoint)
    except TcaError as error:
        tell(Failed.of(error))
    except OSError as error:
        tell(Failed.of(OutsideError(f"the training stopped: {error}")))
    else:
        tell(Finished(report=report))


def _take_stdout() -> BinaryIO:
    """Stdout for messages alone: whatever else is printed goes to stderr."""
    messages = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return messages


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    # An exception, so that the mirror is tidied away.
    sys.exit(STOPPED)


if __name__ == "__main__":
    main()

"""Train in a process of its own, so that nothing but the training draws from its random numbers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import flows
from flows.errors import ServiceError
from flows.params_train import TrainParams
from flows.progress import Progress, silent
from flows.training.epochs import OnEpoch
from flows.training.frames import LabelledFrames
from flows.training.messages import (
    GO_ON,
    BatchDone,
    EpochDone,
    Failed,
    Finished,
    TrainJob,
    read_message,
    write_message,
)
from flows.training.reproducibility import TrainReport

_GRACE_S = 10.0


def train_apart(
    dataset: LabelledFrames,
    params: TrainParams,
    seed: int,
    out_dir: Path,
    on_epoch: OnEpoch,
    progress: Progress = silent,
    start_checkpoint: Path | None = None,
) -> TrainReport:
    """`train_detector`, with the same arguments, result and errors, in a new Python process.

    The training waits after every epoch until `on_epoch` has returned; an exception of `on_epoch` or `progress`, and
    Ctrl-C, end the process before they are passed on.

    Raises:
        ServiceError: The process died; the end of what it printed is told.
    """
    job = TrainJob.of(dataset, params, seed, out_dir, start_checkpoint)
    with tempfile.TemporaryFile() as printed, _worker(printed) as process:
        assert process.stdin and process.stdout
        _send(process.stdin, write_message(job))
        for line in process.stdout:
            match read_message(line):
                case BatchDone(done=done, total=total, note=note):
                    progress(done, total, note)
                case EpochDone(metrics=metrics):
                    on_epoch(metrics)
                    _send(process.stdin, GO_ON)
                case Failed() as failed:
                    raise failed.to_error()
                case Finished(report=report):
                    process.wait()
                    return report
        raise _death(process.wait(), printed)


def _send(pipe: IO[bytes], line: bytes) -> None:
    # A process that is gone is noticed where its messages end.
    with contextlib.suppress(BrokenPipeError):
        pipe.write(line)
        pipe.flush()


@contextlib.contextmanager
def _worker(printed: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The process, of the code that is running here; it is gone when the block is left."""
    code = str(Path(flows.__file__).parents[1])
    paths = [code, *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "0"}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "flows.training.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=printed,
        env=env,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with contextlib.suppress(BrokenPipeError), process:
            pass


def _death(code: int, printed: IO[bytes]) -> ServiceError:
    """What to say of a process that ended without a last message."""
    if code == -signal.SIGKILL:
        return ServiceError(
            "the training process was killed", "Was memory short? Try a smaller train.batch, or train.cache: disk"
        )
    printed.seek(0)
    lines = printed.read().decode(errors="replace").strip().splitlines()[-12:]
    ended = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    told = "\n".join(["The end of what it printed:", *lines]) if lines else None
    return ServiceError(f"the training process ended {ended}", told)

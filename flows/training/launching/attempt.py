"""One run of the training processes of this machine, from their start to their end, which it always brings about."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import flows
from flows.errors import Preempted, ServiceError
from flows.training.epochs import EpochMetrics
from flows.training.launching.agent_order import ORDER, Machine, Order
from flows.training.launching.handout import DATA
from flows.training.launching.messages import (
    GO_ON,
    BatchDone,
    EpochDone,
    Failed,
    Finished,
    Hello,
    Lost,
    Told,
    TrainJob,
    write_message,
)
from flows.training.launching.placing import Placing
from flows.training.launching.wire import BACKEND, PARENT, SOCKET, Ear, Heard, Line, private_folder
from flows.training.reproducibility import TrainReport

_GRACE_S = 2.0
_SAVING_S = 60.0  # for the batch in hand and the state, when the machine must stop
_PARTING_S = 30.0  # for agents to part in order after the training
_SILENCE_S = 1.0  # after which nothing more is in the socket of a process that has ended


class Died(ServiceError):
    """A training process ended without a last message."""


class Handlers:
    """What is done with what the processes tell."""

    def on_epoch(self, metrics: EpochMetrics) -> None:
        """An epoch is done; the training waits."""

    def on_batch(self, done: int, total: int, note: str) -> None:
        """A batch is done."""

    def on_told(self, text: str) -> None:
        """A note of the training."""

    def on_restart(self, died: int | None) -> None:
        """All processes start again, since this one died; None: one of another machine."""


class Attempt:
    """A job and how it is run. Without a job this machine helps another one, where the job is."""

    def __init__(
        self,
        job: TrainJob | None,
        placing: Placing,
        restarts: int,
        handlers: Handlers,
        *,
        data: Path | None = None,
        rendezvous: str = "",
        timeout_s: float = 0.0,
    ) -> None:
        self._job, self._placing, self._restarts, self._handlers = job, placing, restarts, handlers
        self._data = job.root if job else data
        distributed = job.params.distributed if job else None
        self._rendezvous = distributed.rendezvous if distributed else rendezvous
        self._timeout_s = distributed.timeout_s if distributed else timeout_s
        self._ranks: dict[Line, int] = {}
        self._parted: set[Line] = set()
        self._dead: list[int] = []
        self._has_failed = False

    def run(self) -> TrainReport | None:
        """Run it to its end. Returns the report on the first machine.

        Raises:
            TcaError: What the training raised.
            Died: A process died, and all its restarts.
        """
        with (
            private_folder() as folder,
            tempfile.TemporaryFile() as printed,
            contextlib.closing(Ear(folder / "s")) as ear,
            self._process(folder, printed) as process,
        ):
            try:
                return self._listen(ear, process, printed)
            except Preempted:
                self._let_save(ear, process)
                raise
            finally:
                ear.close()  # a process that waits for an answer ends in order

    def _listen(self, ear: Ear, process: subprocess.Popen[bytes], printed: IO[bytes]) -> TrainReport | None:
        while True:
            try:
                finished = self._take(ear.heard.get(timeout=0.2))
            except queue.Empty:
                if process.poll() is None:
                    continue
                finished = self._rest(ear, process, printed)
            if finished:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_PARTING_S)
                return finished.report

    def _let_save(self, ear: Ear, process: subprocess.Popen[bytes]) -> None:
        """The machine must stop: ask the processes to, and give them time for the batch in hand and the state."""
        process.terminate()
        deadline = time.monotonic() + _SAVING_S
        while not self._has_failed and process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty, OSError):
                line, message = ear.heard.get(timeout=0.2)
                self._has_failed |= isinstance(message, Failed)
                if isinstance(message, EpochDone):
                    line.send(GO_ON)

    def _rest(self, ear: Ear, process: subprocess.Popen[bytes], printed: IO[bytes]) -> Finished | None:
        try:
            return self._take(ear.heard.get(timeout=_SILENCE_S))
        except queue.Empty:
            raise _death(process.returncode, printed) from None

    def _take(self, heard: Heard) -> Finished | None:
        line, message = heard
        match message:
            case Hello(rank=rank):
                self._welcome(line, rank)
            case BatchDone(done=done, total=total, note=note):
                self._handlers.on_batch(done, total, note)
            case EpochDone(metrics=metrics):
                self._handlers.on_epoch(metrics)
                with contextlib.suppress(OSError):
                    line.send(GO_ON)
            case Told(text=text):
                self._handlers.on_told(text)
            case Lost():
                self._parted.add(line)
            case Failed() as failed:
                self._has_failed = True
                raise failed.to_error()
            case Finished() as finished:
                return finished
            case None:
                if line in self._ranks and line not in self._parted:
                    self._dead.append(self._ranks[line])
        return None

    def _welcome(self, line: Line, rank: int) -> None:
        if rank in self._ranks.values():  # the first of a new start to say so
            self._handlers.on_restart(self._dead[0] if self._dead else None)
            self._ranks.clear()
            self._parted.clear()
            self._dead.clear()
        self._ranks[line] = rank
        if self._job and rank == 0:
            with contextlib.suppress(OSError):
                line.send(write_message(self._job))

    @contextlib.contextmanager
    def _process(self, folder: Path, printed: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
        """The worker or the agent, of the code that is running here; it is gone when the block is left."""
        alone = self._placing.is_alone
        module = "flows.training.launching.worker" if alone else "flows.training.launching.agent"
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            env=self._environment(folder),
            start_new_session=True,  # Ctrl-C is for the flow, which ends the rest
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

    def _environment(self, folder: Path) -> dict[str, str]:
        code = str(Path(flows.__file__).parents[1])
        paths = [code, *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "0"}
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):  # of whatever started this flow
            env.pop(name, None)
        env |= {SOCKET: str(folder / "s"), PARENT: str(os.getpid()), BACKEND: self._placing.backend}
        assert self._data
        if not self._job:
            env[DATA] = str(self._data)
        if not self._placing.is_alone:
            env[ORDER] = self._order(folder, self._data).model_dump_json()
        return env

    def _order(self, folder: Path, data: Path) -> Order:
        placing = self._placing
        return Order(
            is_first=self._job is not None,
            num_nodes=placing.num_nodes,
            num_processes=placing.num_processes,
            gpus=placing.gpus,
            rendezvous=self._rendezvous,
            restarts=self._restarts,
            timeout_s=self._timeout_s,
            log_dir=folder / "logs",
            machine=Machine.here(data, placing.num_nodes, placing.backend) if placing.num_nodes > 1 else None,
        )


def _death(code: int, printed: IO[bytes]) -> Died:
    """What to say of a process that ended without a last message."""
    if code == -signal.SIGKILL:
        return Died(
            "the training process was killed", "Was memory short? Try a smaller train.batch, or train.cache: disk"
        )
    printed.seek(0)
    lines = printed.read().decode(errors="replace").strip().splitlines()[-12:]
    ended = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    told = "\n".join(["The end of what it printed:", *lines]) if lines else None
    return Died(f"the training process ended {ended}", told)

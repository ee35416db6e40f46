"""MLflow runs that outlive what happens to the process and to MLflow: written to disk, sent in the background.

Each has a journal under `<home>/runs` until MLflow has all of it. A job that was interrupted goes on in its run; one
that was given up is ended there as KILLED.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from flows.adapters.kept_run import KeptRun, Say, end_untold, ended, now_ms
from flows.adapters.run_delivery import Delivery, ensure_experiment, first_line
from flows.adapters.run_entries import Begun
from flows.adapters.run_sender import Sender, require_answer, shown_uri
from flows.adapters.run_spool import Spool, find_journals, peek
from flows.errors import Conflict

if TYPE_CHECKING:
    from mlflow import MlflowClient

_HELD_S = 10.0


@dataclass(frozen=True)
class KeptJournal:
    """A journal that still has something to send, or whose run may go on."""

    stage: str
    job: str
    status: str
    num_unsent: int
    run_id: str | None
    folder: Path


class Runs:
    """The runs of one experiment whose journals lie under `home`. Nothing here waits for MLflow or fails with it."""

    def __init__(self, uri: str, experiment: str, home: Path) -> None:
        self._uri, self._experiment, self._home = uri, experiment, home
        self.folder = home / "runs"

    @contextmanager
    def run(
        self,
        stage: str,
        tags: Mapping[str, str],
        *,
        job: str,
        parent: str | None = None,
        anew: bool = False,
        name: str = "",
        say: Say = lambda text: None,
    ) -> Iterator[KeptRun]:
        """The run of `job`: the one in which it was interrupted or failed, or a new one.

        When the body raises, the run ends as FAILED, or as KILLED when it was interrupted, until the same job goes on.

        Args:
            job: What is done, in a word that no other job has. The same word goes on in the same run.
            parent: Id of the run that this one is nested in.
            anew: End an interrupted run of this job as KILLED and begin another.
            say: Told what a person should know: that MLflow does not answer, or the disk is full.

        Raises:
            Conflict: A living process is at the same job.
        """

        def begin() -> tuple[Spool, Sender]:
            return self._sent(self._begin(stage, tags, job, name or stage, parent, say), say)

        spool = self._take_up(stage, job, anew, say)
        run = KeptRun(*self._sent(spool, say), begin, say) if spool else KeptRun(*begin(), begin, say)
        if spool is not None:
            run.reopen(tags)
        try:
            yield run
        except BaseException as error:
            run.interrupt(error)
            raise
        run.finish()

    def give_up(self, stage: str, reason: str, keep: Collection[str] = ()) -> list[str]:
        """End the interrupted runs of a stage as KILLED, but for the jobs in `keep`; which jobs they were.

        MLflow gets to know it when something is sent next.
        """
        jobs = []
        for spool in self._free(lambda begun: begun.stage == stage and begun.job not in keep):
            with contextlib.closing(spool):
                if not spool.status.is_last:
                    spool.append(ended(reason))
                    jobs.append(spool.begun.job)
        return jobs

    def interrupted(self, stage: str, job: str) -> Mapping[str, str] | None:
        """The tags with which an interrupted run of this job began; None when there is none."""
        for spool in self._free(lambda begun: (begun.stage, begun.job) == (stage, job)):
            with contextlib.closing(spool):
                if not spool.status.is_last:
                    return spool.begun.tags
        return None

    def kept(self) -> list[KeptJournal]:
        """The journals that no living process holds, as they are now."""
        found = []
        for spool in self._free():
            with contextlib.closing(spool):
                begun = spool.begun
                unsent = len(spool.unsent())
                assert spool.folder is not None
                status = spool.status.status
                found.append(KeptJournal(begun.stage, begun.job, status, unsent, spool.run_id, spool.folder))
        return found

    def send(self, say: Say = lambda text: None) -> int:
        """Send what the journals hold that no living process holds; how many still have something to send.

        A run whose process died without a word is KILLED until its job goes on.
        """
        num_left, silence = 0, ""
        for spool in self._free():
            end_untold(spool)
            if not silence:
                silence = self._try(spool, say)
            if spool.status.is_last and not spool.unsent():
                spool.remove()
            num_left += bool(spool.unsent())
            spool.close()
        if silence:
            say(f"MLflow at {shown_uri(self._uri)} does not answer ({silence})")
        return num_left

    def _try(self, spool: Spool, say: Say) -> str:
        """Send one journal; why MLflow does not answer, if so."""
        try:
            require_answer(self._uri)
            delivery = self._deliver(spool, say)
        except Exception as error:
            return first_line(error)
        try:
            delivery.send()
        except Exception as error:  # of this one, which stays for the next time; others may go through
            say(f"a run of {spool.begun.stage} could not be sent ({first_line(error)})")
        return ""

    @cached_property
    def _client(self) -> MlflowClient:
        self._home.mkdir(parents=True, exist_ok=True)
        from mlflow import MlflowClient

        return MlflowClient(self._uri, self._uri)

    def _sent(self, spool: Spool, say: Say) -> tuple[Spool, Sender]:
        sender = Sender(spool, self._deliver, self._uri, say, self.send)
        sender.start()
        return spool, sender

    def _deliver(self, spool: Spool, on_refusal: Say) -> Delivery:
        client = self._client
        return Delivery(spool, client, ensure_experiment(client, self._experiment, self._uri, self._home), on_refusal)

    def _free(self, wanted: Callable[[Begun], bool] = lambda begun: True) -> Iterator[Spool]:
        """The journals that no living process holds, each held until it is closed."""
        for folder in find_journals(self.folder):
            begun = peek(folder)
            with contextlib.suppress(OSError):
                if (begun is None or wanted(begun)) and (spool := Spool.open(folder)) is not None:
                    yield spool

    def _take_up(self, stage: str, job: str, anew: bool, say: Say) -> Spool | None:
        for folder in find_journals(self.folder):
            begun = peek(folder)
            if begun is None or (begun.stage, begun.job) != (stage, job):
                continue
            spool = _open_patiently(folder, stage, say)
            if spool is None or spool.status.is_last:
                pass
            elif anew:
                spool.append(ended("begun anew"))
            else:
                return spool
            if spool is not None:
                spool.close()
        return None

    def _begin(self, stage: str, tags: Mapping[str, str], job: str, name: str, parent: str | None, say: Say) -> Spool:
        token = uuid.uuid4().hex
        begun = Begun(
            stage=stage,
            job=job,
            token=token,
            name=name,
            tags=dict(tags),
            started_ms=now_ms(),
            parent_run=parent,
        )
        full = "the disk is full for the figures of this run ({}); until it has room they are kept in memory"
        return Spool.create(self.folder / token, begun, lambda reason: say(full.format(reason)))


def _open_patiently(folder: Path, stage: str, say: Say) -> Spool | None:
    """The journal; a process that is just sending it is waited for."""
    deadline = time.monotonic() + _HELD_S
    while (spool := Spool.open(folder)) is None and peek(folder) is not None:
        if time.monotonic() > deadline:
            raise Conflict(f"another process is at the same {stage}", "Wait for it, or end it; then again")
        time.sleep(0.05)
    return spool

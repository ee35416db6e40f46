"""What a stage writes into a run that is kept on disk until MLflow has it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from flows.adapters.run_entries import Content, DataUsed, Figures, FileKept, ParamsSet, RunStatus, TagsSet
from flows.adapters.run_sender import Sender
from flows.adapters.run_spool import Spool
from flows.errors import Preempted

INTERRUPTIONS, INTERRUPTED_AT, INTERRUPTED_BY = "tca.interruptions", "tca.interrupted_at", "tca.interrupted_by"
GIVEN_UP = "tca.given_up"
"""Tag of a run whose job will not go on: why."""
CHANGED = "tca.since_interruption."
"""Prefix of tags: a parameter or tag that was another before the run was interrupted."""
_LAST_TRY_S, _INTERRUPTED_TRY_S = 10.0, 1.0

Say = Callable[[str], None]


class KeptRun:
    """What a stage writes into a run of `Runs`. Each call returns when it is on disk."""

    def __init__(self, spool: Spool, sender: Sender, begin: Callable[[], tuple[Spool, Sender]], say: Say) -> None:
        self._spool, self._sender, self._begin, self._say = spool, sender, begin, say
        self._steps = dict(spool.figures)
        self._described: list[ParamsSet | TagsSet | DataUsed] = []
        self.interrupted_at: str | None = None

    @property
    def run_id(self) -> str | None:
        """MLflow's id of it; None until MLflow has answered."""
        return self._spool.run_id

    @property
    def figures(self) -> Mapping[int, Mapping[str, float]]:
        """The figures that the run has, by step; also those of before an interruption."""
        return self._steps

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers at `step`. A step that the run has already stays as it is."""
        if step in self._steps:
            return
        self._steps[step] = {key: float(value) for key, value in values.items()}
        self._append(Figures(step=step, at_ms=now_ms(), values=self._steps[step]))

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters as text. MLflow keeps the first value of each: what is another now becomes a tag."""
        texts = {key: str(value) for key, value in values.items()}
        before = self._spool.params
        self._described.append(ParamsSet(values=texts))
        self._append(ParamsSet(values={key: text for key, text in texts.items() if key not in before}))
        self._tag_changes(texts, before)

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags."""
        self._describe(TagsSet(values={key: str(value) for key, value in values.items()}))

    def data(self, name: str, md5: str | None, num_images: int) -> None:
        """Record the data version as the run's input."""
        self._describe(DataUsed(name=name, md5=md5, num_images=num_images))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file with the run, as it is now. Raises FileNotFoundError."""
        self._append(FileKept(path=str(self._spool.keep_file(path)), folder=folder))

    def text(self, name: str, content: str, folder: str | None = None) -> None:
        """Keep a text with the run, as a file of this name. It is left out where the disk is full."""
        if (kept := self._spool.keep_text(name, content)) is not None:
            self._append(FileKept(path=str(kept), folder=folder))

    def begin_anew(self, reason: str) -> None:
        """End this run as KILLED and go on in another of the same job, with the same parameters and tags."""
        self._spool.append(ended(reason))
        self._sender.finish(0)
        self._spool, self._sender = self._begin()
        self._steps, self.interrupted_at = {}, None
        for entry in self._described:
            self._append(entry)

    def reopen(self, tags: Mapping[str, str]) -> None:
        """The job goes on in this run."""
        end_untold(self._spool)
        self.interrupted_at = self._spool.status.tags.get(INTERRUPTED_AT)
        counted = {INTERRUPTIONS: str(self._spool.num_reopened + 1)}
        self._append(RunStatus(status="RUNNING", at_ms=now_ms(), tags=counted))
        self._tag_changes(dict(tags), self._spool.begun.tags)

    def interrupt(self, error: BaseException) -> None:
        """The body has raised: the run is not going on now, but may later."""
        was_stopped = not isinstance(error, Exception) or isinstance(error, Preempted)
        reason = "interrupted" if was_stopped else f"{type(error).__name__}: {error}"
        self._append(interrupted(reason, "KILLED" if was_stopped else "FAILED"))
        self._sender.finish(_INTERRUPTED_TRY_S if was_stopped else _LAST_TRY_S)

    def finish(self) -> None:
        """The body is done, and so is the run."""
        self._append(RunStatus(status="FINISHED", at_ms=now_ms(), is_last=True))
        if not self._sender.finish(_LAST_TRY_S):
            kept = self._spool.place
            if kept == "memory":
                self._say("MLflow has not got all of this run, and there was no room on the disk to keep the rest")
            else:
                self._say(f"MLflow has not got all of this run yet; the rest is kept in {kept}: tca runs send")

    def _append(self, entry: Content) -> None:
        self._spool.append(entry)
        self._sender.wake()

    def _describe(self, entry: TagsSet | DataUsed) -> None:
        self._described.append(entry)
        self._append(entry)

    def _tag_changes(self, after: Mapping[str, str], before: Mapping[str, str]) -> None:
        changed = {f"{CHANGED}{key}": text for key, text in after.items() if before.get(key, text) != text}
        if changed:
            self._append(TagsSet(values=changed))


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)


def interrupted(reason: str, status: Literal["KILLED", "FAILED"] = "KILLED", at_ms: int = 0) -> RunStatus:
    """The state of a run that does not go on, now or since then."""
    at_ms = at_ms or now_ms()
    at = datetime.fromtimestamp(at_ms // 1000, UTC).isoformat()
    return RunStatus(status=status, at_ms=at_ms, tags={INTERRUPTED_AT: at, INTERRUPTED_BY: reason})


def end_untold(spool: Spool) -> None:
    """Say of a run whose process died without a word that it was killed, at its last sign of life."""
    if spool.status.status == "RUNNING":
        spool.append(interrupted("its process was killed", at_ms=spool.last_sign_ms))


def ended(reason: str) -> RunStatus:
    """The last state of a run whose job will not go on."""
    return RunStatus(status="KILLED", at_ms=now_ms(), tags={GIVEN_UP: reason}, is_last=True)

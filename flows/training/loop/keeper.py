"""Follows a session: keeps its state on disk, tells its epochs, and stops it when asked.

Imports Ultralytics: import this module inside the function that trains.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from flows.errors import Preempted
from flows.progress import Progress
from flows.training.distributed.company import broadcast_bytes
from flows.training.distributed.seat import Seat
from flows.training.epochs import EpochMetrics, OnEpoch, name_score
from flows.training.loop.failures import is_disk_full
from flows.training.loop.session import AllDone, Session
from flows.training.loop.snapshot import copy_weights, restore_snapshot, take_snapshot
from flows.training.loop.state import StateStore
from flows.training.tasks import read_metrics


@dataclass
class Notes:
    """What went otherwise than planned: told as it happens, and kept for the report."""

    tell: Callable[[str], None]
    kept: list[str] = field(default_factory=list)

    def add(self, note: str) -> None:
        """Tell and keep a note, once."""
        if note not in self.kept:
            self.kept.append(note)
            self.tell(note)


@dataclass(frozen=True)
class Listeners:
    """Who hears of the training."""

    on_epoch: OnEpoch
    progress: Progress
    should_stop: Callable[[], bool]


class Keeper:
    """The curve, the best weights and the state of one session.

    `store` is None in all processes but the first, which neither write nor tell.
    """

    def __init__(
        self,
        session: Session,
        store: StateStore | None,
        content: dict[str, Any] | None,
        listeners: Listeners,
        notes: Notes,
    ) -> None:
        self.session, self._store, self._content = session, store, content
        self._listeners, self._notes = listeners, notes
        self.curve: list[EpochMetrics] = []
        self.best_epoch = 0
        self.best_weights: dict[str, torch.Tensor] = {}
        self.resumed_at: tuple[int, ...] = ()
        self._saved_at = time.monotonic()
        self._unsaved = False
        session.restored, session.after_step, session.after_epoch = self._restore, self._step_done, self._epoch_done

    def run(self) -> None:
        """Train to the end, from where the state says; the listeners hear of the epochs before first."""
        content = self._content
        if content:
            self._notes.kept[:] = dict.fromkeys([*content["notes"], *self._notes.kept])
            self.curve = [EpochMetrics.model_validate(values) for values in content["curve"]]
            self.best_epoch, self.best_weights = content["best_epoch"], content["best_weights"]
            self.resumed_at = (*content["resumed_at"], content["epoch"])
        for metrics in self.curve:
            self._listeners.on_epoch(metrics)
        self.session.train()

    def _restore(self) -> None:
        content, self._content = _share(self._content, self.session.seat), None
        if content is None:
            return
        restore_snapshot(self.session, content)
        if content["finished"]:
            raise AllDone

    def _step_done(self) -> None:
        session = self.session
        done, total = session.epoch * session.plan.steps + session.step, session.epochs * session.plan.steps
        self._listeners.progress(done, total, self._describe(session.epoch))
        if self._listeners.should_stop():
            self._save(session.epoch, session.step)
            raise self._preempted(session.epoch)
        minutes = (time.monotonic() - self._saved_at) / 60
        if minutes >= session.given.params.checkpoint_minutes and session.step < session.plan.steps:
            self._save(session.epoch, session.step)

    def _epoch_done(self) -> None:
        session = self.session
        if self._store:
            metrics = self._measure()
            self.curve.append(metrics)
            if not self.best_epoch or (not session.diverged and metrics.score >= self.curve[self.best_epoch - 1].score):
                self.best_epoch, self.best_weights = metrics.epoch, copy_weights(session)
        session.begin_next_epoch()
        self._save(session.epoch + 1, 0)
        if self._store:
            self._listeners.on_epoch(self.curve[-1])
        if not session.stop and self._listeners.should_stop():
            raise self._preempted(session.epoch + 1)

    def _describe(self, epoch: int) -> str:
        shown = f"epoch {epoch + 1}/{self.session.epochs}"
        name = name_score(self.session.given.params.task)
        return f"{shown}  {name} {self.curve[-1].score:.3f}" if self.curve else shown

    def _measure(self) -> EpochMetrics:
        session = self.session
        losses = {f"train_{name}": round(float(value), 5) for name, value in session.tloss.items()}
        losses |= {
            name.replace("/", "_"): float(value) for name, value in session.metrics.items() if name.startswith("val/")
        }
        clock = session.clock
        return EpochMetrics(
            epoch=session.epoch + 1,
            epochs=session.epochs,
            losses=losses,
            **asdict(read_metrics(session.given.params.task, session.metrics)),
            learning_rate=float(session.lr["lr/pg0"]),
            seconds=round(clock.seconds, 3),
            images_per_s=round(session.plan.num_frames / clock.train_seconds, 2),
            wait_share=round(min(session.train_loader.wait_seconds / clock.train_seconds, 1.0), 4),
            **session.gauges.read(),
        )

    def _save(self, epoch: int, step: int) -> None:
        if not self._store:
            return
        content = take_snapshot(self.session, epoch, step)
        content |= {
            "curve": [metrics.model_dump() for metrics in self.curve],
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
            "resumed_at": list(self.resumed_at),
            "notes": list(self._notes.kept),
        }
        self._saved_at = time.monotonic()
        try:
            self._store.save(content, epoch, step)
        except OSError as error:
            what = "the disk is full" if is_disk_full(error) else str(error.strerror or error)
            if not self._unsaved:
                self._notes.add(f"the state after epoch {epoch} could not be saved ({what}); the training went on")
            self._unsaved = True
        else:
            self._unsaved = False

    def _preempted(self, epoch: int) -> Preempted:
        remedy = "What it had done is saved: the same command goes on from there"
        if self._unsaved:
            remedy = "Its state could not be saved; the same command goes on from the last time it could"
        return Preempted(f"the training was asked to stop in epoch {epoch + 1} of {self.session.epochs}", remedy)


def _share(content: dict[str, Any] | None, seat: Seat) -> dict[str, Any] | None:
    """The first process's content, in every process."""
    if seat.is_alone:
        return content
    packed = io.BytesIO()
    if seat.is_first:
        torch.save(content, packed)
    unpacked = io.BytesIO(broadcast_bytes(packed.getvalue() if seat.is_first else None))
    shared: dict[str, Any] | None = torch.load(unpacked, map_location="cpu", weights_only=True)
    return shared

"""A search over training parameters: each trial a training, hopeless ones stopped early, a broken-off study goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flows.errors import Conflict, OutsideError
from flows.progress import Progress, silent
from flows.training.search.report import LABELS, TrialRow, TuneReport
from flows.training.search.study import Claim, SharedStudy

__all__ = ["TrialFailed", "TrialJob", "TrialRow", "TuneReport", "search"]

_WAIT_S = 1.0


class TrialFailed(Exception):
    """A trial failed by itself; others may do well. `again`: whether another attempt may end otherwise."""

    def __init__(self, reason: str, *, again: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.again = reason, again


@dataclass(frozen=True)
class TrialJob:
    """One trial as the trainer sees it.

    Attributes:
        number: Of this attempt, from 0.
        origin: Of the first attempt at the same values: what it left may be gone on from.
        values: Key of train to its value.
        report: To be called after every epoch with its number, from 1, and the first objective; it raises when the
            trial is to stop. Epochs that it knows already are passed over.
        progress: A `Progress` within the trial.
    """

    number: int
    origin: int
    values: dict[str, Any]
    report: Callable[[int, float], None]
    progress: Progress


TrainOnce = Callable[[TrialJob], Mapping[str, float]]
"""Runs a trial and returns its objectives. Raises TrialFailed; any other exception ends the search."""


def search(
    train: TrainOnce,
    study: SharedStudy,
    progress: Progress = silent,
    on_trial: Callable[[TuneReport], None] = lambda report: None,
) -> TuneReport:
    """Run trials until the study has all that it is to have, and report on it.

    Any number of workers may do so at the same time. One that finds nothing left to do waits for the others, since it
    takes their trials over if they die. An exception of `train` that is not a failure of the trial alone puts the
    trial back and is passed on, as Ctrl-C is.

    Args:
        on_trial: Called after each trial with the report so far.

    Raises:
        OutsideError: The first two trials failed for good and none went well: something is wrong with all of them.
        Conflict: Another worker took the trial over, since this one had lost its place in the store.
    """
    with study.store.living(study.worker):
        while True:
            with study.deciding():
                num_others = study.find_orphans()
                claim = study.claim()
            if claim is not None:
                _run(train, study, claim, progress)
                on_trial(study.report())
            elif num_others:
                _Meter(study, progress).show(0.0, f"waiting for {num_others} of other workers")
                time.sleep(_WAIT_S)
            else:
                break
    _Meter(study, progress).show(0.0, "")
    return study.report()


def _run(train: TrainOnce, study: SharedStudy, claim: Claim, progress: Progress) -> None:
    import optuna
    from optuna.trial import TrialState

    job = _job(study, claim, progress)
    tell = study.optuna_study.tell
    try:
        found = train(job)
        with _ending(study, claim):
            tell(claim.number, [float(found[name]) for name in study.params.objectives])
    except optuna.TrialPruned:
        with _ending(study, claim):
            tell(claim.number, state=TrialState.PRUNED)
    except TrialFailed as failure:
        with _ending(study, claim):
            claim.trial.set_user_attr("reason", failure.reason)
            again = failure.again and study.put_back(claim.number, counted=True)
            if not failure.again:
                tell(claim.number, state=TrialState.FAIL)
        if not again:
            _require_hope(study, failure.reason)
    except optuna.exceptions.UpdateFinishedTrialError:
        raise _taken_over(study, claim) from None
    except BaseException as error:
        with study.deciding():
            if not study.is_taken(claim):  # else there is nothing to put back, and what broke it off is what counts
                claim.trial.set_user_attr("reason", f"broken off: {type(error).__name__}")
                study.put_back(claim.number, counted=False)
        raise


@contextmanager
def _ending(study: SharedStudy, claim: Claim) -> Iterator[None]:
    """The moment in which this worker alone tells how its trial ended. Raises Conflict where another one did."""
    with study.deciding():
        if study.is_taken(claim):
            raise _taken_over(study, claim) from None
        yield


def _taken_over(study: SharedStudy, claim: Claim) -> Conflict:
    return Conflict(
        f"trial {claim.number} was taken over: this worker lost its place in {study.store.name}", "Start it again"
    )


def _job(study: SharedStudy, claim: Claim, progress: Progress) -> TrialJob:
    import optuna

    params, trial, meter = study.params, claim.trial, _Meter(study, progress)
    label = f"trial {claim.number}"
    reached: dict[int, float] = {}
    is_single = len(params.objectives) == 1

    def within(done: int, total: int, note: str) -> None:
        meter.show(done / total if total else 0.0, f"{label} {note}")

    def report(epoch: int, value: float) -> None:
        if epoch in reached:
            return
        reached[epoch] = value
        if is_single:
            trial.report(value, epoch)
        else:  # Optuna keeps curves of one objective only
            trial.set_user_attr("curve", list(reached.items()))
        meter.look()
        meter.show(epoch / params.epochs, f"{label} epoch {epoch}/{params.epochs}  {meter.label} {value:.3f}")
        if is_single and params.prune_from <= epoch < params.epochs and trial.should_prune():
            raise optuna.TrialPruned

    return TrialJob(claim.number, claim.origin, claim.values, report, within)


class _Meter:
    """Progress of this worker: the trials that are done by anyone, and its share of the one that it runs."""

    def __init__(self, study: SharedStudy, progress: Progress) -> None:
        self._study, self._progress = study, progress
        self.label = LABELS[study.params.objectives[0]]
        self.look()

    def look(self) -> None:
        """Ask the store how far the study is: not at every batch."""
        self._num_settled, self._best = self._study.standing()

    def show(self, share: float, note: str) -> None:
        """Counted in epochs, a trial that was stopped early as a whole one."""
        params = self._study.params
        done = min(self._num_settled + share, params.trials) * params.epochs
        best = "" if self._best is None else f"  best {self._best:.3f}"
        self._progress(int(done + 1e-6), params.trials * params.epochs, f"{note}{best}")


def _require_hope(study: SharedStudy, reason: str) -> None:
    report = study.report()
    if report.num_failed >= 2 and report.num_failed == report.num_trials:
        raise OutsideError(f"every trial failed so far, the last one thus: {reason}", "See: tca tune show")

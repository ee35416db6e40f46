"""A search over training parameters: each trial a training, hopeless ones stopped early, a broken-off study goes on."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from flows.params_tune import TuneParams
from flows.progress import Progress, silent
from flows.training.space import check_space, suggest

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

EpochReport = Callable[[int, float], None]
"""`(epoch, map50_95)`, epochs counted from 1; raises when the trial is to stop."""

TrainOnce = Callable[[int, dict[str, Any], EpochReport], float]
"""`(trial number, values of train's keys, report)` to the trial's mAP50-95."""


_BROKEN_OFF = "broken_off"


class TrialRow(BaseModel):
    """One trial of the study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(description="counted from 0")
    state: str = Field(description="complete, pruned, fail, running or waiting")
    value: float | None = Field(description="mAP50-95; of a pruned trial the last one reported")
    epochs: int = Field(description="epochs that it ran")
    seconds: float | None = Field(description="wall time")
    params: dict[str, Any] = Field(description="key of train to the value tried")


class TuneReport(BaseModel):
    """The study so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: bool = Field(description="whether a trial was completed")
    sentence: str = Field(description="what was found, in one sentence")
    best_params: dict[str, Any] = Field(description="key of train to its best value; empty while no trial is complete")
    best_value: float | None = Field(description="mAP50-95 of the best complete trial")
    best_number: int | None = Field(description="number of that trial")
    num_complete: int = Field(description="trials that ran to their end")
    num_pruned: int = Field(description="trials that were stopped early")
    trials: tuple[TrialRow, ...] = Field(description="all trials, in the order they started")


def search(
    train: TrainOnce, params: TuneParams, seed: int, storage_path: Path, progress: Progress = silent
) -> TuneReport:
    """Run what is missing of `params.trials` trials, and report on the whole study.

    The study lives in the journal file `storage_path` and is found again as long as space, epochs, sampler, pruner and
    seed stay the same. One process at a time: a trial that was interrupted, or is still marked as running, was broken
    off; its values are tried again first.

    Raises:
        ParamsError: The space names a value that training refuses.
    """
    check_space(params.space)
    study = _open_study(params, seed, storage_path)
    _retry_broken(study)
    total = params.trials

    def objective(trial: Trial) -> float:
        import optuna

        values = {key: suggest(trial, key, choice) for key, choice in params.space.items()}

        def report(epoch: int, value: float) -> None:
            progress(
                _num_finished(study), total, f"trial {trial.number} epoch {epoch}/{params.epochs}  mAP50-95 {value:.3f}"
            )
            trial.report(value, epoch)
            if epoch < params.epochs and trial.should_prune():
                raise optuna.TrialPruned

        try:
            return train(trial.number, values, report)
        except KeyboardInterrupt:
            trial.set_user_attr(_BROKEN_OFF, True)
            raise

    missing = max(0, total - _num_finished(study))
    if missing:
        study.optimize(objective, n_trials=missing)
    progress(_num_finished(study), total, "")
    return _report(study)


def _open_study(params: TuneParams, seed: int, storage_path: Path) -> Study:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage_path.parent.mkdir(parents=True, exist_ok=True)
    what = params.model_dump_json(exclude={"trials"}) + str(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # parts of Optuna call themselves experimental
        storage = JournalStorage(JournalFileBackend(str(storage_path)))
        study = optuna.create_study(
            study_name=hashlib.sha256(what.encode()).hexdigest()[:12],
            storage=storage,
            direction="maximize",
            load_if_exists=True,
            pruner=_pruner(params),
        )
        # A sampler seeded alike would propose on resuming what it has proposed before.
        study.sampler = _sampler(params, seed + len(study.trials))
    return study


def _sampler(params: TuneParams, seed: int) -> BaseSampler:
    import optuna

    if params.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(2, min(10, params.trials // 3)))


def _pruner(params: TuneParams) -> BasePruner:
    import optuna

    match params.pruner:
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=max(1, min(5, params.trials // 4)))
        case "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=params.epochs)
        case "none":
            return optuna.pruners.NopPruner()


def _retry_broken(study: Study) -> None:
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get("retry_of") for trial in trials}
    for trial in trials:
        killed = trial.state == TrialState.RUNNING
        if killed:
            study.tell(trial.number, state=TrialState.FAIL)
        if (killed or _BROKEN_OFF in trial.user_attrs) and trial.number not in retried:
            study.enqueue_trial(trial.params, user_attrs={"retry_of": trial.number})


def _num_finished(study: Study) -> int:
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _report(study: Study) -> TuneReport:
    rows = tuple(_row(trial) for trial in study.trials)
    complete = [row for row in rows if row.state == "complete"]
    best = max(complete, key=lambda row: row.value or 0.0, default=None)
    num_pruned = sum(row.state == "pruned" for row in rows)
    counted = f"{len(complete)} trials complete, {num_pruned} pruned"
    return TuneReport(
        passed=best is not None,
        sentence=f"best {_told(best)}; {counted}" if best else f"no trial was completed; {counted}",
        best_params=best.params if best else {},
        best_value=best.value if best else None,
        best_number=best.number if best else None,
        num_complete=len(complete),
        num_pruned=num_pruned,
        trials=rows,
    )


def _told(row: TrialRow) -> str:
    values = (
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.params.items()
    )
    return f"mAP50-95 {row.value:.3f} with {', '.join(values)}"


def _row(trial: FrozenTrial) -> TrialRow:
    return TrialRow(
        number=trial.number,
        state=trial.state.name.lower(),
        value=trial.value,
        epochs=len(trial.intermediate_values),
        seconds=round(trial.duration.total_seconds(), 2) if trial.duration else None,
        params=trial.params,
    )

"""What a study has found so far: every trial with its values, curve and fate, the best, the front, what mattered."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from flows.params_tune import Objective, TuneParams

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

MIN_JUDGED = 8  # complete trials from which the weight of a parameter is told
LABELS: dict[Objective, str] = {"map50_95": "mAP50-95", "score": "score", "latency_ms": "latency"}
HEADERS: dict[Objective, str] = {**LABELS, "latency_ms": "latency, ms"}
_WORDS = {"complete": "complete", "pruned": "stopped early", "fail": "failed"}


class TrialRow(BaseModel):
    """One attempt at a trial of the study."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    number: int = Field(description="counted from 0 over all attempts")
    origin: int = Field(description="number of the first attempt at the same values; its own where it is the first")
    state: str = Field(description="complete, pruned, fail, running or waiting")
    reason: str | None = Field(description="why it failed; null unless it did")
    values: dict[str, float] = Field(description="objective to what was reached; of a pruned trial the last reported")
    epochs: int = Field(description="last epoch that it reported")
    curve: tuple[tuple[int, float], ...] = Field(description="epoch, and the first objective after it")
    seconds: float | None = Field(description="wall time")
    worker: str | None = Field(description="who ran it: host and process id")
    params: dict[str, Any] = Field(description="key of train to the value tried; keys whose condition fails are absent")


class TuneReport(BaseModel):
    """The study so far."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    passed: bool = Field(description="whether a trial was completed")
    sentence: str = Field(description="what was found, in one sentence")
    study: str = Field(description="name of the study: a digest of all that defines it")
    facts: dict[str, Any] = Field(description="what defines it: space, data, start, seed, the other keys of train")
    objectives: tuple[Objective, ...] = Field(description="what is sought")
    best_params: dict[str, Any] = Field(description="key of train to its best value; empty while no trial is complete")
    best_value: float | None = Field(description="first objective of the best complete trial")
    best_number: int | None = Field(description="number of that trial; of several objectives the most accurate")
    front: tuple[int, ...] = Field(
        description="numbers of the trials that no other beats in all objectives; of one the best"
    )
    importance: dict[str, float] = Field(description="share of each key in what separates good from bad, see the page")
    num_trials: int = Field(description="trials that are done, whatever came of them")
    num_wanted: int = Field(description="trials that the study is to have")
    num_complete: int = Field(description="trials that ran to their end")
    num_pruned: int = Field(description="trials that were stopped early")
    num_failed: int = Field(description="trials that failed, all attempts included in one")
    num_epochs: int = Field(description="epochs trained, of several attempts at a trial the longest")
    trials: tuple[TrialRow, ...] = Field(description="all attempts, in the order they started")
    mlflow_run_id: str | None = Field(default=None, description="run whose nested runs are the trials")
    notes: tuple[str, ...] = Field(default=(), description="what to know when reading it")

    def highlights(self) -> list[str]:
        """The best values, a line each, and how to take them over."""
        if self.best_number is None:
            return []
        lines = [f"  {key:<20} {told(value)}" for key, value in self.best_params.items()]
        return [*lines, "  take them over: tca tune apply --write", *(f"  {note}" for note in self.notes)]

    def row(self, number: int) -> TrialRow | None:
        """The trial of that number, if there is one."""
        return next((row for row in self.trials if row.number == number), None)


def report_on(study: Study, params: TuneParams, notes: Sequence[str] = ()) -> TuneReport:
    """Read the whole study."""
    found = study.get_trials(deepcopy=False)
    rows = tuple(_row(trial, params.objectives) for trial in found)
    done = settled(rows)
    complete = [row for row in done if row.state == "complete"]
    first = params.objectives[0]
    best = max(complete, key=lambda row: (row.values[first], -row.number), default=None)
    reached: dict[int, int] = {}
    for row in rows:
        reached[row.origin] = max(row.epochs, reached.get(row.origin, 0))
    counts = {state: sum(row.state == state for row in done) for state in _WORDS}
    return TuneReport(
        passed=best is not None,
        sentence=_sentence(best, counts, params.objectives),
        study=study.study_name,
        facts=study.user_attrs.get("facts", {}),
        objectives=tuple(params.objectives),
        best_params=best.params if best else {},
        best_value=best.values[first] if best else None,
        best_number=best.number if best else None,
        front=_front(complete, params.objectives),
        importance=_importance(study, complete),
        num_trials=len(done),
        num_wanted=params.trials,
        num_complete=counts["complete"],
        num_pruned=counts["pruned"],
        num_failed=counts["fail"],
        num_epochs=sum(reached.values()),
        trials=rows,
        mlflow_run_id=study.user_attrs.get("mlflow_run"),
        notes=tuple(notes),
    )


def settled(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """The last attempt of each trial that is done: complete, pruned, or failed and not to be tried again; by number."""
    last = {row.origin: row for row in rows}  # attempts come in the order of their numbers
    return [row for row in rows if row is last[row.origin] and row.state in _WORDS]


def trial_headers(report: TuneReport) -> list[str]:
    """What a table of trials tells of each, the keys of the space last."""
    return ["trial", "state", *(HEADERS[name] for name in report.objectives), "epochs", "s", *_keys(report)]


def trial_cells(row: TrialRow, report: TuneReport) -> list[str]:
    """One attempt under `trial_headers`."""
    values = [told(row.values[name]) if name in row.values else "" for name in report.objectives]
    seconds = "" if row.seconds is None else f"{row.seconds:.0f}"
    return [str(row.number), row.state, *values, str(row.epochs), seconds, *key_cells(row, report)]


def key_cells(row: TrialRow, report: TuneReport) -> list[str]:
    """The values that an attempt tried, by key of the space."""
    return [told(row.params[key]) if key in row.params else "–" for key in _keys(report)]


def _keys(report: TuneReport) -> list[str]:
    return list(report.facts.get("space", {}))


def told(value: object) -> str:
    """A value of a parameter or objective, short."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _row(trial: FrozenTrial, objectives: Sequence[Objective]) -> TrialRow:
    attrs = trial.user_attrs
    failed = trial.state.name == "FAIL"
    curve = dict(attrs["curve"]) if "curve" in attrs else trial.intermediate_values
    return TrialRow(
        number=trial.number,
        origin=attrs.get("origin", trial.number),
        state=trial.state.name.lower(),
        reason=attrs.get("reason", "its worker was gone in the middle of it") if failed else None,
        values=dict(zip(objectives, trial.values or (), strict=False)),
        epochs=max(curve, default=0),
        curve=tuple(sorted(curve.items())),
        seconds=round(trial.duration.total_seconds(), 2) if trial.duration else None,
        worker=attrs.get("worker"),
        params=attrs.get("values", trial.params),
    )


def _front(complete: Sequence[TrialRow], objectives: Sequence[Objective]) -> tuple[int, ...]:
    """Numbers of the trials that no other equals or beats everywhere and beats somewhere; most accurate first."""
    if len(objectives) == 1:
        best = max(complete, key=lambda row: (row.values[objectives[0]], -row.number), default=None)
        return () if best is None else (best.number,)
    signed = {row.number: _signed(row.values, objectives) for row in complete}
    front = [
        number
        for number, ours in signed.items()
        if not any(
            theirs != ours and all(a >= b for a, b in zip(theirs, ours, strict=True)) for theirs in signed.values()
        )
    ]
    return tuple(sorted(front, key=lambda number: signed[number], reverse=True))


def _signed(values: Mapping[str, float], objectives: Sequence[Objective]) -> tuple[float, ...]:
    return tuple(-values[name] if name == "latency_ms" else values[name] for name in objectives)


def _importance(study: Study, complete: Sequence[TrialRow]) -> dict[str, float]:
    """PED-ANOVA (Watanabe et al. 2023) of the first objective, over the keys that every complete trial has."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    if len(complete) < MIN_JUDGED:
        return {}
    keys = [key for key in complete[0].params if all(key in row.params for row in complete)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = get_param_importances(
                study,
                evaluator=PedAnovaImportanceEvaluator(),
                params=keys,
                target=lambda trial: -trial.values[0],  # it takes what is low for good
            )
        except (ValueError, RuntimeError):  # all values alike: nothing separates
            return {}
    return {key: round(share, 4) for key, share in found.items() if math.isfinite(share)}


def _sentence(best: TrialRow | None, counts: Mapping[str, int], objectives: Sequence[Objective]) -> str:
    counted = ", ".join(f"{number} {_WORDS[state]}" for state, number in counts.items() if number or state != "fail")
    if best is None:
        return f"no trial was completed; {counted}"
    values = ", ".join(f"{LABELS[name]} {best.values[name]:.4g}{_unit(name)}" for name in objectives)
    chosen = ", ".join(f"{key} {told(value)}" for key, value in best.params.items())
    return f"best {values} with {chosen}; {counted}"


def _unit(name: Objective) -> str:
    return " ms" if name == "latency_ms" else ""

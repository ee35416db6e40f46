"""The search over a function that costs nothing: choosing, pruning, going on after a break."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from flows.errors import ParamsError
from flows.params_tune import TuneParams
from flows.training.search import EpochReport, TuneReport, search
from flows.training.space import check_space

SPACE = {"learning_rate": {"low": 0.001, "high": 0.1, "log": True}, "optimizer": {"choices": ["AdamW", "SGD"]}}


def make_params(**changes: Any) -> TuneParams:
    values = {"trials": 6, "epochs": 3, "sampler": "tpe", "pruner": "none", "space": SPACE}
    return TuneParams.model_validate({**values, **changes})


def quality(number: int, values: dict[str, Any], report: EpochReport) -> float:
    final = values["learning_rate"] + (values["optimizer"] == "SGD")
    for epoch in (1, 2, 3):
        report(epoch, final * epoch / 3)
    return float(final)


def run(path: Path, train: Any = quality, seed: int = 0, **changes: Any) -> TuneReport:
    return search(train, make_params(**changes), seed, path / "study.journal")


def test_the_best_complete_trial_is_reported(tmp_path: Path) -> None:
    report = run(tmp_path)
    assert report.passed
    assert report.num_complete == 6
    best = max(report.trials, key=lambda row: row.value or 0)
    assert (report.best_number, report.best_value, report.best_params) == (best.number, best.value, best.params)
    assert report.best_params["optimizer"] == "SGD"
    assert all(0.001 <= row.params["learning_rate"] <= 0.1 for row in report.trials)
    assert [row.epochs for row in report.trials] == [3] * 6


def test_the_same_seed_tries_the_same_values(tmp_path: Path) -> None:
    tried = [
        [row.params for row in run(tmp_path / name, seed=seed).trials] for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert tried[0] == tried[1]
    assert tried[0] != tried[2]


def test_hopeless_trials_are_pruned_at_an_epoch(tmp_path: Path) -> None:
    def worse_each_time(number: int, values: dict[str, Any], report: EpochReport) -> float:
        for epoch in (1, 2, 3):
            report(epoch, 1.0 / (number + 1))
        return 1.0 / (number + 1)

    report = run(tmp_path, worse_each_time, pruner="median", trials=8)
    assert report.best_number == 0
    assert report.num_pruned >= 3
    assert report.num_complete + report.num_pruned == 8
    assert all(row.epochs < 3 for row in report.trials if row.state == "pruned")


@pytest.mark.parametrize("pruner", ["median", "hyperband", "none"])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_every_sampler_and_pruner_finishes(tmp_path: Path, sampler: str, pruner: str) -> None:
    report = run(tmp_path, sampler=sampler, pruner=pruner, trials=4)
    assert report.num_complete + report.num_pruned == 4


def test_a_finished_study_runs_nothing_more_and_grows_on_request(tmp_path: Path) -> None:
    calls: list[int] = []

    def counted(number: int, values: dict[str, Any], report: EpochReport) -> float:
        calls.append(number)
        return quality(number, values, report)

    first = run(tmp_path, counted, trials=3)
    assert run(tmp_path, counted, trials=3) == first
    grown = run(tmp_path, counted, trials=5)
    assert calls == [0, 1, 2, 3, 4]
    assert grown.trials[:3] == first.trials
    assert len({row.params["learning_rate"] for row in grown.trials}) == 5


def test_a_broken_off_trial_is_tried_again_first(tmp_path: Path) -> None:
    def killed(number: int, values: dict[str, Any], report: EpochReport) -> float:
        if number == 1:
            raise KeyboardInterrupt
        return quality(number, values, report)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, killed, trials=4)
    report = run(tmp_path, trials=4)
    assert run(tmp_path, trials=4) == report
    assert [row.state for row in report.trials] == ["complete", "fail", "complete", "complete", "complete"]
    assert report.trials[2].params == report.trials[1].params


def test_a_killed_trial_is_tried_again(tmp_path: Path) -> None:
    run(tmp_path, trials=1)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study.journal")))
    study = optuna.load_study(study_name=None, storage=storage)
    dead = study.ask()  # as after SIGKILL: asked, never told
    dead.suggest_float("learning_rate", 0.001, 0.1, log=True)
    dead.suggest_categorical("optimizer", ["AdamW", "SGD"])
    report = run(tmp_path, trials=2)
    assert [row.state for row in report.trials] == ["complete", "fail", "complete"]
    assert report.trials[2].params == dead.params


def test_an_error_of_the_training_is_passed_on(tmp_path: Path) -> None:
    def broken(number: int, values: dict[str, Any], report: EpochReport) -> float:
        raise ValueError("out of luck")

    with pytest.raises(ValueError, match="out of luck"):
        run(tmp_path, broken)


def test_another_space_is_another_study(tmp_path: Path) -> None:
    run(tmp_path, trials=2)
    other = run(tmp_path, trials=1, space={**SPACE, "learning_rate": {"low": 0.5, "high": 0.9}})
    assert len(other.trials) == 1


def test_nothing_complete_is_not_passed(tmp_path: Path) -> None:
    def hopeless(number: int, values: dict[str, Any], report: EpochReport) -> float:
        raise optuna.TrialPruned

    report = run(tmp_path, hopeless, trials=2)
    assert not report.passed
    assert (report.best_value, report.best_params, report.num_pruned) == (None, {}, 2)


def test_whole_numbers_stay_whole(tmp_path: Path) -> None:
    tried: list[dict[str, Any]] = []

    def note(number: int, values: dict[str, Any], report: EpochReport) -> float:
        tried.append(values)
        return 0.5

    run(
        tmp_path,
        note,
        trials=5,
        space={"batch": {"low": 2, "high": 16, "log": True}, "image_size": {"low": 64, "high": 160}},
    )
    assert all(isinstance(values["batch"], int) and values["image_size"] % 32 == 0 for values in tried)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"optimizer": {"choices": ["AdamW", "Lion"]}}, "tune.space.optimizer: 'Lion'"),
        ({"optimizer": {"low": 0.1, "high": 1.0}}, "tune.space.optimizer: 0.1"),
        ({"mosaic": {"low": 0.0, "high": 1.5}}, "tune.space.mosaic: 1.5"),
        ({"learning_rate": {"low": -1.0, "high": 0.1}}, "tune.space.learning_rate: -1.0"),
        ({"batch": {"low": 1.5, "high": 8}}, "tune.space.batch: 1.5"),
        ({"image_size": {"choices": [320, 321]}}, "tune.space.image_size: 321 is not a multiple of 32"),
    ],
)
def test_values_that_training_refuses_are_refused_before_the_first_trial(space: Any, message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        check_space(make_params(space=space).space)
    assert message in str(caught.value)

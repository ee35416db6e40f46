"""The search over a function that costs nothing: choosing, stopping, trying again, going on after a break."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from flows.errors import Conflict, DataError, OutsideError, ParamsError, Preempted, ProjectError
from flows.params_train import TrainParams
from flows.params_tune import TuneParams
from flows.training.search.search import TrainOnce, TrialFailed, TrialJob, TuneReport, search
from flows.training.search.store import JournalStore
from flows.training.search.study import SharedStudy, load_study, open_study, study_facts

SPACE = {"learning_rate": {"low": 0.001, "high": 0.1, "log": True}, "optimizer": {"choices": ["AdamW", "SGD"]}}


def make_tune(**changes: Any) -> TuneParams:
    values = {
        **{"trials": 6, "epochs": 3, "objectives": ["map50_95"], "sampler": "tpe", "pruner": "none"},
        **{"prune_from": 1, "retries": 2, "space": SPACE},
    }
    return TuneParams.model_validate({**values, **changes})


def quality(job: TrialJob) -> dict[str, float]:
    final = job.values["learning_rate"] + (job.values["optimizer"] == "SGD")
    for epoch in (1, 2, 3):
        job.report(epoch, final * epoch / 3)
    return {"map50_95": float(final)}


class Bench:
    """A journal, and the base parameters of train."""

    def __init__(self, path: Path, base: TrainParams) -> None:
        self.path, self.base = path, base
        self.store = JournalStore(path / "study.journal")

    def facts(self, seed: int = 0, data: str = "data", start: str = "start", **changes: Any) -> dict[str, Any]:
        return study_facts(make_tune(**changes), self.base, seed, data, start)

    def open(self, seed: int = 0, data: str = "data", start: str = "start", **changes: Any) -> SharedStudy:
        return open_study(self.store, make_tune(**changes), self.base, self.facts(seed, data, start, **changes))

    def run(self, train: TrainOnce = quality, **changes: Any) -> TuneReport:
        return search(train, self.open(**changes))


@pytest.fixture
def bench(tmp_path: Path, make_params: Callable[..., TrainParams]) -> Bench:
    return Bench(tmp_path, make_params())


def test_the_best_complete_trial_is_reported(bench: Bench) -> None:
    report = bench.run()
    assert report.passed
    assert (report.num_complete, report.num_trials, report.num_wanted) == (6, 6, 6)
    best = max(report.trials, key=lambda row: row.values["map50_95"])
    assert (report.best_number, report.best_value) == (best.number, best.values["map50_95"])
    assert report.best_params == best.params
    assert report.front == (best.number,)
    assert [row.epochs for row in report.trials] == [3] * 6
    assert report.num_epochs == 18


def test_the_same_seed_tries_the_same_values(bench: Bench, tmp_path: Path) -> None:
    others = [Bench(tmp_path / name, bench.base) for name in ("a", "b")]
    tried = [
        [row.params for row in one.run(seed=seed).trials] for one, seed in ((bench, 1), (others[0], 1), (others[1], 2))
    ]
    assert tried[0] == tried[1]
    assert tried[0] != tried[2]


def test_a_study_that_was_broken_off_proposes_what_it_would_have(bench: Bench, tmp_path: Path) -> None:
    whole = bench.run(trials=6)
    other = Bench(tmp_path / "other", bench.base)
    assert [row.params for row in other.run(trials=2).trials] == [row.params for row in whole.trials[:2]]
    grown = other.run(trials=6)
    assert [row.params for row in grown.trials] == [row.params for row in whole.trials]


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp", "qmc"])
def test_a_trial_that_was_put_back_changes_no_later_proposal(bench: Bench, tmp_path: Path, sampler: str) -> None:
    whole = bench.run(trials=6, sampler=sampler)
    other = Bench(tmp_path / "other", bench.base)

    def interrupted(job: TrialJob) -> dict[str, float]:
        if job.number == 1:
            raise KeyboardInterrupt
        return quality(job)

    with pytest.raises(KeyboardInterrupt):
        other.run(interrupted, trials=6, sampler=sampler)
    report = other.run(trials=6, sampler=sampler)
    assert [row.state for row in report.trials] == ["complete", "fail", *["complete"] * 5]
    assert [row.params for row in report.trials if row.number != 1] == [row.params for row in whole.trials]


@pytest.mark.parametrize("pruner", ["median", "halving", "hyperband"])
def test_hopeless_trials_are_stopped_at_an_epoch(bench: Bench, pruner: str) -> None:
    def worse_each_time(job: TrialJob) -> dict[str, float]:
        for epoch in range(1, 10):
            job.report(epoch, 1.0 / (job.number + 1))
        return {"map50_95": 1.0 / (job.number + 1)}

    report = bench.run(worse_each_time, pruner=pruner, trials=8, epochs=9, sampler="random")
    assert report.best_number == 0
    assert report.num_pruned >= 3
    assert report.num_complete + report.num_pruned == report.num_trials == 8
    stopped = [row for row in report.trials if row.state == "pruned"]
    assert all(row.epochs < 9 and row.curve[-1][1] == row.values["map50_95"] for row in stopped)


def test_nothing_is_stopped_before_prune_from(bench: Bench) -> None:
    def worse_each_time(job: TrialJob) -> dict[str, float]:
        for epoch in range(1, 6):
            job.report(epoch, 1.0 / (job.number + 1))
        return {"map50_95": 1.0 / (job.number + 1)}

    report = bench.run(worse_each_time, pruner="median", prune_from=3, trials=8, epochs=5)
    assert report.num_pruned >= 3
    assert all(row.epochs >= 3 for row in report.trials)


def test_a_patient_pruner_lets_growing_trials_go_on(bench: Bench) -> None:
    def growing(job: TrialJob) -> dict[str, float]:
        for epoch in range(1, 6):
            job.report(epoch, epoch / (job.number + 1))
        return {"map50_95": 5 / (job.number + 1)}

    assert bench.run(growing, pruner="median", trials=8, epochs=5).num_pruned > 0
    assert bench.run(growing, pruner="patient", trials=8, epochs=5).num_pruned == 0


PRUNERS = ("median", "patient", "halving", "hyperband", "none")
SAMPLERS = ("tpe", "random", "qmc", "gp", "nsgaii")


@pytest.mark.parametrize(
    ("sampler", "pruner"),
    [*(("tpe", pruner) for pruner in PRUNERS), *((sampler, "median") for sampler in SAMPLERS[1:])],
)
def test_every_sampler_and_pruner_finishes(bench: Bench, sampler: str, pruner: str) -> None:
    space = {**SPACE, "warmup_epochs": {"low": 0, "high": 3, "when": {"optimizer": ["SGD"]}}}
    report = bench.run(sampler=sampler, pruner=pruner, trials=5, space=space)
    assert report.num_complete + report.num_pruned == report.num_trials == 5
    assert all(("warmup_epochs" in row.params) == (row.params["optimizer"] == "SGD") for row in report.trials)
    assert len({row.params["learning_rate"] for row in report.trials}) > 2


def test_tpe_finds_more_than_chance(bench: Bench) -> None:
    """On a smooth hill its later trials lie higher than its first, random ones."""

    def hill(job: TrialJob) -> dict[str, float]:
        return {"map50_95": 1.0 - abs(job.values["mosaic"] - 0.7)}

    report = bench.run(hill, trials=40, space={"mosaic": {"low": 0.0, "high": 1.0}})
    values = [row.values["map50_95"] for row in report.trials]
    assert sum(values[20:]) / 20 > sum(values[:10]) / 10 + 0.1
    assert report.importance == {"mosaic": 1.0}


def test_what_mattered_is_what_makes_trials_good_not_bad(bench: Bench) -> None:
    """The best of these trials have a high mosaic, the worst a long warm-up."""

    def split(job: TrialJob) -> dict[str, float]:
        mosaic, warmup = job.values["mosaic"], job.values["warmup_epochs"]
        return {"map50_95": 1.0 + mosaic if mosaic > 0.8 else -warmup}

    space = {"mosaic": {"low": 0.0, "high": 1.0}, "warmup_epochs": {"low": 0.0, "high": 3.0}}
    report = bench.run(split, trials=60, sampler="random", space=space)
    assert report.importance["mosaic"] > 2 * report.importance["warmup_epochs"]


def test_a_finished_study_runs_nothing_more_and_grows_on_request(bench: Bench) -> None:
    calls: list[int] = []

    def counted(job: TrialJob) -> dict[str, float]:
        calls.append(job.number)
        return quality(job)

    first = bench.run(counted, trials=3)
    assert bench.run(counted, trials=3) == first
    grown = bench.run(counted, trials=5)
    assert calls == [0, 1, 2, 3, 4]
    assert grown.trials[:3] == first.trials


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Preempted("asked to stop"), DataError("a frame is missing")])
def test_what_breaks_the_search_off_puts_the_trial_back(bench: Bench, error: BaseException) -> None:
    def broken(job: TrialJob) -> dict[str, float]:
        if job.number == 1:
            job.report(1, 0.5)
            raise error
        return quality(job)

    with pytest.raises(type(error)):
        bench.run(broken, trials=4, retries=0)
    origins: list[int] = []

    def noted(job: TrialJob) -> dict[str, float]:
        origins.append(job.origin)
        return quality(job)

    report = bench.run(noted, trials=4, retries=0)
    assert origins[0] == 1
    assert [row.state for row in report.trials] == ["complete", "fail", "complete", "complete", "complete"]
    assert report.trials[2].params == report.trials[1].params
    assert report.trials[1].reason == f"broken off: {type(error).__name__}"
    assert (report.num_trials, report.num_failed) == (4, 0)
    assert bench.run(noted, trials=4, retries=0) == report


def test_a_trial_whose_worker_is_gone_is_tried_again(bench: Bench) -> None:
    study = bench.open(trials=2)
    with study.deciding():
        claim = study.claim()  # as after SIGKILL: claimed, nobody lives, nothing told
    assert claim is not None
    report = bench.run(trials=2)
    assert [row.state for row in report.trials] == ["fail", "complete", "complete"]
    assert report.trials[1].params == report.trials[0].params == claim.values
    assert report.trials[1].origin == 0
    assert report.trials[0].reason == "its worker was gone in the middle of it"


def test_one_that_died_while_it_chose_is_tried_again(bench: Bench) -> None:
    """Asked of Optuna, with no value and no worker noted yet."""
    bench.open(trials=2).optuna_study.ask()
    report = bench.run(trials=2)
    assert [row.state for row in report.trials] == ["fail", "complete", "complete"]
    assert report.num_trials == 2


def test_one_that_died_while_it_put_a_trial_back_puts_it_back_once(bench: Bench) -> None:
    study = bench.open(trials=2)
    with study.deciding():
        claim = study.claim()
    assert claim is not None
    study.optuna_study.enqueue_trial(claim.trial.params, user_attrs={"origin": 0, "attempt": 1})
    report = bench.run(trials=2)
    assert [row.origin for row in report.trials] == [0, 0, 2]
    assert report.num_trials == 2


def test_the_trial_of_a_living_worker_is_not_taken(bench: Bench) -> None:
    first, second = bench.open(trials=2), bench.open(trials=2)
    with first.store.living(first.worker):
        with first.deciding():
            mine = first.claim()
        with second.deciding():
            assert second.find_orphans() == 1
            other = second.claim()
            assert second.claim() is None
        assert mine is not None
        assert other is not None
        assert {mine.number, other.number} == {0, 1}
    with second.store.living(second.worker), second.deciding():
        assert second.find_orphans() == 1  # its own
        again = second.claim()
    assert again is not None
    assert (again.origin, again.attempt, again.values) == (mine.number, 1, mine.values)


@pytest.mark.parametrize(
    ("error", "reports", "told"),
    [
        (None, True, Conflict),
        (None, False, Conflict),
        (TrialFailed("out of memory"), False, Conflict),
        (TrialFailed("diverged", again=False), False, Conflict),
        (optuna.TrialPruned(), False, Conflict),
        (KeyboardInterrupt(), False, KeyboardInterrupt),
        (DataError("a frame is missing"), False, DataError),
    ],
)
def test_a_trial_that_was_taken_over_is_a_conflict(
    bench: Bench, error: BaseException | None, reports: bool, told: type[BaseException]
) -> None:
    study, other = bench.open(trials=1), bench.open(trials=1)

    def slow(job: TrialJob) -> dict[str, float]:
        with other.deciding():
            other.put_back(job.number, counted=True)  # by who believed us dead
        if reports:
            job.report(1, 0.5)
        if error is not None:
            raise error
        return {"map50_95": 0.5}

    with pytest.raises(told, match="was taken over" if told is Conflict else None):
        search(slow, study)
    report = bench.run(trials=1)
    assert [row.state for row in report.trials] == ["fail", "complete"]
    assert report.trials[0].reason == "its worker was gone in the middle of it"


def test_a_crashed_trial_is_tried_again_so_many_times(bench: Bench) -> None:
    attempts: list[tuple[int, int]] = []

    def crashing(job: TrialJob) -> dict[str, float]:
        attempts.append((job.number, job.origin))
        if job.origin == 0:
            raise TrialFailed("out of memory")
        return quality(job)

    report = bench.run(crashing, trials=3, retries=2)
    assert attempts == [(0, 0), (1, 0), (2, 0), (3, 3), (4, 4)]
    assert [row.reason for row in report.trials[:3]] == ["out of memory"] * 3
    assert (report.num_trials, report.num_failed, report.num_complete) == (3, 1, 2)
    assert bench.run(crashing, trials=3, retries=2) == report
    assert "1 failed" in report.sentence


def test_a_trial_that_succeeds_later_counts_once(bench: Bench) -> None:
    def flaky(job: TrialJob) -> dict[str, float]:
        if job.number == 0:
            raise TrialFailed("once")
        return quality(job)

    report = bench.run(flaky, trials=2)
    assert (report.num_trials, report.num_failed, report.num_complete) == (2, 0, 2)


def test_a_trial_that_would_fail_again_is_not_tried_again(bench: Bench) -> None:
    def diverging(job: TrialJob) -> dict[str, float]:
        if job.number == 0:
            raise TrialFailed("diverged", again=False)
        return quality(job)

    report = bench.run(diverging, trials=3)
    assert [row.state for row in report.trials] == ["fail", "complete", "complete"]


def test_when_all_fail_it_ends(bench: Bench) -> None:
    calls: list[int] = []

    def hopeless(job: TrialJob) -> dict[str, float]:
        calls.append(job.number)
        raise TrialFailed("the checkpoint is damaged")

    with pytest.raises(OutsideError, match="every trial failed so far, the last one thus: the checkpoint is damaged"):
        bench.run(hopeless, trials=50, retries=1)
    assert len(calls) == 4


def test_an_unknown_error_is_passed_on(bench: Bench) -> None:
    def broken(job: TrialJob) -> dict[str, float]:
        raise ValueError("out of luck")

    with pytest.raises(ValueError, match="out of luck"):
        bench.run(broken)


def test_epochs_told_twice_are_told_once(bench: Bench) -> None:
    def retelling(job: TrialJob) -> dict[str, float]:
        for epoch in (1, 2, 1, 2, 3):
            job.report(epoch, epoch / 10)
        return {"map50_95": 0.3}

    report = bench.run(retelling, trials=1)
    assert report.trials[0].curve == ((1, 0.1), (2, 0.2), (3, 0.3))


@pytest.mark.parametrize(
    "other",
    [
        {"data": "other data"},
        {"start": "other weights"},
        {"seed": 1},
        {"epochs": 4},
        {"sampler": "random"},
        {"space": {**SPACE, "learning_rate": {"low": 0.5, "high": 0.9}}},
    ],
)
def test_another_space_data_start_or_seed_is_another_study(bench: Bench, other: dict[str, Any]) -> None:
    bench.run(trials=2)
    study = bench.open(trials=1, **other)
    assert len(search(quality, study).trials) == 1
    (key,) = other
    assert study.notes[0].startswith("a new study: ")
    assert key in study.notes[0]


def test_more_trials_and_other_speed_are_the_same_study(bench: Bench) -> None:
    name = bench.open(trials=2).name
    assert bench.open(trials=9, retries=5).name == name
    faster = Bench(bench.path, bench.base.model_copy(update={"threads": 7, "workers": 2, "cache": "disk"}))
    assert faster.open(trials=2).name == name
    other = Bench(bench.path, bench.base.model_copy(update={"batch": 2}))
    assert other.open(trials=2).name != name
    searched = Bench(bench.path, bench.base.model_copy(update={"optimizer": "SGD", "learning_rate": 0.5}))
    assert searched.open(trials=2).name == name


def test_a_study_that_does_not_exist_is_not_begun_by_looking(bench: Bench) -> None:
    bench.run(trials=2)
    assert load_study(bench.store, make_tune(trials=2), bench.facts(trials=2)).report().num_complete == 2
    with pytest.raises(ProjectError) as caught:
        load_study(bench.store, make_tune(trials=2), bench.facts(data="newer", trials=2))
    assert "data differs from those of study" in str(caught.value)
    with pytest.raises(ProjectError):
        load_study(bench.store, make_tune(trials=2), bench.facts(data="newer", trials=2))


def test_a_wrong_space_begins_no_study(bench: Bench) -> None:
    with pytest.raises(ParamsError, match="Lion"):
        bench.open(space={"optimizer": {"choices": ["AdamW", "Lion"]}})
    assert not (bench.path / "study.journal").exists()


def test_nothing_complete_is_not_passed(bench: Bench) -> None:
    def hopeless(job: TrialJob) -> dict[str, float]:
        raise optuna.TrialPruned

    report = bench.run(hopeless, trials=2)
    assert not report.passed
    assert (report.best_value, report.best_params, report.num_pruned) == (None, {}, 2)


def accuracy_and_latency(job: TrialJob) -> dict[str, float]:
    rate = job.values["learning_rate"]
    for epoch in (1, 2, 3):
        job.report(epoch, rate * epoch / 3)
    return {"map50_95": rate, "latency_ms": 100 * rate + (50 if job.values["optimizer"] == "SGD" else 0)}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_several_objectives_have_a_front(bench: Bench, sampler: str) -> None:
    report = bench.run(accuracy_and_latency, objectives=["map50_95", "latency_ms"], sampler=sampler, trials=12)
    values = {row.number: row.values for row in report.trials}
    for number in report.front:
        ours = values[number]
        assert not any(
            other["map50_95"] > ours["map50_95"] and other["latency_ms"] < ours["latency_ms"]
            for other in values.values()
        )
    front = {number: values[number] for number in report.front}
    dominated = set(values) - set(front)
    assert all(
        any(
            one["map50_95"] >= values[number]["map50_95"] and one["latency_ms"] <= values[number]["latency_ms"]
            for one in front.values()
        )
        for number in dominated
    )
    assert report.best_number == report.front[0] == max(values, key=lambda number: values[number]["map50_95"])
    assert all(len(row.curve) == 3 for row in report.trials)


def test_progress_tells_all_trials_and_the_best(bench: Bench) -> None:
    told: list[tuple[int, int, str]] = []

    def working(job: TrialJob) -> dict[str, float]:
        job.progress(3, 10, "epoch 1/3")
        return quality(job)

    search(working, bench.open(trials=3), lambda done, total, note: told.append((done, total, note)))
    done = [entry[0] for entry in told]
    assert done == sorted(done)
    assert set(done) == set(range(10))
    assert {entry[1] for entry in told} == {9}
    assert told[0][2] == "trial 0 epoch 1/3"
    assert "best" in told[-2][2]


def test_each_trial_is_told_of(bench: Bench) -> None:
    counts: list[int] = []
    search(quality, bench.open(trials=3), on_trial=lambda report: counts.append(report.num_trials))
    assert counts == [1, 2, 3]

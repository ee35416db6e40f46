"""One study that many workers share: who tries what, what is tried again, and when all is done.

A study has as many trials as params.yaml asks for, over all workers. Each may take several attempts: one that was
interrupted, or whose worker is gone, is tried again with the same values, before anything new is.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import uuid
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.errors import ProjectError
from flows.params_train import TrainParams
from flows.params_tune import TuneParams, searchable_keys
from flows.training.search.report import TuneReport, report_on
from flows.training.search.samplers import make_pruner, make_sampler
from flows.training.search.space import check_space, suggest
from flows.training.search.store import Store

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial


def study_facts(params: TuneParams, train: TrainParams, seed: int, data: str, start: str) -> dict[str, Any]:
    """Everything that defines a study: where one of these differs, it is another study.

    Args:
        params: Of them the number of trials and retries does not count, so that a study can grow.
        train: Its keys that are not searched, and change more than where and how fast a trial runs.
        seed: Of the trainings, and of what is proposed.
        data: What tells the data from others.
        start: The weights that trials start from.
    """
    keys = ["task", *(key for key in searchable_keys() if key != "model")]
    tree = train.model_dump()
    return {
        **params.model_dump(mode="json", exclude={"trials", "retries"}),
        "train": {key: _at(tree, key) for key in keys if key not in params.space},
        "seed": seed,
        "data": data,
        "start": start,
    }


@dataclass(frozen=True)
class Claim:
    """A trial that this worker is to run. `origin`: the number of the first attempt at the same values."""

    trial: Trial
    number: int
    origin: int
    attempt: int
    values: dict[str, Any]


@dataclass
class SharedStudy:
    """A study in its store; see `open_study`. The methods that decide are to be called within `deciding()`."""

    store: Store
    params: TuneParams
    seed: int
    optuna_study: Study
    notes: tuple[str, ...] = ()
    worker: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}")

    @property
    def name(self) -> str:
        """Name of the study, 12 hex digits."""
        return self.optuna_study.study_name

    def deciding(self) -> AbstractContextManager[None]:
        """The moment in which this worker alone decides."""
        return self.store.deciding(self.name)

    def report(self) -> TuneReport:
        """The study so far."""
        return report_on(self.optuna_study, self.params, self.notes)

    def recall(self, key: str) -> Any:
        """What `remember` kept, or None."""
        return self.optuna_study.user_attrs.get(key)

    def remember(self, key: str, value: Any) -> None:
        """Keep something with the study, for all workers."""
        self.optuna_study.set_user_attr(key, value)

    def claim(self) -> Claim | None:
        """The next trial: one that is to be tried again, else a new one while there are to be more; else None."""
        last = _last_attempts(self._trials())
        place = _waiting_place(last)
        if place is None and len(last) >= self.params.trials:
            return None
        study = self.optuna_study
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study.sampler = make_sampler(self.params, self.seed, len(last) if place is None else place)
            trial = study.ask()
            trial.set_user_attr("worker", self.worker)
            values = suggest(trial, self.params.space)
        trial.set_user_attr("values", values)
        attrs = trial.user_attrs
        return Claim(trial, trial.number, attrs.get("origin", trial.number), attrs.get("attempt", 0), values)

    def put_back(self, number: int, *, counted: bool) -> bool:
        """Let a trial fail, and have its values tried again; false where it was `counted` and had its last attempt."""
        import optuna

        trials = self._trials()
        trial = trials[number]
        if trial.state.is_finished():  # somebody believed this worker dead
            return True
        origin = trial.user_attrs.get("origin", number)
        attempt = trial.user_attrs.get("attempt", 0) + counted
        is_last = _last_attempts(trials)[origin].number == number
        again = is_last and attempt <= self.params.retries
        if again:  # before it fails: whatever happens between the two, the trial is not lost
            attrs = {"origin": origin, "attempt": attempt}
            self.optuna_study.enqueue_trial(trial.params, user_attrs=attrs)
        self.optuna_study.tell(number, state=optuna.trial.TrialState.FAIL)
        return again

    def find_orphans(self) -> int:
        """Put back the running trials whose worker is gone, and count those whose worker is not."""
        others: dict[str, bool] = {self.worker: True}
        num_alive = 0
        for trial in self._trials():
            if trial.state.name != "RUNNING":
                continue
            worker = trial.user_attrs.get("worker", "")
            if worker not in others:
                others[worker] = self.store.is_living(worker)
            if others[worker]:
                num_alive += 1
            else:
                self.put_back(trial.number, counted=True)
        return num_alive

    def is_taken(self, claim: Claim) -> bool:
        """Whether another worker believed this one dead and ended its attempt; true also once it ended by itself."""
        return self._trials()[claim.number].state.is_finished()

    def standing(self) -> tuple[int, float | None]:
        """How many trials are done, whatever came of them, and the first objective of the best complete one."""
        trials = self._trials()
        num_settled = sum(trial.state.is_finished() for trial in _last_attempts(trials).values())
        complete = [trial.values[0] for trial in trials if trial.state.name == "COMPLETE"]
        return num_settled, max(complete, default=None)

    def _trials(self) -> list[FrozenTrial]:
        return self.optuna_study.get_trials(deepcopy=False)


def open_study(store: Store, params: TuneParams, train: TrainParams, facts: dict[str, Any]) -> SharedStudy:
    """Find the study with these facts in `store`, or begin it.

    Raises:
        ParamsError: The space names a value that training refuses.
        OutsideError: The store cannot be reached.
    """
    import optuna

    check_space(params.space, train)
    storage = store.open()
    name = name_of(facts)
    with store.deciding(name), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = _known(storage)
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            directions=["minimize" if one == "latency_ms" else "maximize" for one in params.objectives],
            load_if_exists=True,
            pruner=make_pruner(params),
        )
        notes: tuple[str, ...] = ()
        if name not in before:
            study.set_user_attr("facts", facts)
            notes = (f"a new study: {differences(facts, before)}",) if before else ()
    return SharedStudy(store, params, facts["seed"], study, notes)


def load_study(store: Store, params: TuneParams, facts: dict[str, Any]) -> SharedStudy:
    """The study with these facts. Raises ProjectError where there is none, saying in what the nearest one differs."""
    import optuna

    storage = store.open()
    before = _known(storage)
    name = name_of(facts)
    if name not in before:
        told = f": {differences(facts, before)}" if before else ""
        raise ProjectError(f"{store.name} has no study of these data, this start and this space{told}", "Run: tca tune")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.load_study(study_name=name, storage=storage, pruner=make_pruner(params))
    return SharedStudy(store, params, facts["seed"], study)


def _last_attempts(trials: Sequence[FrozenTrial]) -> dict[int, FrozenTrial]:
    """By the number of the first attempt at the same values, in the order of these."""
    return {trial.user_attrs.get("origin", trial.number): trial for trial in trials}


def _waiting_place(last: Mapping[int, FrozenTrial]) -> int | None:
    """Where among the trials the one stands that Optuna gives next, for it waits to be tried again; None: none does."""
    waiting = [(trial.number, place) for place, trial in enumerate(last.values()) if trial.state.name == "WAITING"]
    return min(waiting)[1] if waiting else None


def name_of(facts: Mapping[str, Any]) -> str:
    """Name of the study with these facts, 12 hex digits."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def differences(facts: Mapping[str, Any], before: Mapping[str, Mapping[str, Any]]) -> str:
    """In what these facts differ from those of the nearest known study."""
    flat = _flat(facts)
    by_study = {name: _differing(flat, _flat(others)) for name, others in before.items()}
    nearest = min(by_study, key=lambda name: len(by_study[name]))
    return f"{', '.join(by_study[nearest]) or 'nothing'} differ{_s(by_study[nearest])} from those of study {nearest}"


def _s(names: Sequence[str]) -> str:
    return "s" if len(names) == 1 else ""


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    train = {f"train.{key}": value for key, value in facts.get("train", {}).items()}
    own = {f"tune.{key}": value for key, value in facts.items() if key in TuneParams.model_fields}
    return own | train | {key: facts.get(key) for key in ("seed", "data", "start")}


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))


def _known(storage: Any) -> dict[str, dict[str, Any]]:
    studies = storage.get_all_studies()
    return {one.study_name: one.user_attrs["facts"] for one in studies if "facts" in one.user_attrs}


def _at(tree: Mapping[str, Any], key: str) -> Any:
    node: Any = tree
    for part in key.split("."):
        node = node[part]
    return node

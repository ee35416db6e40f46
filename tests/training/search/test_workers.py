"""Several processes at one study: they share its trials, and one that is killed leaves its trial to the others."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows.params_train import TrainParams
from flows.params_tune import TuneParams
from flows.training.search.search import TuneReport
from flows.training.search.store import find_store
from flows.training.search.study import load_study, study_facts
from tests.training.search.postgres import postgres_url

__all__ = ["postgres_url"]

TRIALS = 5
WORKER = """
import json, os, sys, time
from pathlib import Path
from flows.params_train import TrainParams
from flows.params_tune import TuneParams
from flows.training.search.search import search
from flows.training.search.store import find_store
from flows.training.search.study import open_study

name, address, folder, job = sys.argv[1], sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4])
params, train = TuneParams.model_validate(job["tune"]), TrainParams.model_validate(job["train"])

def once(trial):
    (folder / f"{name}-{trial.number}-{trial.origin}").touch()
    trial.report(1, trial.values["mosaic"])
    while (folder / f"hold-{name}").exists():
        time.sleep(0.01)
    trial.report(2, trial.values["mosaic"])
    return {"map50_95": trial.values["mosaic"]}

study = open_study(find_store(address, folder / "study.journal"), params, train, job["facts"])
report = search(once, study)
print(json.dumps({"done": report.num_trials, "complete": report.num_complete}))
"""


class Team:
    """Processes that search one study."""

    def __init__(self, folder: Path, address: str, base: TrainParams) -> None:
        self.folder, self.address, self.base = folder, address, base
        values = {
            **{"trials": TRIALS, "epochs": 2, "objectives": ["map50_95"], "sampler": "tpe", "pruner": "none"},
            **{"prune_from": 1, "retries": 3, "space": {"mosaic": {"low": 0.0, "high": 1.0}}},
        }
        self.params = TuneParams.model_validate(values)
        self.facts = study_facts(self.params, base, 3, f"data of {folder.name}", "start")

    @contextmanager
    def worker(self, name: str) -> Iterator[subprocess.Popen[str]]:
        job = {"tune": self.params.model_dump(), "train": self.base.model_dump(), "facts": self.facts}
        argv = [sys.executable, "-c", WORKER, name, self.address, str(self.folder), json.dumps(job)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def hold(self, name: str) -> Path:
        """While this file exists, that worker stays in its trial."""
        path = self.folder / f"hold-{name}"
        path.touch()
        return path

    def ran(self, name: str) -> list[Path]:
        return sorted(self.folder.glob(f"{name}-*"))

    def report(self) -> TuneReport:
        return load_study(find_store(self.address, self.folder / "study.journal"), self.params, self.facts).report()


@pytest.fixture(params=["journal", pytest.param("postgresql", marks=pytest.mark.deep)])
def team(request: pytest.FixtureRequest, tmp_path: Path, make_params: Callable[..., TrainParams]) -> Team:
    address = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    return Team(tmp_path, address, make_params())


def wait_for(condition: Callable[[], Any], limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def told(process: subprocess.Popen[str]) -> dict[str, int]:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    found: dict[str, int] = json.loads(out)
    return found


def test_two_workers_share_the_trials(team: Team) -> None:
    holds = [team.hold("ann"), team.hold("bob")]
    with team.worker("ann") as ann, team.worker("bob") as bob:
        wait_for(lambda: team.ran("ann") and team.ran("bob"))
        for path in holds:
            path.unlink()
        assert told(ann) == told(bob) == {"done": TRIALS, "complete": TRIALS}
    report = team.report()
    assert [row.state for row in report.trials] == ["complete"] * TRIALS
    assert len({row.params["mosaic"] for row in report.trials}) == TRIALS
    assert len({row.worker for row in report.trials}) == 2
    assert len(team.ran("ann")) + len(team.ran("bob")) == TRIALS


def test_the_trial_of_a_killed_worker_is_done_by_the_other(team: Team) -> None:
    team.hold("ann")
    with team.worker("ann") as ann:
        wait_for(lambda: team.ran("ann"))
        with team.worker("bob") as bob:
            # All that Bob may do is done: Ann's trial is hers as long as she lives.
            wait_for(lambda: len(team.ran("bob")) == TRIALS - 1)
            assert bob.poll() is None
            assert team.report().num_trials <= TRIALS - 1
            ann.kill()
            ann.wait()
            assert told(bob) == {"done": TRIALS, "complete": TRIALS}
    report = team.report()
    assert [row.state for row in report.trials] == ["fail", *["complete"] * TRIALS]
    assert report.trials[0].reason == "its worker was gone in the middle of it"
    assert report.trials[0].curve == ((1, report.trials[0].params["mosaic"]),)
    assert (report.trials[-1].origin, report.trials[-1].params) == (0, report.trials[0].params)
    assert report.trials[-1].worker != report.trials[0].worker
    assert (report.num_trials, report.num_complete, report.num_failed) == (TRIALS, TRIALS, 0)


@pytest.mark.parametrize("team", ["journal"], indirect=True)
def test_whoever_is_killed_whenever_the_study_comes_to_its_number(team: Team) -> None:
    """Workers killed one after another in their trials, until one is left to finish."""
    for name in ("ann", "bob", "cid"):
        team.hold(name)
        with team.worker(name) as process:
            wait_for(lambda name=name: team.ran(name))
            process.kill()
    with team.worker("dot") as last:
        assert told(last) == {"done": TRIALS, "complete": TRIALS}
    report = team.report()
    assert [row.origin for row in report.trials[:4]] == [0, 0, 0, 0]
    assert [row.state for row in report.trials[:4]] == ["fail", "fail", "fail", "complete"]
    assert report.num_complete == TRIALS

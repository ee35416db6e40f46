"""MLflow's client as far as runs are sent to it: keeps every telling, and can fail before or after any effect."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST


@dataclass
class FakeRun:
    number: int
    name: str
    start_time: int
    tags: dict[str, str]
    status: str = "RUNNING"
    lifecycle_stage: str = "active"
    params: dict[str, str] = field(default_factory=dict)
    told: list[tuple[str, int, float]] = field(default_factory=list)
    files: list[tuple[str, str]] = field(default_factory=list)
    inputs: set[str] = field(default_factory=set)

    @property
    def run_id(self) -> str:
        return f"run{self.number}"


class FakeMlflow:
    """`fail` is called before and after every single effect and may raise."""

    def __init__(self) -> None:
        self.runs: dict[str, FakeRun] = {}
        self.fail: Callable[[], None] = lambda: None

    def active(self) -> list[FakeRun]:
        return [run for run in self.runs.values() if run.lifecycle_stage == "active"]

    def get_run(self, run_id: str) -> Any:
        self.fail()
        return SimpleNamespace(info=self._run(run_id))

    def search_runs(self, experiments: list[str], query: str) -> list[Any]:
        self.fail()
        token = query.split("'")[1]
        return [SimpleNamespace(info=run) for run in self.active() if run.tags.get("tca.spool") == token]

    def create_run(self, experiment: str, start_time: int, tags: dict[str, str], name: str) -> Any:
        run = FakeRun(len(self.runs) + 1, name, start_time, dict(tags))
        self._effect(lambda: self.runs.__setitem__(run.run_id, run))
        return SimpleNamespace(info=run)

    def delete_run(self, run_id: str) -> None:
        self._effect(lambda: setattr(self._run(run_id), "lifecycle_stage", "deleted"))

    def update_run(self, run_id: str, status: str) -> None:
        run = self._writable(run_id)
        self._effect(lambda: setattr(run, "status", status))

    def set_terminated(self, run_id: str, status: str, end_time: int) -> None:
        run = self._writable(run_id)
        self._effect(lambda: setattr(run, "status", status))

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        run = self._writable(run_id)
        for one in metrics:
            self._effect(lambda one=one: run.told.append((one.key, one.step, one.value)))
        for one in itertools.chain(params):
            self._effect(lambda one=one: run.params.__setitem__(one.key, one.value))
        for one in tags:
            self._effect(lambda one=one: run.tags.__setitem__(one.key, one.value))

    def log_inputs(self, run_id: str, datasets: Any) -> None:
        run = self._writable(run_id)
        self._effect(lambda: run.inputs.add(datasets[0].dataset.digest))

    def log_artifact(self, run_id: str, path: str, folder: str | None) -> None:
        file = Path(path)
        kept = (file.name, file.read_text(encoding="utf-8"))
        run = self._writable(run_id)
        self._effect(lambda: run.files.append(kept))

    def get_metric_history(self, run_id: str, key: str) -> list[Any]:
        self.fail()
        return [SimpleNamespace(step=step) for name, step, _ in self._run(run_id).told if name == key]

    def _run(self, run_id: str) -> FakeRun:
        if run_id not in self.runs:
            raise MlflowException("no such run", RESOURCE_DOES_NOT_EXIST)
        return self.runs[run_id]

    def _writable(self, run_id: str) -> FakeRun:
        run = self._run(run_id)
        if run.lifecycle_stage != "active":
            raise MlflowException("The run must be in the 'active' state", INVALID_PARAMETER_VALUE)
        return run

    def _effect(self, effect: Callable[[], object]) -> None:
        self.fail()
        effect()
        self.fail()

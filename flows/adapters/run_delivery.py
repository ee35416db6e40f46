"""From the journal of a run into MLflow, each thing once, whatever was interrupted in between.

Everything but metrics can be said twice without harm. Of metrics MLflow keeps every telling, so that of a run that was
not made here and now its history is asked first, by name and step.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flows.adapters.run_entries import (
    DataUsed,
    Entry,
    Figures,
    FileKept,
    ParamsSet,
    RunStatus,
    TagsSet,
)
from flows.adapters.run_spool import Spool

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

T = TypeVar("T")
PARENT = "mlflow.parentRunId"
TOKEN = "tca.spool"
"""Tag by which a run is found again when its id was never noted."""
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./ ")
_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST")
_MAX_METRICS, _MAX_PARAMS, _MAX_TAGS, _MAX_TEXT = 1000, 100, 100, 5000


class _RunDeleted(Exception):
    """The run has been deleted in MLflow while it was written."""


class Delivery:
    """Sends one journal to one MLflow. After any exception a new one must be made: what arrived is uncertain then."""

    def __init__(self, spool: Spool, client: MlflowClient, experiment: str, on_refusal: Callable[[str], None]) -> None:
        self._spool, self._client, self._experiment, self._on_refusal = spool, client, experiment, on_refusal
        self._run_id: str | None = None
        self._known: dict[str, set[int]] = {}
        self._made_here = False

    def send(self) -> None:
        """Send what is unsent, in order, and note it. What MLflow refuses for good is told and left out.

        A run that a person has deleted meanwhile is made once more, with all that it held.
        """
        try:
            self._send()
        except _RunDeleted:
            self._run_id, self._known = None, {}
            self._send()

    def _send(self) -> None:
        from mlflow.exceptions import MlflowException

        if self._run_id is None:
            self._run_id = self._find() or self._make()
        for stored in self._spool.unsent():
            try:
                self._apply(self._run_id, stored.entry)
            except (MlflowException, FileNotFoundError) as error:
                if isinstance(error, MlflowException) and error.error_code not in _REFUSALS:
                    raise
                if not self._is_there(self._run_id):
                    raise _RunDeleted from error
                self._on_refusal(first_line(error))
            self._spool.note_sent(stored.number)

    def _find(self) -> str | None:
        """The run of this journal, if MLflow has it."""
        if self._spool.run_id is not None and self._is_there(self._spool.run_id):
            return self._spool.run_id
        found = self._search(self._spool.begun.token)
        if found is None:
            return None
        self._spool.note_made(found)
        return found

    def _make(self) -> str:
        begun = self._spool.begun
        tags = {**begun.tags, "tca.stage": begun.stage, TOKEN: begun.token}
        if begun.parent_run is not None:
            tags[PARENT] = begun.parent_run
        run = self._client.create_run(self._experiment, begun.started_ms, _texts(tags), begun.name)
        self._made_here = True
        self._spool.note_made(run.info.run_id)
        return str(run.info.run_id)

    def _search(self, token: str) -> str | None:
        """The oldest run with this token. A request that was answered too late may have made another: that goes."""
        query = f"tags.`{TOKEN}` = '{token}'"
        found: list[Run] = list(self._client.search_runs([self._experiment], query))
        found.sort(key=lambda run: (run.info.run_id != self._spool.run_id, run.info.start_time, run.info.run_id))
        for double in found[1:]:
            self._client.delete_run(double.info.run_id)
        return str(found[0].info.run_id) if found else None

    def _is_there(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return str(self._client.get_run(run_id).info.lifecycle_stage) == "active"
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _apply(self, run_id: str, entry: Entry) -> None:
        match entry:
            case ParamsSet(values=values):
                self._log_params(run_id, values)
            case TagsSet(values=values):
                self._log_tags(run_id, values)
            case Figures():
                self._log_figures(run_id, entry)
            case DataUsed(name=name, md5=md5, num_images=num_images):
                log_data(self._client, run_id, name, md5, num_images)
            case FileKept(path=path, folder=folder):
                if not Path(path).exists():
                    raise FileNotFoundError(f"{path} is gone")
                self._client.log_artifact(run_id, path, folder)
            case RunStatus():
                self._set_status(run_id, entry)

    def _log_params(self, run_id: str, values: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        for part in _parts(_texts(values).items(), _MAX_PARAMS):
            self._client.log_batch(run_id, params=[Param(key, value) for key, value in part])

    def _log_tags(self, run_id: str, values: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        for part in _parts(_texts(values).items(), _MAX_TAGS):
            self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in part])

    def _log_figures(self, run_id: str, entry: Figures) -> None:
        missing = {key: value for key, value in entry.values.items() if entry.step not in self._steps(run_id, key)}
        log_metrics(self._client, run_id, missing, entry.step, entry.at_ms)
        for key in missing:
            self._known[key].add(entry.step)

    def _steps(self, run_id: str, key: str) -> set[int]:
        """The steps at which the run has this metric."""
        if key not in self._known:
            told = [] if self._made_here else self._client.get_metric_history(run_id, clean_name(key))
            self._known[key] = {int(metric.step) for metric in told}
        return self._known[key]

    def _set_status(self, run_id: str, entry: RunStatus) -> None:
        self._log_tags(run_id, entry.tags)
        if entry.status == "RUNNING":
            self._client.update_run(run_id, status="RUNNING")
            return
        if entry.is_last:
            self._search(self._spool.begun.token)  # so that no double of it stays
        self._client.set_terminated(run_id, entry.status, entry.at_ms)


def ensure_experiment(client: MlflowClient, name: str, uri: str, home: Path) -> str:
    """The id of the experiment `name`. With a local database its files lie under `home`."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        location = (home / "mlartifacts").resolve().as_uri() if uri.startswith("sqlite:") else None
        try:
            return str(client.create_experiment(name, location))
        except MlflowException:
            if (experiment := client.get_experiment_by_name(name)) is None:  # if not, another was quicker
                raise
    return str(experiment.experiment_id)


def log_metrics(client: MlflowClient, run_id: str, values: Mapping[str, float], step: int, at_ms: int) -> None:
    """Log numbers at `step`; letters that MLflow refuses in a name become `_`."""
    from mlflow.entities import Metric

    metrics = [Metric(clean_name(key), float(value), at_ms, step) for key, value in values.items()]
    for part in _parts(metrics, _MAX_METRICS):
        client.log_batch(run_id, metrics=part)


def log_data(client: MlflowClient, run_id: str, name: str, md5: str | None, num_images: int) -> None:
    """Record a data version as the run's input."""
    from mlflow.entities import Dataset, DatasetInput

    source = json.dumps({"uri": f"dvc:{name}"})
    profile = json.dumps({"num_rows": num_images})
    dataset = Dataset(name, md5 or "unversioned", "dvc", source, profile=profile)
    client.log_inputs(run_id, datasets=[DatasetInput(dataset)])


def first_line(error: BaseException) -> str:
    """The gist of an error that came from outside."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def clean_name(name: str) -> str:
    """A metric's name in the letters that MLflow allows."""
    return "".join(letter if letter in _LETTERS else "_" for letter in name)


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value)[:_MAX_TEXT] for key, value in values.items()}


def _parts(values: Iterable[T], size: int) -> Iterable[list[T]]:
    rest = iter(values)
    while part := list(islice(rest, size)):
        yield part

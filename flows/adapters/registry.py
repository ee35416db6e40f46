"""MLflow: runs with their metrics, the registered model with its versions and aliases, and the champion's pointer file.

The pointer (champion.json) is what DVC sees of the throne: its content is a dependency of training and evaluation.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.adapters.kept_run import now_ms
from flows.adapters.run_delivery import ensure_experiment, first_line, log_data, log_metrics
from flows.adapters.run_sender import require_answer, shown_uri
from flows.adapters.runs import Runs
from flows.errors import OutsideError, ProjectError

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
ACCURACY = "tca.map50_95"  # tag of a version: mAP50-95 on the frozen frames, with its interval
BEFORE = "tca.before"  # tag of a version: who reigned before it


@dataclass(frozen=True)
class ModelVersion:
    """A registered model: its number, the digest of its model.json, and the run that made it."""

    version: str
    digest: str
    run_id: str
    tags: Mapping[str, str]


class Registry:
    """One registered model in one MLflow store, and the pointer to its champion.

    Every method raises OutsideError when the store does not answer.
    """

    def __init__(self, tracking_uri: str, name: str, home: Path, pointer: Path) -> None:
        self._uri, self._name, self._home, self._pointer = tracking_uri, name, home, pointer
        self._opened: MlflowClient | None = None

    @property
    def _client(self) -> MlflowClient:
        if self._opened is None:
            self._home.mkdir(parents=True, exist_ok=True)
            from mlflow import MlflowClient

            with _reached(self._uri):
                self._opened = MlflowClient(self._uri, self._uri)
        return self._opened

    @property
    def _experiment(self) -> str:
        return ensure_experiment(self._client, self._name, self._uri, self._home)

    @property
    def runs(self) -> Runs:
        """Runs that are written to disk first and sent when MLflow answers."""
        return Runs(self._uri, self._name, self._home)

    @contextmanager
    def run(self, stage: str, tags: Mapping[str, str], *, resume: str | None = None) -> Iterator[RunLog]:
        """A run of `stage`; it ends as FAILED when the body raises, as KILLED when it was interrupted.

        Args:
            resume: Id of an interrupted run to go on in, instead of a new one; it is set back to RUNNING.
        """
        self.runs.send()  # what earlier runs could not send
        client = self._client
        tags = {**tags, "tca.stage": stage}
        with _reached(self._uri):
            run_id = resume or client.create_run(self._experiment, run_name=stage, tags=tags).info.run_id
            if resume:
                client.update_run(run_id, status="RUNNING")
        try:
            yield RunLog(client, run_id)
        except BaseException as error:
            client.set_terminated(run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        client.set_terminated(run_id, "FINISHED")

    def register(self, run_id: str, artifact_dir: Path, digest: str, tags: Mapping[str, str]) -> ModelVersion:
        """Register the files of `artifact_dir` under `run_id` as a new version and as the challenger.

        A digest that is registered already keeps its version. The version is created last, so that an interruption
        leaves artifacts of a run but never half a version.
        """
        client = self._client
        with _reached(self._uri):
            self._ensure_model()
            found = self._find(digest)
            if found is None:
                client.log_artifacts(run_id, str(artifact_dir), "package")
                source = f"{client.get_run(run_id).info.artifact_uri}/package"
                made = client.create_model_version(
                    self._name, source, run_id, tags={**tags, "tca.digest": digest}, await_creation_for=0
                )
                found = ModelVersion(str(made.version), digest, run_id, dict(made.tags))
            client.set_registered_model_alias(self._name, CHALLENGER, found.version)
        return found

    def by_alias(self, alias: str) -> ModelVersion | None:
        """The version that `alias` names, if any."""
        from mlflow.exceptions import MlflowException

        with _reached(self._uri):
            try:
                return _version(self._client.get_model_version_by_alias(self._name, alias))
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise

    def versions(self) -> list[ModelVersion]:
        """All versions, oldest first."""
        with _reached(self._uri):
            found = self._client.search_model_versions(f"name = '{self._name}'")
        return sorted(map(_version, found), key=lambda one: int(one.version))

    def get(self, version: str) -> ModelVersion:
        """One version by its number. Raises ProjectError when there is none."""
        for one in self.versions():
            if one.version == version:
                return one
        raise ProjectError(f"there is no version {version} of {self._name}", "See: tca status")

    def describe(self, version: str, markdown: str) -> None:
        """Set the description that MLflow shows of a version."""
        with _reached(self._uri):
            self._client.update_model_version(self._name, version, markdown)

    def tag(self, version: str, tags: Mapping[str, str]) -> None:
        """Set tags on a version."""
        with _reached(self._uri):
            for key, value in tags.items():
                self._client.set_model_version_tag(self._name, version, key, value)

    def download(self, version: ModelVersion) -> Path:
        """The version's package folder on this machine, fetched once and kept by digest."""
        kept = self._kept(version)
        if not kept.is_dir():
            kept.parent.mkdir(parents=True, exist_ok=True)
            with _reached(self._uri), tempfile.TemporaryDirectory(dir=kept.parent) as draft:
                path = Path(self._client.download_artifacts(version.run_id, "package", draft))
                path.replace(kept)
        return kept

    def set_champion(self, version: str, digest: str) -> None:
        """Move the aliases, then the pointer file. Idempotent.

        A new champion makes the one before `previous`. Going back to `previous` makes the one before that `previous`,
        never the version that was just sent away: a second step back goes further back.
        """
        current, previous = self.champion(), self.by_alias(PREVIOUS)
        with _reached(self._uri):
            back = previous if previous is not None and previous.version == version else None
            if back is None and current is not None and current.version != version:
                self._client.set_model_version_tag(self._name, version, BEFORE, current.version)
                self._set_previous(current.version)
            self._client.set_registered_model_alias(self._name, CHAMPION, version)
            if back is not None:  # last, so that whoever was killed in between goes back once more, not forward
                self._set_previous(back.tags.get(BEFORE, ""))
        write_pointer(self._pointer, version, digest)

    def clear_champion(self) -> None:
        """Have nobody reign: alias, then pointer. For a first champion that was taken back. Idempotent."""
        with _reached(self._uri):
            self._client.delete_registered_model_alias(self._name, CHAMPION)
        write_pointer(self._pointer, None, None)

    def champion(self) -> ModelVersion | None:
        """The version that the alias calls champion, if any."""
        return self.by_alias(CHAMPION)

    def reigning(self) -> ModelVersion | None:
        """The champion that alias and pointer agree on, or None where both say that there is none.

        Raises:
            ProjectError: They differ. To train or judge against either would hide a lost registry behind a "first
                champion".
        """
        pointed, champion = read_pointer(self._pointer), self.champion()
        if pointed == (None if champion is None else (champion.version, champion.digest)):
            return champion
        said = f"version {pointed[0]}" if pointed else "no champion"
        known = f"version {champion.version}" if champion else "none"
        raise ProjectError(
            f"{self._pointer.name} names {said}, but the registry has {known}",
            "Check MLFLOW_TRACKING_URI; after an interrupted promotion: tca promote; "
            f"otherwise: git checkout {self._pointer.name}",
        )

    def known_champion(self) -> ModelVersion | None:
        """As `reigning`; where MLflow does not answer, the one of the pointer file, if its package is kept here.

        Of the latter nothing is known but version and digest.

        Raises:
            OutsideError: MLflow does not answer, and the champion's package was never fetched to this machine.
            ProjectError: As `reigning`.
        """
        pointed = read_pointer(self._pointer)
        try:
            with _reached(self._uri):
                require_answer(self._uri)
            return self.reigning()
        except OutsideError:
            if pointed is None:
                return None
            version = ModelVersion(*pointed, run_id="", tags={})
            if not self._kept(version).is_dir():
                raise
            return version

    def _kept(self, version: ModelVersion) -> Path:
        return self._home / "models" / version.digest[:16]

    def _set_previous(self, version: str) -> None:
        if version:
            self._client.set_registered_model_alias(self._name, PREVIOUS, version)
        else:
            self._client.delete_registered_model_alias(self._name, PREVIOUS)

    def _ensure_model(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.get_registered_model(self._name)
        except MlflowException:
            self._client.create_registered_model(self._name)

    def _find(self, digest: str) -> ModelVersion | None:
        return next((one for one in self.versions() if one.digest == digest), None)


class RunLog:
    """What a stage writes into its MLflow run."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client, self.run_id = client, run_id

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers at `step`; letters that MLflow refuses in a name become `_`."""
        log_metrics(self._client, self.run_id, values, step, now_ms())

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters as text."""
        from mlflow.entities import Param

        self._client.log_batch(self.run_id, params=[Param(key, str(value)[:6000]) for key, value in values.items()])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file with the run."""
        self._client.log_artifact(self.run_id, str(path), folder)

    def data(self, name: str, md5: str | None, num_images: int) -> None:
        """Record the data version as the run's input."""
        log_data(self._client, self.run_id, name, md5, num_images)


def read_pointer(path: Path) -> tuple[str, str] | None:
    """Version and digest of the champion, or None while there is none. Raises ProjectError when unreadable."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, digest = content["version"], content["digest"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise ProjectError(f"{path.name} is not a champion pointer", f"Restore it: git checkout {path.name}") from None
    return None if version is None else (str(version), str(digest))


def write_pointer(path: Path, version: str | None, digest: str | None) -> None:
    """Point at a champion, atomically."""
    draft = path.with_name(f"{path.name}.draft")
    with draft.open("w", encoding="utf-8") as sink:
        sink.write(json.dumps({"version": version, "digest": digest}) + "\n")
        sink.flush()
        os.fsync(sink.fileno())
    draft.replace(path)


def _version(found: Any) -> ModelVersion:
    return ModelVersion(str(found.version), found.tags.get("tca.digest", ""), str(found.run_id), dict(found.tags))


@contextmanager
def _reached(uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        raise OutsideError(
            f"MLflow at {shown_uri(uri)} failed: {first_line(error)}", "Check MLFLOW_TRACKING_URI"
        ) from error

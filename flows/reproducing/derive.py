"""The record of a version that was packaged without one: what its tags and its reports still say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bentos.detector.contract import SPEC_FILE
from flows.adapters.registry import ModelVersion
from flows.errors import ProjectError
from flows.reproducing.collect import read_json, read_results, told_start
from flows.reproducing.record import Champion, Environment, Record, Source


def derive_record(version: ModelVersion, package_dir: Path) -> Record:
    """A record whose `lacks` say what nobody wrote down. It is never written back.

    Raises:
        ProjectError: The package has no report of its training.
    """
    reports = package_dir / "reports"
    if not (reports / "train.json").is_file():
        raise ProjectError(
            f"version {version.version} carries no report of its training, so nothing says how it was made"
        )
    train = read_json(reports / "train.json")
    evaluation = read_json(reports / "evaluate.json") if (reports / "evaluate.json").is_file() else None
    made = train.get("provenance", {})
    model = read_json(package_dir / "model" / SPEC_FILE)
    commit, data_md5 = (version.tags.get(f"tca.{key}") or made.get(key) for key in ("git_commit", "data_md5"))
    return Record(
        model_name=model["name"],
        model_digest=version.digest,
        source=Source(commit=commit, patch="", changed=()),
        params_yaml=None,
        data_md5=data_md5,
        start=told_start(train),
        champion=_champion(evaluation),
        environment=_environment(made),
        seed=int(made.get("seed", train.get("seed", 0))),
        results=read_results(train, evaluation, model, ()),
        files={},
        mlflow_run_ids={},
        lacks=_lacks(version, made, commit, data_md5),
    )


def _lacks(version: ModelVersion, made: dict[str, Any], commit: str | None, data_md5: str | None) -> tuple[str, ...]:
    dirty = "True" in (version.tags.get("tca.git_dirty", "True"), str(made.get("git_dirty")))
    found = {
        "nothing names its git commit": commit is None,
        "the working tree had uncommitted changes, and nothing holds them": commit is not None and dirty,
        "nothing names the version of its data": data_md5 is None,
        "nothing names the versions of its packages": not made.get("versions"),
    }
    return tuple(lack for lack, applies in found.items() if applies)


def _champion(evaluation: dict[str, Any] | None) -> Champion | None:
    version = evaluation.get("champion_version") if evaluation else None
    return Champion(version=str(version), digest=None) if version else None


def _environment(made: dict[str, Any]) -> Environment:
    versions = dict(made.get("versions", {}))
    return Environment(
        python=versions.pop("python", ""),
        packages=versions,
        constraints_sha256=None,
        hardware=made.get("hardware", "unknown"),
    )

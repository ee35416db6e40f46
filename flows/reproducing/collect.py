"""What `package` puts into the record of a version: gathered from git, params.yaml, the reports and the model."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bentos.detector.contract import SPEC_FILE, file_sha256
from flows.adapters.registry import Registry, read_pointer
from flows.adapters.worktree import read_changes, read_commit
from flows.errors import OutsideError
from flows.params import Params
from flows.provenance import ABSENT, Provenance, read_installed
from flows.reproducing.record import Champion, Environment, Figure, Record, Results, Source, Start, hash_files
from flows.settings import Project

# A result is made of these. Other files, .dvc/config with its remotes among them, never enter a record.
SOURCES = ("flows", "bentos", "dvc.yaml", "pyproject.toml", "constraints.txt")
MAX_PATCH_BYTES = 1_000_000
_SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}|\bxox[abp]-[0-9]"
    r"|secret_access_key\s*[=:]\s*\S+|://[^/\s:@{}<>]+:[^/\s@{}<>]+@",
    re.IGNORECASE,
)
# What differs from run to run however alike they are.
_TIMES = ("seconds", "images_per_s", "wait_share", "memory_gb", "gpu_memory_gb", "gpu_use")


def collect_record(
    project: Project, params: Params, provenance: Provenance, registry: Registry, package_dir: Path
) -> Record:
    """The record of the package that lies in `package_dir`, reports and model included.

    What stands in the way of making the version again is listed, not raised: a model is not worse for it.
    """
    train, evaluation = (read_json(package_dir / "reports" / f"{name}.json") for name in ("train", "evaluate"))
    model = read_json(package_dir / "model" / SPEC_FILE)
    source, lacks = collect_source(project.root)
    text = project.params_file.read_text(encoding="utf-8")
    if _SECRETS.search(text):
        lacks, text = (*lacks, "params.yaml seems to hold a secret, so it was not recorded"), ""
    pointer = read_pointer(project.champion_file)
    start = find_start(project, params, train, registry, pointer)
    if provenance.data_md5 is None:
        lacks = (*lacks, "the data have no version")
    return Record(
        model_name=params.package.name,
        model_digest=model["digest"],
        source=source,
        params_yaml=text or None,
        data_md5=provenance.data_md5,
        start=start,
        champion=Champion(version=pointer[0], digest=pointer[1]) if pointer else None,
        environment=_environment(project, train["provenance"]),
        seed=params.seed,
        results=read_results(train, evaluation, model, read_epochs(project.artifacts / "training" / "epochs.csv")),
        files=hash_files(package_dir),
        mlflow_run_ids={"train": train["mlflow_run_id"]} if train.get("mlflow_run_id") else {},
        lacks=lacks,
    )


def collect_source(root: Path) -> tuple[Source, tuple[str, ...]]:
    """Commit and uncommitted changes, and what of them could not be recorded."""
    commit = read_commit(root)
    if commit is None:
        return Source(commit=None, patch="", changed=()), ("there is no git commit",)
    try:
        patch, changed = read_changes(root, SOURCES)
        text = patch.decode()
    except OutsideError as error:
        return Source(commit=commit, patch="", changed=()), (error.message,)
    except UnicodeDecodeError:
        return Source(commit=commit, patch="", changed=changed), ("the uncommitted changes are no UTF-8 text",)
    added = "\n".join(line for line in text.splitlines() if line.startswith("+"))
    if _SECRETS.search(added):
        lack = "the uncommitted changes seem to hold a secret, so they were not recorded"
    elif len(patch) > MAX_PATCH_BYTES:
        lack = f"the uncommitted changes are {len(patch):,} bytes, more than the {MAX_PATCH_BYTES:,} a record takes"
    else:
        return Source(commit=commit, patch=text, changed=changed), ()
    return Source(commit=commit, patch="", changed=changed), (lack,)


def find_start(
    project: Project,
    params: Params,
    train: Mapping[str, Any],
    registry: Registry,
    pointer: tuple[str, str] | None,
) -> Start:
    """What the training started from, with the digest of the file where it is still to be found."""
    told = told_start(train)
    if told.sha256 is None:
        return told
    champion = pointer if params.train.may_start_from_champion else None
    if champion is not None:
        file = registry.download(registry.get(champion[0])) / "model" / "weights.pt"
    else:
        file = project.root / params.train.model
    full = file_sha256(file) if file.is_file() else told.sha256
    sha256 = full if full.startswith(told.sha256) else told.sha256
    return Start(kind="champion" if champion else "checkpoint", name=told.name, sha256=sha256)


def told_start(train: Mapping[str, Any]) -> Start:
    """What the report says that the training started from, with the digits of the digest that it gives."""
    told = str(train["started_from"])
    if told.endswith((".yaml", ".yml")):
        return Start(kind="architecture", name=told, sha256=None)
    name, _, digits = told.rpartition(" ")
    # A champion's weights are always called so; `train` reads them out of its package.
    return Start(kind="champion" if name == "weights.pt" else "checkpoint", name=name, sha256=digits)


def read_results(
    train: Mapping[str, Any],
    evaluation: Mapping[str, Any] | None,
    model: Mapping[str, Any] | None,
    epochs: tuple[dict[str, float], ...],
) -> Results:
    """The figures of reports/train.json and, where they are there, of model.json and of reports/evaluate.json."""
    challenger = evaluation["challenger"] if evaluation else None
    estimate = challenger["figures"]["map50_95"] if challenger else {}
    return Results(
        weights_sha256=train["weights_sha256"],
        best_epoch=train["best_epoch"],
        map50_95=train["map50_95"],
        epochs=epochs,
        num_threads=train.get("num_threads"),
        num_processes=train.get("num_processes") or 1,
        precision=train.get("precision") or "",
        onnx_sha256=model["files"].get("model.onnx") if model else None,
        engine=f"{model['engine']['kind']} {model['engine']['precision']}" if model else None,
        model_digest=model["digest"] if model else None,
        frozen_map50_95=Figure(**{key: estimate[key] for key in Figure.model_fields}) if estimate else None,
        ground_truth_sha256=evaluation["ground_truth_sha256"] if evaluation else None,
        predictions_sha256=challenger["predictions_sha256"] if challenger else None,
    )


def read_epochs(path: Path) -> tuple[dict[str, float], ...]:
    """The rows of epochs.csv without times and memory; empty where there is no such file."""
    if not path.is_file():
        return ()
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return tuple({key: float(text) for key, text in row.items() if key not in _TIMES and text} for row in rows)


def constraints_digest(root: Path) -> str | None:
    """sha256 of constraints.txt; None where there is none."""
    path = root / "constraints.txt"
    return file_sha256(path) if path.is_file() else None


def _environment(project: Project, made: Mapping[str, Any]) -> Environment:
    """What is installed; where the training ran with another version, that one."""
    versions = dict(made["versions"])
    return Environment(
        python=versions.pop("python"),
        packages=read_installed() | {name: version for name, version in versions.items() if version != ABSENT},
        constraints_sha256=constraints_digest(project.root),
        hardware=made["hardware"],
    )


def read_json(path: Path) -> dict[str, Any]:
    """A report, or model.json."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content

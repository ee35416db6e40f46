"""The record of a registered version: everything that is needed to make it again, and what came of it the first time.

It travels as record.json in the version's package. Its digest is also a tag of the version, so that a record that was
changed afterwards is noticed even where its own digest was made anew.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bentos.detector.contract import file_sha256, read_spec
from flows.errors import InputError, ProjectError

RECORD_FILE = "record.json"
RECORD_TAG = "tca.record"  # tag of a version: digest of its record


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Source(_Frozen):
    """The code. `patch` holds what was not committed, in git's format; empty where all was."""

    commit: str | None = Field(description="git commit, 40 hex digits; null: there was none")
    patch: str = Field(description="uncommitted changes of the files a result is made of; new files included")
    changed: tuple[str, ...] = Field(description="files that the patch changes or adds")


class Start(_Frozen):
    """The weights that the training started from."""

    kind: Literal["architecture", "champion", "checkpoint"] = Field(description="what was given")
    name: str = Field(description="name of the architecture, or of the file")
    sha256: str | None = Field(description="of the file, or the first digits of it; null for an architecture")


class Champion(_Frozen):
    """The version that reigned when the model was trained and judged."""

    version: str = Field(description="registered version")
    digest: str | None = Field(description="sha256 that its model.json carries; null: not recorded")


class Environment(_Frozen):
    """What was installed, and on what it ran."""

    python: str = Field(description="version of Python")
    packages: dict[str, str] = Field(description="installed packages with their versions")
    constraints_sha256: str | None = Field(description="of constraints.txt; null: there was none")
    hardware: str = Field(description="processor, cores, vector instructions, GPU of the training")


class Figure(_Frozen):
    """A figure with the interval it was registered with; without one where the units were too few."""

    value: float | None
    lower: float | None
    upper: float | None


class Results(_Frozen):
    """What came of it, to compare with."""

    weights_sha256: str = Field(description="over the tensors of the weights")
    best_epoch: int = Field(description="epoch of the weights, counted from 1")
    map50_95: float = Field(description="of the weights on the validation split, Ultralytics' measure")
    epochs: tuple[dict[str, float], ...] = Field(description="losses, scores and learning rate of each epoch")
    num_threads: int | None = Field(default=None, description="threads of PyTorch")
    num_processes: int = Field(default=1, description="processes that trained together")
    precision: str = Field(default="", description="arithmetic of the training")
    onnx_sha256: str | None = Field(default=None, description="of model.onnx")
    engine: str | None = Field(default=None, description="engine and precision that export chose")
    model_digest: str | None = Field(default=None, description="sha256 that model.json carries")
    frozen_map50_95: Figure | None = Field(default=None, description="on the frozen frames, as it serves")
    ground_truth_sha256: str | None = Field(default=None, description="of the frozen frames' labels")
    predictions_sha256: str | None = Field(default=None, description="of its detections on the frozen frames")


class Record(_Frozen):
    """record.json."""

    schema_version: Literal[1] = 1
    model_name: str = Field(description="registered model")
    model_digest: str = Field(description="sha256 that model.json carries; it names the digest of each file there")
    source: Source
    params_yaml: str | None = Field(description="params.yaml, word for word; null: as committed")
    data_md5: str | None = Field(description="version of the data, as data.dvc names it")
    start: Start
    champion: Champion | None = Field(description="null: there was none")
    environment: Environment
    seed: int = Field(description="of all random draws")
    results: Results
    files: dict[str, str] = Field(description="every other file of the package to its sha256: reports, card, bento")
    mlflow_run_ids: dict[str, str] = Field(description="stage to the run that holds its metrics")
    lacks: tuple[str, ...] = Field(description="why it cannot be made again from this record; empty: it can")
    digest: str = Field(default="", description="sha256 over all the rest, see `record_digest`")


def record_digest(record: Record) -> str:
    """sha256 hex over the canonical JSON (sorted keys, compact) of everything in `record` but its digest."""
    content = record.model_dump(mode="json", exclude={"digest"})
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_record(package_dir: Path, record: Record) -> Record:
    """Write record.json with its digest filled in, and return the record as written."""
    sealed = record.model_copy(update={"digest": record_digest(record)})
    (package_dir / RECORD_FILE).write_text(sealed.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return sealed


def read_record(package_dir: Path, tagged: str | None = None) -> Record | None:
    """The record of a package, checked against its own digest and every file it names; None where there is none.

    Args:
        tagged: The digest that the registry has for it.

    Raises:
        InputError: Record, a report or the model was changed after packaging, or the record is of a newer form.
        ProjectError: The registry has a digest, but the package has no record.
    """
    path = package_dir / RECORD_FILE
    if not path.is_file():
        if tagged:
            raise ProjectError(f"the package has no {RECORD_FILE}, but the registry has the digest of one")
        return None
    try:
        record = Record.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or RECORD_FILE
        raise InputError(f"{RECORD_FILE} of the package: {where}: {first['msg']}") from None
    if record.digest != record_digest(record) or (tagged and tagged != record.digest):
        raise _changed(RECORD_FILE)
    for name, sha256 in record.files.items():
        if not (package_dir / name).is_file() or file_sha256(package_dir / name) != sha256:
            raise _changed(name)
    if read_spec(package_dir / "model").digest != record.model_digest:
        raise _changed("model/model.json")
    return record


def hash_files(package_dir: Path) -> dict[str, str]:
    """sha256 of each file of a package, by its path in it; model/ aside, whose files model.json names."""
    names = sorted(path.relative_to(package_dir) for path in package_dir.rglob("*") if path.is_file())
    return {
        name.as_posix(): file_sha256(package_dir / name)
        for name in names
        if name.parts[0] not in ("model", RECORD_FILE)
    }


def _changed(name: str) -> InputError:
    return InputError(
        f"{name} is not what was registered: it was changed after packaging",
        "Restore the package in the artifact store; a damaged copy in .tca/models can simply be removed",
    )

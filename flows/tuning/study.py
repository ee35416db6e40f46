"""Which study a project's parameters, data and champion mean, and where it is kept."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bentos.detector.contract import file_sha256
from flows.adapters.registry import Registry
from flows.dataset.layout import Dataset, read_dataset
from flows.errors import CheckpointError, DataError, ParamsError
from flows.exporting.candidates import list_candidates
from flows.params import Params
from flows.params_tune import Choices
from flows.provenance import read_data_md5
from flows.serving import registry_of
from flows.settings import Project
from flows.training.checkpoints import find_start
from flows.training.search.space import check_space
from flows.training.search.store import Store, find_store
from flows.training.search.study import SharedStudy, load_study, study_facts


@dataclass(frozen=True)
class StartWeights:
    """What every trial starts from. `name` tells it from others; without a checkpoint it is `train.model`."""

    name: str
    checkpoint: Path | None = None


def find_storage(project: Project) -> Store:
    """The storage that TCA_TUNE_STORAGE in the environment names, else a journal in the project's own folder."""
    return find_store(os.environ.get("TCA_TUNE_STORAGE", "").strip(), project.home / "tune" / "study.journal")


def require_sense(project: Project, params: Params) -> None:
    """Refuse what cannot be searched, before anything is trained.

    Raises:
        ParamsError: Training refuses a value of the space, named with its line; the objectives do not fit the task; or
            the model is searched while trials start from the champion.
        CheckpointError: A choice of the model is none.
        EngineUnavailable: The latency is sought, and this machine can build no engine that export asks for.
    """
    for key, searched in params.tune.space.items():
        try:
            check_space({key: searched}, params.train)
        except ParamsError as error:
            line = _line_of(project.params_file, ("tune", "space", key))
            raise ParamsError(f"{project.params_file.name}:{line}: {error.message}", error.remedy) from None
    task, objectives, models = params.train.task, params.tune.objectives, params.tune.space.get("model")
    if task == "classify" and "map50_95" in objectives:
        raise ParamsError("tune.objectives: a classifier has no mAP50-95", "Set tune.objectives=[score]")
    if "latency_ms" in objectives:
        if task != "detect":
            raise ParamsError(f"tune.objectives: latency_ms needs an export, which train.task={task} has not")
        list_candidates(params.export)
    if models is None:
        return
    if params.train.may_start_from_champion:
        raise ParamsError("tune.space.model: trials start from the champion", "Set train.start_from=model")
    for model in models.choices if isinstance(models, Choices) else ():
        try:
            find_start(str(model), task)
        except CheckpointError as error:
            raise CheckpointError(error.message.replace("train.model", "tune.space.model"), error.remedy) from None


def find_start_weights(project: Project, params: Params, registry: Registry, *, fetch: bool = True) -> StartWeights:
    """What trials start from, as training would; the champion's package is brought here if `fetch`."""
    if params.train.may_start_from_champion and (champion := registry.known_champion()) is not None:
        weights = registry.download(champion) / "model" / "weights.pt" if fetch else None
        return StartWeights(f"champion {champion.digest[:16]}", weights)
    if "model" in params.tune.space:
        return StartWeights("model, which is searched")
    start = find_start(params.train.model, params.train.task)
    if isinstance(start, Path):
        return StartWeights(f"{start.name} {file_sha256(start)[:16]}")
    return StartWeights(start)


def facts_of(params: Params, dataset: Dataset, data_md5: str | None, start: StartWeights) -> dict[str, Any]:
    """What defines the study of this project as it is now; see `study_facts`."""
    data = f"{(data_md5 or 'unversioned')[:16]} {_look(dataset)}"
    return study_facts(params.tune, params.train, params.seed, data, start.name)


def current_study(project: Project, params: Params) -> SharedStudy:
    """The study of this project as it is now, to be looked at.

    Raises:
        ProjectError: There is none; the message says what differs from the nearest one.
    """
    start = find_start_weights(project, params, registry_of(project), fetch=False)
    facts = facts_of(params, read_dataset(project.data), read_data_md5(project.root), start)
    return load_study(find_storage(project), params.tune, facts)


def _line_of(params_file: Path, keys: tuple[str, ...]) -> int:
    """The line, from 1, on which the value of `keys` begins."""
    node: Any = yaml.compose(params_file.read_text(encoding="utf-8"))
    for key in keys:
        node = next(value for name, value in node.value if name.value == key)
    return int(node.start_mark.line) + 1


def _look(dataset: Dataset) -> str:
    """16 hex digits over names and sizes of the images and over the labels, of what trials train and validate on."""
    digest = hashlib.sha256(repr(dataset.classes).encode())
    for split in ("train", "val"):
        for frame in dataset.split(split):
            try:
                size, labels = (dataset.root / frame.image).stat().st_size, (dataset.root / frame.label).read_bytes()
            except FileNotFoundError as error:
                raise DataError(
                    f"{Path(str(error.filename)).relative_to(dataset.root)} is missing", "Run: tca validate"
                ) from None
            digest.update(f"{split} {frame.image} {size}\n".encode() + labels)
    return digest.hexdigest()[:16]

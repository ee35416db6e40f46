"""What a reproduction starts from: the version and its record, the champion of then, the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from bentos.detector.contract import file_sha256
from flows.adapters.registry import CHALLENGER, CHAMPION, PREVIOUS, ModelVersion, Registry
from flows.errors import InputError, ProjectError
from flows.reproducing.derive import derive_record
from flows.reproducing.record import RECORD_TAG, Record, read_record
from flows.settings import Project


@dataclass(frozen=True)
class Given:
    """What comes from outside git and DVC: the champion with its package folder, the checkpoint to start from, and
    other values for params.yaml.
    """

    champion: tuple[ModelVersion, Path] | None
    checkpoint: Path | None
    overrides: tuple[str, ...] = ()


def find_version(registry: Registry, word: str) -> ModelVersion:
    """The version of that number, or the one that the alias champion, challenger or previous names."""
    named = registry.by_alias(word) if word in (CHAMPION, CHALLENGER, PREVIOUS) else None
    return named or registry.get(word)


def read_or_derive(version: ModelVersion, registry: Registry) -> Record:
    """The record that the version carries, or what its tags and reports say in its place."""
    package_dir = registry.download(version)
    record = read_record(package_dir, version.tags.get(RECORD_TAG))
    if record is not None and record.model_digest != version.digest:
        raise InputError(f"the package of version {version.version} is that of another model")
    return record or derive_record(version, package_dir)


def require_whole(version: ModelVersion, record: Record) -> Record:
    """Raises ProjectError naming everything that the record lacks."""
    if record.lacks:
        raise ProjectError(f"version {version.version} cannot be made again: {'; '.join(record.lacks)}")
    return record


def require_one_machine(record: Record, overrides: Sequence[str]) -> None:
    """Raises InputError when the training was shared by several machines, and nobody said how to do it on one."""
    section = "train.distributed.nodes"
    content = yaml.safe_load(record.params_yaml or "") or {}
    nodes = int(content.get("train", {}).get("distributed", {}).get("nodes", 1))
    if nodes > 1 and not any(override.partition("=")[0].strip() == section for override in overrides):
        raise InputError(
            f"it was trained on {nodes} machines; a tree has only this one",
            f"Add: -S {section}=1, and train.distributed.processes_per_node as there is room for (sums are then "
            "rounded in another order, so that the weights may differ)",
        )


def gather(project: Project, registry: Registry, record: Record, start: Path | None) -> Given:
    """The champion of then from the registry, and the checkpoint that the training started from.

    Raises:
        ProjectError: One of them is not to be found, or is not the one that was recorded.
    """
    champion = None
    if record.champion is not None:
        then = registry.get(record.champion.version)
        if record.champion.digest not in (None, then.digest):
            raise ProjectError(f"version {then.version}, which reigned then, has another digest in this registry")
        champion = (then, registry.download(then))
    origin = record.start
    if origin.kind == "architecture":
        return Given(champion, None)
    if origin.kind == "champion":
        if champion is None:
            raise ProjectError("the training went on from a champion, and the record does not say which")
        _require_digest(champion[1] / "model" / "weights.pt", origin.sha256, "the champion's weights")
        return Given(champion, None)
    return Given(champion, find_checkpoint(project, record, start))


def find_checkpoint(project: Project, record: Record, start: Path | None) -> Path:
    """The checkpoint of `--start`, or the one that params.yaml named, if it is still there and the same."""
    path = start or project.root / _named_model(project, record)
    if not path.is_file():
        digits = str(record.start.sha256)[:12]
        raise ProjectError(
            f"the training started from {record.start.name} (sha256 {digits}...), which is not at {path}",
            f"Name it: tca reproduce ... --start {record.start.name}",
        )
    _require_digest(path, record.start.sha256, str(path))
    return path.resolve()


def _require_digest(path: Path, sha256: str | None, what: str) -> None:
    if not path.is_file() or not file_sha256(path).startswith(sha256 or " "):
        raise ProjectError(f"{what}: not the file that the training started from (sha256 {str(sha256)[:12]}...)")


def _named_model(project: Project, record: Record) -> str:
    """`train.model` of the recorded params.yaml, or of the present one where none was recorded."""
    text = record.params_yaml or project.params_file.read_text(encoding="utf-8")
    return str(yaml.safe_load(text)["train"]["model"])

"""What can be compared: registered versions, model directories, checkpoints and the front of a tuning, as models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bentos.detector.contract import file_sha256, read_spec
from bentos.detector.errors import DetectorError
from flows.adapters.registry import CHALLENGER, CHAMPION, PREVIOUS, ModelVersion, Registry
from flows.dataset.layout import Dataset
from flows.errors import InputError, ProjectError
from flows.evidence import gather_evidence
from flows.exporting.export import export_model
from flows.progress import Progress
from flows.stage import StageRun

Kind = Literal["version", "directory", "checkpoint", "trial"]
_ALIASES = (CHAMPION, CHALLENGER, PREVIOUS)
_EXPECTED = "Expected a registered version (3), challenger or previous, a model directory, or a checkpoint (.pt)"


@dataclass(frozen=True)
class Entry:
    """One candidate before it is loaded: a model directory, or a checkpoint that must be exported first."""

    name: str
    kind: Kind
    path: Path
    next_step: str  # what to do if it wins
    version: ModelVersion | None = None


@dataclass(frozen=True)
class Exported:
    """A candidate as a model directory, or why there is none."""

    entry: Entry
    model_dir: Path
    digest: str
    engine: str
    refusal: str = ""


def find_entries(run: StageRun, named: Sequence[str], front: bool) -> list[Entry]:
    """The candidates that were named, then those of the tuning's front.

    Raises:
        InputError: Something named is no model.
        ProjectError: There is no such version, or no model of the front is kept.
    """
    entries = [_named(run, text) for text in named]
    if front:
        entries += _front(run)
    if not entries:
        raise InputError("no candidate is named", f"{_EXPECTED}; or --front")
    return entries


def require_different(models: Sequence[Exported], champion: ModelVersion | None) -> None:
    """Refuse a model that is compared with itself. Raises InputError."""
    seen: dict[str, str] = {} if champion is None else {champion.digest: f"the champion, version {champion.version}"}
    for one in models:
        if one.digest in seen:
            raise InputError(f"{one.entry.name} is {seen[one.digest]}", "Name each model once, and not the champion")
        seen[one.digest] = f"the same model as {one.entry.name}"


def export_entry(run: StageRun, dataset: Dataset, entry: Entry) -> Exported:
    """The model directory of a candidate. A checkpoint is exported once, judged on val as in a tuning, and kept.

    Raises:
        InputError: Its model.json is missing or was changed.
        CheckpointError: The checkpoint is none of a detector.
    """
    if entry.kind in ("version", "directory"):
        return _described(entry, entry.path)
    folder = run.project.home / "compare" / _export_key(run, entry.path)
    refusal = folder.with_name(f"{folder.name}.refusal")  # written last; empty where an engine may serve
    if not refusal.is_file():
        refusal.parent.mkdir(parents=True, exist_ok=True)
        report = export_model(
            entry.path,
            folder,
            run.params.export,
            run.params.package.name,
            run.params.train.image_size,
            gather_evidence(run, dataset, run.params.evaluate.model_copy(update={"split": "val"})),
            _told(run, entry.name),
        )
        refusal.write_text("" if report.passed else report.sentence, encoding="utf-8")
    return replace(_described(entry, folder), refusal=refusal.read_text(encoding="utf-8"))


def _export_key(run: StageRun, checkpoint: Path) -> str:
    """Tells one export from another: the checkpoint, and what it is exported and judged with."""
    params = run.params
    made_with = [params.seed, params.export.model_dump(), params.train.image_size, params.package.name]
    digest = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()
    return f"{file_sha256(checkpoint)[:16]}-{digest[:8]}"


def _named(run: StageRun, text: str) -> Entry:
    number = text.removeprefix("v")
    if text in _ALIASES or number.isdigit():
        return _version(run.registry(), text if text in _ALIASES else number)
    path = Path(text)
    if path.is_dir():
        own = path.resolve() == run.project.model.resolve()
        step = "tca evaluate, then tca package" if own else f"only {_own(run)} can be packaged: train it here"
        return Entry(text, "directory", path, step)
    if path.is_file() and path.suffix == ".pt":
        return Entry(text, "checkpoint", path, f"to train on from it: tca release -S train.model={text}")
    raise InputError(f"{text} is no model", _EXPECTED)


def _version(registry: Registry, name: str) -> Entry:
    version = registry.by_alias(name) if name in _ALIASES else registry.get(name)
    if version is None:
        raise ProjectError(f"there is no {name}", "See: tca status")
    challenger = registry.by_alias(CHALLENGER)
    is_challenger = challenger is not None and challenger.version == version.version
    step = "tca promote" if is_challenger else f"tca compare {version.version} --choose, then tca promote"
    return Entry(f"version {version.version}", "version", registry.download(version) / "model", step, version)


def _own(run: StageRun) -> str:
    return str(run.project.model.relative_to(run.project.root))


def _told(run: StageRun, name: str) -> Progress:
    return lambda done, total, note: run.progress(done, total, f"{name}: export: {note}")


def _described(entry: Entry, model_dir: Path) -> Exported:
    try:
        spec = read_spec(model_dir)
    except DetectorError as error:
        raise InputError(f"{entry.name} is no model: {error}") from None
    return Exported(entry, model_dir, spec.digest, f"{spec.engine.kind} {spec.engine.precision}")


def _front(run: StageRun) -> list[Entry]:
    from flows.tuning.study import current_study

    report = current_study(run.project, run.params).report()
    rows = [row for row in report.trials if row.number in report.front]
    found = []
    for row in rows:
        checkpoint = run.project.home / "tune" / report.study / f"trial{row.origin}" / "best.pt"
        if checkpoint.is_file():
            step = f"tca tune apply --trial {row.number} --write, then tca release"
            found.append(Entry(f"trial {row.number}", "trial", checkpoint, step))
    if not found:
        raise ProjectError(
            f"no model of the front of study {report.study} is kept on this machine ({len(rows)} trials)",
            "Run: tca tune",
        )
    return found

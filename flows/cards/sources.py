"""What a model card is made from: model.json, the reports that led to the model, and what they do not hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bentos.detector.contract import ModelSpec, read_spec
from bentos.detector.errors import DetectorError
from flows.comparison.report import EvaluationReport
from flows.dataset.layout import SPLITS, read_dataset
from flows.dataset.report.validation import ValidationReport
from flows.errors import DataError, ProjectError
from flows.exporting.report import ExportReport
from flows.params import Params
from flows.settings import Project
from flows.training.epochs import EpochMetrics
from flows.training.report.curve_file import read_curve
from flows.training.reproducibility import TrainReport

BACKGROUND = "card.json"
_SECTIONS = {"seed", "train", "export", "evaluate", "package"}  # not those that may hold an address or a password
_LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt")
M = TypeVar("M", bound=BaseModel)


class CardBackground(BaseModel):
    """What a card says beyond model and reports. It lies beside the card, so that the card can be written again."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="constants")

    params: dict[str, Any] = Field(default={}, description="what of params.yaml made the model, by section")
    epochs: tuple[EpochMetrics, ...] = Field(default=(), description="the curve of the training")
    data_licence: str | None = Field(default=None, description="licence that the data state; null: they state none")
    bento_tag: str | None = Field(default=None, description="name:version in the bento store; null: none was built")
    cameras_by_split: dict[str, tuple[str, ...]] = Field(default={}, description="cameras of each split, where known")


@dataclass(frozen=True)
class CardSources:
    """Everything known of one model. A report is None where it is missing or cannot be read; `gaps` says why.

    Attributes:
        records: The reports as they were written, with provenance, by stage.
        version: Registered version; None while there is none.
    """

    spec: ModelSpec
    validation: ValidationReport | None
    training: TrainReport | None
    export: ExportReport | None
    evaluation: EvaluationReport | None
    records: Mapping[str, Mapping[str, Any]]
    background: CardBackground
    gaps: tuple[str, ...] = ()
    version: str | None = None

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the weights come from: what the training recorded, else the first report that recorded anything."""
        found = (self.records.get(stage, {}).get("provenance") for stage in ("train", "export", "evaluate", "validate"))
        return next((dict(one) for one in found if isinstance(one, Mapping)), {})

    @property
    def champion_version(self) -> str | None:
        """Version that it was compared with."""
        found = self.records.get("evaluate", {}).get("champion_version")
        return None if found is None else str(found)

    @property
    def data_md5(self) -> str | None:
        """md5 of the data that the model was trained on."""
        known = self.training.data_version if self.training else None
        return known or self.provenance.get("data_md5")


def read_sources(
    model_dir: Path, reports: Path, background: CardBackground | None = None, version: str | None = None
) -> CardSources:
    """Read model.json of `model_dir` and the reports of `reports`.

    Raises:
        ProjectError: There is no model, or its model.json was changed.
    """
    if not (model_dir / "model.json").is_file():
        raise ProjectError(f"there is no model.json in {model_dir.name}/", "Run: tca export")
    try:
        spec = read_spec(model_dir)
    except DetectorError as error:
        raise ProjectError(f"{model_dir.name}/model.json cannot be taken: {error}", "Export or register anew") from None
    gaps: list[str] = []
    records = {stage: _read_json(reports / f"{stage}.json") for stage in ("validate", "train", "export", "evaluate")}
    records["record"] = _read_json(model_dir.parent / "record.json")
    return CardSources(
        spec=spec,
        validation=_read_as(ValidationReport, records["validate"], "validate", gaps),
        training=_read_as(TrainReport, records["train"], "train", gaps),
        export=_read_as(ExportReport, records["export"], "export", gaps),
        evaluation=_read_as(EvaluationReport, records["evaluate"], "evaluate", gaps),
        records=records,
        background=background or CardBackground(),
        gaps=tuple(gaps),
        version=version,
    )


def gather_background(project: Project, params: Params, bento_tag: str | None = None) -> CardBackground:
    """What this project knows now: parameters, the curve beside the checkpoint, the licence of data/."""
    curve = project.artifacts / "training" / "epochs.csv"
    return CardBackground(
        params=params.model_dump(mode="json", include=_SECTIONS),
        epochs=tuple(read_curve(curve)) if curve.is_file() else (),
        data_licence=read_data_licence(project.data),
        cameras_by_split=_cameras_by_split(project.data),
        bento_tag=bento_tag,
    )


def read_background(path: Path) -> CardBackground:
    """A card.json; empty where there is none, as in packages older than cards. Raises ProjectError."""
    try:
        return CardBackground.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return CardBackground()
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise ProjectError(f"{path.name} of this package cannot be read ({reason})", "Register it anew") from None


def read_data_licence(root: Path) -> str | None:
    """The licence that a dataset states: `license` in data.yaml (also as Roboflow writes it), or a LICENSE file."""
    try:
        tree = yaml.safe_load((root / "data.yaml").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError):
        tree = None
    tree = tree if isinstance(tree, dict) else {}
    roboflow = tree.get("roboflow")
    theirs = roboflow.get("license") if isinstance(roboflow, dict) else None
    for value in (tree.get("license"), tree.get("licence"), theirs):
        if isinstance(value, str) and value.strip():
            return value.strip()
    for name in _LICENCE_FILES:
        if (root / name).is_file():
            text = (root / name).read_text(encoding="utf-8", errors="replace")
            first = next((line.strip() for line in text.splitlines() if line.strip()), "")
            return f"see {name} of the data ({first[:80]})" if first else f"see {name} of the data"
    return None


def _cameras_by_split(root: Path) -> dict[str, tuple[str, ...]]:
    """Named cameras of each split; empty where data/ cannot be read."""
    try:
        frames = read_dataset(root).frames
    except DataError:
        return {}
    return {
        split: tuple(sorted({frame.camera for frame in frames if frame.split == split and frame.camera}))
        for split in SPLITS
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _read_as(model: type[M], record: Mapping[str, Any], stage: str, gaps: list[str]) -> M | None:
    """The report of a stage. What a flow or a later version adds to it is left out."""
    if not record:
        gaps.append(f"The report of `{stage}` is missing: what it would say is not known.")
        return None
    try:
        return model.model_validate({name: record[name] for name in model.model_fields if name in record})
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        gaps.append(f"The report of `{stage}` was written in another form ({where}): what it says is left out.")
        return None

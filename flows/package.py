"""Package: the winner becomes a bento and a registered version, with everything that led to it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from bentos.detector.contract import read_spec
from flows.adapters.bento_store import build_bento
from flows.adapters.registry import ACCURACY
from flows.cards.card import card_description, write_card, write_version_card
from flows.cards.sources import gather_background
from flows.comparison.resampling import Estimate
from flows.early import refuse_task
from flows.errors import GateRefused
from flows.reproducing.collect import collect_record
from flows.reproducing.record import RECORD_TAG, Record, write_record
from flows.stage import StageRun, main, stage

CARRIED_REPORTS = (
    *("validate.json", "validate.html", "train.json", "train.html", "export.json", "export.html"),
    *("evaluate.json", "evaluate.html"),
)


class PackageReport(BaseModel):
    """The registered version and its bento."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: bool = Field(description="a package that exists has passed every gate before it")
    sentence: str = Field(description="what was made, in one sentence")
    model_name: str = Field(description="registered model")
    model_version: str = Field(description="registered version")
    model_digest: str = Field(description="sha256 that model.json carries")
    bento_tag: str = Field(description="name:version in the bento store")
    bento_bytes: int = Field(description="size of the exported bento, bytes")
    mlflow_run_id: str = Field(description="run that holds the package")
    record_lacks: tuple[str, ...] = Field(
        default=(), description="why `tca reproduce` cannot make it again; empty: it can"
    )

    def highlights(self) -> list[str]:
        """What its record lacks."""
        return [f"  note: it cannot be made again: {lack}" for lack in self.record_lacks]


@stage(gate="stop")
def package(run: StageRun) -> PackageReport:
    """Refuses a model whose export or evaluation did not pass."""
    refuse_task("package", run.params)
    for before in ("export", "evaluate"):
        require_passed(before, run.report_of(before))
    name, folder = run.params.package.name, run.project.artifacts / "package"
    spec = read_spec(run.project.model)
    run.step(assemble_package)(run.project.model, run.project.reports, folder)
    archive = folder / "detector.bento"
    tag = run.step(build_bento, retries=1)(run.project.model, name, spec.digest[:12], archive)
    registry = run.registry()
    run.step(write_card)(folder, gather_background(run.project, run.params, tag))
    record = run.step(seal_record, retries=2)(run, folder)
    tags = {
        **run.provenance.tags(),
        "tca.bento": tag,
        RECORD_TAG: record.digest,
        ACCURACY: accuracy_text(run.report_of("evaluate")),
    }
    with registry.run("package", tags) as log:
        version = run.step(registry.register, retries=2)(log.run_id, folder, spec.digest, tags)
    run.step(registry.describe, retries=2)(version.version, card_description(folder, version.version))
    run.step(write_version_card)(run.project.reports, folder, version.version)
    return PackageReport(
        passed=True,
        sentence=f"version {version.version} registered, bento {tag}",
        model_name=name,
        model_version=version.version,
        model_digest=spec.digest,
        bento_tag=tag,
        bento_bytes=archive.stat().st_size,
        mlflow_run_id=version.run_id,
        record_lacks=record.lacks,
    )


def require_passed(stage_name: str, report: dict[str, Any]) -> None:
    """Raises GateRefused with the report's sentence when it did not pass."""
    if not report["passed"]:
        raise GateRefused(f"{stage_name} refused this model: {report['sentence']}", f"See reports/{stage_name}.json")


def accuracy_text(evaluation: dict[str, Any]) -> str:
    """The challenger's mAP50-95 with its interval, like `.563 [.541, .584]`."""
    return Estimate.model_validate(evaluation["challenger"]["figures"]["map50_95"]).text()


def assemble_package(model_dir: Path, reports: Path, folder: Path) -> None:
    """Lay model and reports side by side in `folder`, from nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(model_dir, folder / "model")
    (folder / "reports").mkdir()
    for name in CARRIED_REPORTS:
        shutil.copy(reports / name, folder / "reports" / name)


def seal_record(run: StageRun, folder: Path) -> Record:
    """Write record.json, which names every file of the package: the last thing before it is registered."""
    return write_record(folder, collect_record(run.project, run.params, run.provenance, run.registry(), folder))


if __name__ == "__main__":
    main(package)

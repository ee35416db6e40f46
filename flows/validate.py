"""Validate: look at every frame and label once, and let nothing broken or leaking through."""

from __future__ import annotations

import os

from flows.dataset.layout import read_dataset
from flows.dataset.manifest import build_manifest, write_manifest
from flows.dataset.validation import ValidationReport, validate_dataset, validation_page
from flows.stage import StageRun, main, stage


@stage(gate="stop")
def validate(run: StageRun) -> ValidationReport:
    """Manifest, expectations, report page and Data Docs; a broken set stops the train, naming file and line."""
    project = run.project
    dataset = run.step(read_dataset)(project.data)
    manifest = run.step(build_manifest)(dataset, os.cpu_count() or 1, run.progress)
    run.step(write_manifest)(manifest, project.artifacts / "manifest")
    docs = project.reports / "data_docs"
    report = run.step(validate_dataset)(dataset, manifest, run.params.validate_, docs)
    page = validation_page(report, dataset, manifest)
    (project.reports / "validate.html").write_text(page, encoding="utf-8")
    run.table([{"check": one.title, "severity": one.severity, "failed": one.num_failed} for one in report.checks])
    return report


if __name__ == "__main__":
    main(validate)

"""Validate: look at every frame and label once, and let nothing broken or leaking through."""

from __future__ import annotations

import time

from flows.dataset.layout import Dataset, read_dataset
from flows.dataset.manifest.manifest import Manifest, read_manifest
from flows.dataset.manifest.update import update_manifest
from flows.dataset.report.validation import ValidationReport, validate_dataset, validation_page
from flows.dataset.review.record import Review
from flows.page import write_page
from flows.review import review_manifest, write_review
from flows.stage import StageRun, main, stage
from flows.validation_record import record_validation


@stage(gate="stop")
def validate(run: StageRun) -> ValidationReport:
    """Manifest, expectations, report page and Data Docs; a broken set stops the train, naming file and line."""
    started, project, params = time.monotonic(), run.project, run.params.validate_
    dataset = run.step(read_dataset)(project.data)
    folder = project.artifacts / "manifest"
    run.step(update_manifest)(dataset, folder, project.home / "manifest", run.mapper, run.progress)
    manifest = read_manifest(folder)
    review = ask_reference(run, dataset, manifest)
    report = run.step(validate_dataset)(dataset, manifest, params, project.reports / "data_docs", review)
    page = project.reports / "validate.html"
    write_page(page, validation_page(report, dataset, manifest, detail=params.pictures))
    run.table([{"check": one.title, "severity": one.severity, "failed": one.num_failed} for one in report.checks])
    run.step(record_validation)(run, report, manifest, page, time.monotonic() - started)
    return report


def ask_reference(run: StageRun, dataset: Dataset, manifest: Manifest) -> Review | None:
    """What the reference model of params.yaml says of the labels, with its own page; None when none is named."""
    params = run.params.validate_
    if not params.review.reference:
        return None
    review = run.step(review_manifest)(run.project, dataset, manifest, params.review, run.progress)
    write_review(run.project.reports, review, dataset, manifest, params.review.top, params.pictures)
    return review


if __name__ == "__main__":
    main(validate)

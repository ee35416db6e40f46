"""Where a validation is kept besides reports/: an artifact in Prefect, a run in MLflow.

The verdict depends on neither: it is on disk before anything is asked, and a store that does not answer costs the
record there, which is said, and nothing else.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from flows.dataset.manifest.manifest import Manifest
from flows.dataset.manifest.summary import manifest_summary
from flows.dataset.report.markdown import validation_markdown
from flows.dataset.report.validation import ValidationReport
from flows.stage import StageRun, console, write_report


def record_validation(
    run: StageRun, report: ValidationReport, manifest: Manifest, page: Path, seconds: float
) -> str | None:
    """Write reports/validate.json, then publish and log the report; the id of its MLflow run, if it has one."""
    write_report(run.project, run.name, report, run.provenance, seconds)
    publish_validation(run, report, page)
    try:
        return log_validation(run, report, manifest, page)
    except Exception as error:  # the store's client raises what its server, its database or its disk raise
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        console.say(f"note: the verdict stands, but MLflow has no record of it: {first}")
        return None


def publish_validation(run: StageRun, report: ValidationReport, page: Path) -> None:
    """The report as a Markdown artifact of the Prefect run."""
    from flows.artifacts import publish_report  # Prefect reads the environment when it is imported

    where = f"The whole page: [{page.name}]({page.resolve().as_uri()}), also served by `tca ui`."
    publish_report(run.name, validation_markdown(report, where))


def log_validation(run: StageRun, report: ValidationReport, manifest: Manifest, page: Path) -> str:
    """Page, report and summary of the manifest as artifacts of an MLflow run, with its figures as metrics.

    Raises:
        OutsideError: MLflow does not answer.
    """
    registry = run.registry()
    tags = {**run.provenance.tags(), "tca.passed": str(report.passed).lower(), "tca.sentence": report.sentence}
    with registry.run(run.name, tags) as log, tempfile.TemporaryDirectory() as folder:
        log.data("data", run.provenance.data_md5, report.num_images)
        log.params(run.params.validate_.model_dump(mode="json", exclude={"severity"}))
        log.metrics(validation_metrics(report))
        summary = Path(folder, "manifest.json")
        summary.write_text(json.dumps(manifest_summary(manifest), indent=1) + "\n", encoding="utf-8")
        for path in (page, run.project.reports / f"{run.name}.json", summary):
            log.artifact(path)
    return log.run_id


def validation_metrics(report: ValidationReport) -> dict[str, float]:
    """What may be compared from run to run."""
    return {
        "num_images": report.num_images,
        "num_boxes": report.num_boxes,
        "num_cameras": report.num_cameras,
        "num_warnings": report.num_warnings,
        "num_checks_passed": report.num_checks_passed,
        "num_checks_failed": len(report.checks) - report.num_checks_passed - report.num_warnings,
        **{f"failing/{check.name}": check.num_failed for check in report.checks},
    }

"""Monitor: do the cameras still send what the model was trained on? When not, say so to whoever listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.dataset.drift import DriftReport, measure_drift, production_features, reference_features
from flows.dataset.drift_page import drift_page
from flows.dataset.manifest import read_manifest
from flows.stage import StageRun, main, stage

DRIFT_EVENT = "tca.drift.detected"
EVIDENTLY_PAGE = "monitor_evidently.html"


@stage(gate="stop", tracked=False)
def monitor(run: StageRun, records: str = "") -> DriftReport:
    """Compare recorded production frames (folder `records`; default: the local service's) with the training split."""
    project = run.project
    manifest = run.step(read_manifest)(project.artifacts / "manifest")
    reference = reference_features(manifest.images, manifest.boxes)
    current = run.step(production_features)(Path(records) if records else project.home / "records")
    project.reports.mkdir(exist_ok=True)
    evidently_page = project.reports / EVIDENTLY_PAGE
    evidently_page.unlink(missing_ok=True)
    report = run.step(measure_drift)(reference, current, run.params.monitor, evidently_page, run.params.seed)
    page = drift_page(report, reference, current, EVIDENTLY_PAGE if evidently_page.exists() else "")
    (project.reports / "monitor.html").write_text(page, encoding="utf-8")
    if report.verdict == "drifted":
        run.step(announce_drift, retries=2)(report, run.params.package.name)
    return report


def announce_drift(report: DriftReport, model_name: str) -> None:
    """Emit the event that a retraining automation listens to."""
    from prefect.events import emit_event

    emit_event(
        event=DRIFT_EVENT,
        resource={"prefect.resource.id": f"tca.model.{model_name}", "prefect.resource.name": model_name},
        payload=drift_payload(report),
    )


def drift_payload(report: DriftReport) -> dict[str, Any]:
    """What the event carries: the sentence, the counts, and the features that moved."""
    return {
        "sentence": report.sentence,
        "num_current": report.num_current,
        "drifted_share": report.drifted_share,
        "features": {one.name: one.distance for one in report.features if one.drifted},
    }


if __name__ == "__main__":
    main(monitor)

"""Export: every engine that this machine can build, proven against PyTorch; the fastest that loses little is taken."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flows.dataset.layout import read_dataset
from flows.evidence import gather_evidence
from flows.exporting.export import export_model
from flows.exporting.export_page import export_page
from flows.exporting.report import CandidateReport, ExportReport
from flows.page import write_page
from flows.stage import StageRun, main, stage
from flows.task_stages import TaskExportReport, export_task


@stage(gate="stop")
def export(run: StageRun) -> ExportReport | TaskExportReport:
    """Each engine is compared with PyTorch on the frozen frames and timed; one that loses too much is refused."""
    if run.params.train.task != "detect":
        return export_task(run)
    project = run.project
    dataset = run.step(read_dataset)(project.data)
    report = run.step(export_model)(
        project.artifacts / "training" / "best.pt",
        project.model,
        run.params.export,
        run.params.package.name,
        run.params.train.image_size,
        run.step(gather_evidence)(run, dataset, run.params.evaluate),
        run.progress,
    )
    page = project.reports / "export.html"
    write_page(page, export_page(report, run.provenance.hardware))
    run.table([_row(one) for one in report.candidates])
    with run.registry().run("export", {**run.provenance.tags(), "tca.model_digest": report.model_digest}) as log:
        log.params({"engine": report.engine, "precision": report.precision, "scaled_decode": report.decoding.scaled})
        for one in report.candidates:
            log.metrics(_numbers(one))
        for artifact in (project.model / "model.json", page):
            log.artifact(artifact)
        with TemporaryDirectory() as folder:
            figures = Path(folder) / "export.json"
            figures.write_text(report.model_dump_json(indent=1), encoding="utf-8")
            log.artifact(figures)
    return report


def _row(one: CandidateReport) -> dict[str, Any]:
    return {"engine": one.name, "images/s": one.images_per_s, "loss": one.accuracy.loss.text(), "state": one.state}


def _numbers(one: CandidateReport) -> dict[str, float]:
    """Figures of a candidate for MLflow; those without a value are left out."""
    loss = one.accuracy.loss
    figures = {
        "images_per_s": one.images_per_s,
        "map50_95": one.accuracy.map50_95,
        "loss": loss.value,
        "loss_upper": loss.upper,
        "mean_iou": one.parity.mean_iou,
        "resident_mb": one.speed.resident_mb,
        "load_s": one.speed.load_s,
        "engine_mb": one.engine_bytes / 1e6,
    }
    return {f"{one.engine}_{one.precision}.{key}": value for key, value in figures.items() if value is not None}


if __name__ == "__main__":
    main(export)

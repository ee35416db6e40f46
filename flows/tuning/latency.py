"""The latency of a trial: its best checkpoint exported as `tca export` would, on this machine."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from flows.dataset.layout import Dataset
from flows.evidence import gather_evidence
from flows.exporting.export import export_model
from flows.exporting.report import ExportReport
from flows.progress import Progress
from flows.stage import StageRun


def engine_latency_ms(run: StageRun, dataset: Dataset, checkpoint: Path, image_size: int, progress: Progress) -> float:
    """Median time of a frame that is alone, from its bytes to its boxes, ms, with the engine that export would take.

    Engines are judged on val, not on the frozen frames: a search must not see those.

    Raises:
        CheckpointError: The checkpoint is none of a detector.
        EngineUnavailable: Nothing that params.yaml asks for runs here.
    """
    judged = run.params.evaluate.model_copy(update={"split": "val"})
    evidence, folder = gather_evidence(run, dataset, judged), run.project.home / "tune"
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="export-", dir=folder) as draft:  # beside it TensorRT's timings are kept
        report = export_model(
            checkpoint, Path(draft), run.params.export, run.params.package.name, image_size, evidence, progress
        )
    return _taken_ms(report)


def _taken_ms(report: ExportReport) -> float:
    taken = next(one for one in report.candidates if (one.engine, one.precision) == (report.engine, report.precision))
    return taken.speed.lone_p50_ms

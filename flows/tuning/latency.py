"""The latency of a trial: its best checkpoint exported as `tca export` would, on this machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from flows.dataset.layout import Dataset
from flows.exporting.calibration import Calibration, TrainingFrame, choose_frames
from flows.exporting.contest import Evidence
from flows.exporting.export import export_model
from flows.exporting.report import ExportReport
from flows.judge import FrozenJudge
from flows.progress import Progress
from flows.stage import StageRun


def engine_latency_ms(run: StageRun, dataset: Dataset, checkpoint: Path, image_size: int, progress: Progress) -> float:
    """Median time of a frame that is alone, from its bytes to its boxes, ms, with the engine that export would take.

    Engines are judged on val, not on the frozen frames: a search must not see those.

    Raises:
        CheckpointError: The checkpoint is none of a detector.
        EngineUnavailable: Nothing that params.yaml asks for runs here.
    """
    params, frames = run.params.export, dataset.split("val")
    training = [
        TrainingFrame(dataset.root / frame.image, frame.image, (frame.slice, frame.camera))
        for frame in dataset.split("train")
    ]
    step = max(1, len(frames) // params.parity_frames)
    evidence = Evidence(
        images=[(dataset.root / frame.image).read_bytes() for frame in frames[::step][: params.parity_frames]],
        judge=FrozenJudge(dataset, run.params.evaluate.model_copy(update={"split": "val"})),
        calibration=Calibration(
            choose_frames(training, params.calibration_frames, run.params.seed), run.project.home / "calibration"
        ),
        latency_budget_ms=run.params.promote.latency_budget_ms,
    )
    folder = run.project.home / "tune" / f"export-{os.getpid()}"  # beside it TensorRT's timings are kept
    try:
        name = run.params.package.name
        report = export_model(checkpoint, folder, params, name, image_size, evidence, progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _taken_ms(report)


def _taken_ms(report: ExportReport) -> float:
    taken = next(one for one in report.candidates if (one.engine, one.precision) == (report.engine, report.precision))
    return taken.speed.lone_p50_ms

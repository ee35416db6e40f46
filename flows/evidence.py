"""What an export is judged by: frames to compare boxes on, frames to judge on, frames to calibrate on."""

from __future__ import annotations

from pathlib import Path

from flows.dataset.layout import Dataset
from flows.exporting.calibration import Calibration, TrainingFrame, choose_frames
from flows.exporting.contest import Evidence
from flows.judge import FrozenJudge
from flows.params import EvaluateParams
from flows.stage import StageRun


def gather_evidence(run: StageRun, dataset: Dataset, judged: EvaluateParams) -> Evidence:
    """Frames of val to compare boxes on, those of `judged` to judge on, and frames of train to calibrate INT8 on."""
    params = run.params.export
    training = [
        TrainingFrame(dataset.root / frame.image, frame.image, (frame.slice, frame.camera))
        for frame in dataset.split("train")
    ]
    chosen = choose_frames(training, params.calibration_frames, run.params.seed)
    return Evidence(
        images=spread_frames([dataset.root / frame.image for frame in dataset.split("val")], params.parity_frames),
        judge=FrozenJudge(dataset, judged),
        calibration=Calibration(chosen, run.project.home / "calibration"),
        latency_budget_ms=run.params.promote.latency_budget_ms,
    )


def spread_frames(paths: list[Path], count: int) -> list[bytes]:
    """`count` of the files, evenly spread, so that every camera and slice is likely among them."""
    step = max(1, len(paths) // count)
    return [path.read_bytes() for path in paths[::step][:count]]

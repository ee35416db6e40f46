"""The stages by name, in the order of the work, and where the model of each report is defined."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from flows.errors import InputError

REPORT_MODELS = {
    "validate": "flows.dataset.report.validation:ValidationReport",
    "train": "flows.training.reproducibility:TrainReport",
    "tune": "flows.training.search.search:TuneReport",
    "export": "flows.exporting.report:ExportReport",
    "evaluate": "flows.evaluate:EvaluationRecord",
    "compare": "flows.compare:CandidatesRecord",
    "package": "flows.package:PackageReport",
    "promote": "flows.rollout.report:PromotionReport",
    "monitor": "flows.dataset.drift.drift:DriftReport",
    "release": "flows.release:ReleaseReport",
}
TRACKED_STAGES = ("validate", "train", "export", "evaluate", "package")


def report_schema(stage: str) -> dict[str, Any]:
    """JSON Schema of what the stage itself reports; the flow adds stage, seconds, finished_at and provenance.

    Raises:
        InputError: There is no such stage.
    """
    if stage not in REPORT_MODELS:
        raise InputError(f"there is no stage {stage}", f"Known: {', '.join(REPORT_MODELS)}")
    module, name = REPORT_MODELS[stage].split(":")
    model = getattr(import_module(module), name)
    schema: dict[str, Any] = model.model_json_schema()
    return schema

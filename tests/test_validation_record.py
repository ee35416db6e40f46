"""Where a validation is kept: on disk first, then in Prefect, and in MLflow if it answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows import validation_record
from flows.adapters.registry import Registry
from flows.console import Step
from flows.dataset.checks.expectations import CheckResult, Offender
from flows.dataset.manifest.manifest import TABLES, Manifest
from flows.dataset.report.validation import ValidationReport
from flows.errors import OutsideError
from flows.page import write_page
from flows.params_file import read_params
from flows.provenance import collect_provenance
from flows.settings import Project, read_settings
from flows.stage import StageRun, read_report
from flows.validation_record import record_validation, validation_metrics

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageRun:
    monkeypatch.delenv("TCA_HOME", raising=False)
    monkeypatch.setattr("flows.artifacts.create_markdown_artifact", lambda text, **more: PUBLISHED.append((text, more)))
    PUBLISHED.clear()
    (tmp_path / "params.yaml").write_bytes((REPOSITORY / "params.yaml").read_bytes())
    project = Project(tmp_path)
    params = read_params(project.params_file)
    write_page(project.reports / "validate.html", "<p>ü</p>")
    step = Step("validate", None)
    return StageRun(
        "validate", project, params, read_settings(project), collect_provenance(project, params), step, False
    )


PUBLISHED: list[tuple[str, dict[str, Any]]] = []


def report() -> ValidationReport:
    offender = Offender(file="data/x.txt", line=3, message="broken")
    checks = [
        CheckResult(
            name=name,
            title=name,
            severity=severity,
            passed=not failed,
            num_checked=9,
            num_failed=failed,
            offenders=found,
        )
        for name, severity, failed, found in (("a", "stop", 2, (offender,)), ("b", "warn", 1, ()), ("c", "stop", 0, ()))
    ]
    figures = dict.fromkeys(("num_images", "num_boxes", "num_images_without_boxes", "num_cameras", "num_clips"), 4)
    return ValidationReport(
        passed=False,
        sentence="no",
        **figures,
        num_checks_passed=1,
        num_warnings=1,
        classes=("car",),
        slices=("day",),
        images_per_split={},
        images_per_slice={},
        images_per_camera={},
        boxes_per_class={},
        checks=tuple(checks),
    )


def manifest() -> Manifest:
    import numpy as np
    import pandas as pd

    tables = {name: pd.DataFrame(columns=list(columns)).astype(columns) for name, columns in TABLES.items()}
    return Manifest(**tables, thumbnails=np.zeros((0, 54, 96), np.uint8))


def test_page_report_and_summary_go_into_an_mlflow_run_with_the_figures(run: StageRun) -> None:
    page = run.project.reports / "validate.html"
    run_id = record_validation(run, report(), manifest(), page, 1.5)
    assert run_id
    registry = run.registry()
    found = registry._client.get_run(run_id)
    assert found.info.status == "FINISHED" and found.info.run_name == "validate"
    assert {
        "num_images": 4,
        "num_warnings": 1,
        "num_checks_passed": 1,
        "num_checks_failed": 1,
    }.items() <= found.data.metrics.items()
    assert found.data.metrics["failing/a"] == 2 and found.data.tags["tca.passed"] == "false"
    kept = {entry.path for entry in registry._client.list_artifacts(run_id)}
    assert kept == {"validate.html", "validate.json", "manifest.json"}
    assert (
        json.loads(Path(registry._client.download_artifacts(run_id, "manifest.json")).read_text())["images"]["num_rows"]
        == 0
    )


def test_prefect_gets_the_verdict_with_a_link_to_the_page(run: StageRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation_record, "log_validation", lambda *whatever: "id")
    record_validation(run, report(), manifest(), run.project.reports / "validate.html", 1.5)
    ((text, more),) = PUBLISHED
    assert text.startswith("**refused**: no") and "data/x.txt:3: broken" in text
    assert (run.project.reports / "validate.html").resolve().as_uri() in text
    assert more["key"] == "validate-report"


@pytest.mark.parametrize(
    "error", [OutsideError("MLflow at x failed: down", "Check it"), RuntimeError(""), OSError("full")]
)
def test_an_mlflow_that_fails_costs_the_record_and_not_the_verdict(
    run: StageRun, monkeypatch: pytest.MonkeyPatch, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*whatever: object) -> None:
        raise error

    monkeypatch.setattr(Registry, "run", fails)
    said: list[str] = []
    monkeypatch.setattr(validation_record.console, "say", said.append)
    assert record_validation(run, report(), manifest(), run.project.reports / "validate.html", 1.5) is None
    assert len(said) == 1 and said[0].startswith("note: the verdict stands, but MLflow has no record of it: ")
    assert read_report(run.project, "validate")["passed"] is False
    assert PUBLISHED


def test_an_interruption_while_logging_leaves_the_verdict_on_disk(
    run: StageRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*whatever: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Registry, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        record_validation(run, report(), manifest(), run.project.reports / "validate.html", 1.5)
    assert read_report(run.project, "validate")["sentence"] == "no"


def test_figures_of_a_run_name_every_check() -> None:
    assert {name: value for name, value in validation_metrics(report()).items() if "/" in name} == {
        "failing/a": 2,
        "failing/b": 1,
        "failing/c": 0,
    }

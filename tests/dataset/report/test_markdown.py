"""The short report for places that show Markdown."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.dataset.checks.expectations import CheckResult, Offender
from flows.dataset.layout import read_dataset
from flows.dataset.manifest.manifest import build_manifest
from flows.dataset.manifest.summary import manifest_summary
from flows.dataset.report.markdown import validation_markdown
from flows.dataset.report.validation import ValidationReport, validate_dataset
from flows.params_file import read_params

PARAMS = read_params(Path(__file__).parents[3] / "params.yaml").validate_


@pytest.fixture
def report(sound_dataset: Path) -> ValidationReport:
    dataset = read_dataset(sound_dataset)
    return validate_dataset(dataset, build_manifest(dataset, 1), PARAMS)


def with_faults(report: ValidationReport, num_checks: int, num_faults: int, message: str = "m") -> ValidationReport:
    offenders = tuple(Offender(file=f"data/{index}.txt", line=index, message=message) for index in range(num_faults))
    checks = tuple(
        CheckResult(
            name=f"c{index}",
            title=f"Title {index}",
            severity="warn" if index else "stop",
            passed=False,
            num_checked=num_faults,
            num_failed=num_faults,
            offenders=offenders,
        )
        for index in reversed(range(num_checks))
    )
    return report.model_copy(update={"checks": checks, "passed": False})


def test_a_sound_set_is_told_in_two_lines(report: ValidationReport) -> None:
    fine = report.model_copy(update={"checks": ()})
    lines = validation_markdown(fine, "[page](file:///p.html)").strip().splitlines()
    assert lines[0].startswith("**passed**: 12 frames with 36 boxes may train")
    assert "[page](file:///p.html)" in lines[2] and len(lines) == 3


def test_what_stops_the_train_comes_first_with_its_first_offenders(report: ValidationReport) -> None:
    text = validation_markdown(with_faults(report, 2, 5), "")
    assert text.startswith("**refused**")
    assert text.index("| ✗ failed | Title 0 | 5 | 5 |") < text.index("| ! warning | Title 1 | 5 | 5 |")
    assert "- data/2.txt:2: m" in text and "- data/3.txt" not in text and "- and 2 more" in text


def test_it_stays_small_and_names_cannot_write_markdown(report: ValidationReport) -> None:
    text = validation_markdown(with_faults(report, 60, 500, "|`<b>*\n# [x](y)\udcff" + "x" * 5000), "")
    assert len(text) < 30_000
    assert "<b>" not in text and "\n# " not in text and "\\|\\`&lt;b>\\*" in text
    text.encode()  # a name that is no UTF-8 does not stop it


def test_the_summary_of_a_manifest_says_how_much_of_what(sound_dataset: Path) -> None:
    dataset = read_dataset(sound_dataset)
    manifest = build_manifest(dataset, 1)
    summary = manifest_summary(manifest)
    assert summary["images"]["num_rows"] == 12 and summary["boxes"]["num_rows"] == 36
    assert summary["images"]["counts"]["camera"] == {"cam1": 6, "cam2": 6}
    assert summary["boxes"]["counts"]["class_name"] == {"car": 12, "big truck": 12, "bus": 12}
    assert summary["images"]["spread"]["width"] == {"min": 96, "p05": 96, "median": 96, "p95": 96, "max": 96}
    assert summary["problems"]["num_rows"] == 0 and summary["problems"]["counts"] == {"check": {}}


def test_the_digest_of_a_summary_follows_the_images_only(sound_dataset: Path) -> None:
    dataset = read_dataset(sound_dataset)
    before = manifest_summary(build_manifest(dataset, 1))["content_sha256"]
    (sound_dataset / dataset.frames[0].label).write_text("")
    assert manifest_summary(build_manifest(dataset, 1))["content_sha256"] == before
    (sound_dataset / dataset.frames[0].image).write_bytes(b"x")
    broken = manifest_summary(build_manifest(dataset, 1))
    assert broken["content_sha256"] != before
    assert broken["images"]["num_rows"] == 12

"""May this dataset train? The verdict, its figures, and the page that shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from flows.dataset.checks.expectations import CheckResult, run_expectations
from flows.dataset.layout import SPLITS, Dataset
from flows.dataset.manifest.manifest import Manifest
from flows.dataset.report.page import validation_page
from flows.dataset.review.record import Review
from flows.params_data import ValidateParams

__all__ = ["ValidationReport", "validate_dataset", "validation_page"]


_HIGHLIGHTS = 8


class ValidationReport(BaseModel):
    """Verdict and figures of one validation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: bool = Field(description="no check of severity stop failed")
    sentence: str = Field(description="the verdict in one sentence")
    num_images: int = Field(description="frames that frames.csv lists")
    num_boxes: int = Field(description="boxes on readable images")
    num_images_without_boxes: int = Field(description="frames whose label file holds no box")
    num_cameras: int = Field(description="different cameras")
    num_clips: int = Field(description="different clips, over all cameras")
    num_checks_passed: int = Field(description="checks with nothing to report")
    num_warnings: int = Field(description="failed checks of severity warn")
    classes: tuple[str, ...] = Field(description="class names in the order of their ids")
    slices: tuple[str, ...] = Field(description="slice names, sorted")
    images_per_split: dict[str, int] = Field(description="frames by split")
    images_per_slice: dict[str, dict[str, int]] = Field(description="frames by slice, then by split")
    images_per_camera: dict[str, int] = Field(description="frames by camera")
    boxes_per_class: dict[str, dict[str, int]] = Field(description="boxes by class, then by split")
    checks: tuple[CheckResult, ...] = Field(description="every check with what fails it")

    def highlights(self) -> list[str]:
        """A line for each check that failed, what stops the train first, and where to see them."""
        failed = sorted((check for check in self.checks if not check.passed), key=lambda one: one.severity)
        lines = [_highlight(check) for check in failed[:_HIGHLIGHTS]]
        if len(failed) > _HIGHLIGHTS:
            lines.append(f"  and {_count(len(failed) - _HIGHLIGHTS, 'check')} more")
        return [*lines, "  See: reports/validate.html"] if lines else []


def validate_dataset(
    dataset: Dataset,
    manifest: Manifest,
    params: ValidateParams,
    docs_dir: Path | None = None,
    review: Review | None = None,
) -> ValidationReport:
    """Judge the manifest of a dataset, and what a reference model says of its labels, where one was asked.

    Data Docs of Great Expectations go into `docs_dir`, if given.
    """
    checks = run_expectations(dataset, manifest, params, docs_dir, review)
    images, boxes = manifest.images, manifest.boxes
    clips = images[images["clip"] != ""]
    return ValidationReport(
        passed=all(check.passed or check.severity == "warn" for check in checks),
        sentence=_sentence(checks, len(images), len(boxes)),
        num_images=len(images),
        num_boxes=len(boxes),
        num_images_without_boxes=int((images["num_boxes"] == 0).sum()),
        num_cameras=images["camera"].nunique(),
        num_clips=len(clips[["camera", "clip"]].drop_duplicates()),
        num_checks_passed=sum(check.passed for check in checks),
        num_warnings=sum(not check.passed and check.severity == "warn" for check in checks),
        classes=dataset.classes,
        slices=tuple(sorted(images["slice"].unique())),
        images_per_split=_counts(images["split"], SPLITS),
        images_per_slice={
            name: _counts(images[images["slice"] == name]["split"], SPLITS) for name in sorted(images["slice"].unique())
        },
        images_per_camera=_counts(images["camera"], sorted(images["camera"].unique())),
        boxes_per_class={
            name: _counts(boxes[boxes["class_name"] == name]["split"], SPLITS) for name in dataset.classes
        },
        checks=checks,
    )


def _counts(column: Iterable[str], names: Sequence[str]) -> dict[str, int]:
    counted = Counter(column)
    return {name: counted[name] for name in names}


def _highlight(check: CheckResult) -> str:
    where = f"; first: {check.offenders[0]}" if check.offenders else ""
    mark = {"stop": "✗", "warn": "!"}[check.severity]
    return f"{mark} {check.title}: {check.num_failed:,} of {check.num_checked:,} not so{where}"


def _sentence(checks: Sequence[CheckResult], num_images: int, num_boxes: int) -> str:
    stops = [check for check in checks if not check.passed and check.severity == "stop"]
    warned = [check for check in checks if not check.passed and check.severity == "warn"]
    extent = f"{_count(num_images, 'frame')} with {_count(num_boxes, 'box')}"
    aside = f", {_count(len(warned), 'warning')}" if warned else ""
    if not stops:
        return f"{extent} may train: {_count(len(checks) - len(warned), 'check')} passed{aside}."
    worst = max(stops, key=lambda check: check.num_failed)
    first = f"; first: {worst.offenders[0]}" if worst.offenders else ""
    return (
        f"{extent} must not train: {_count(len(stops), 'check')} of {len(checks)} failed{aside}. "
        f"{worst.title}: {worst.num_failed:,} of {worst.num_checked:,} are not so{first}."
    )


def _count(number: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("x") else "s")
    return f"{number:,} {noun if number == 1 else plural}"

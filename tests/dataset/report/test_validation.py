"""The verdict and its figures."""

from __future__ import annotations

import re
from pathlib import Path

from flows.dataset.layout import Dataset, read_dataset
from flows.dataset.manifest.manifest import Manifest, build_manifest
from flows.dataset.report.validation import ValidationReport, validate_dataset
from flows.params_file import read_params

PARAMS = read_params(Path(__file__).parents[3] / "params.yaml").validate_


def validate(root: Path) -> tuple[Dataset, Manifest, ValidationReport]:
    dataset = read_dataset(root)
    manifest = build_manifest(dataset, 1)
    return dataset, manifest, validate_dataset(dataset, manifest, PARAMS)


def failing(report: ValidationReport) -> set[str]:
    return {check.name for check in report.checks if not check.passed}


def test_a_sound_dataset_may_train(sound_dataset: Path) -> None:
    _, _, report = validate(sound_dataset)
    assert report.passed
    assert report.sentence.startswith("12 frames with 36 boxes may train: ")
    assert (report.num_images, report.num_boxes, report.num_images_without_boxes) == (12, 36, 0)
    assert (report.num_cameras, report.num_clips) == (2, 6)
    assert report.images_per_split == {"train": 4, "val": 4, "test": 4}
    assert report.images_per_slice == {"day": {"train": 4, "val": 4, "test": 4}}
    assert report.images_per_camera == {"cam1": 6, "cam2": 6}
    assert report.boxes_per_class["big truck"] == {"train": 4, "val": 4, "test": 4}
    assert ValidationReport.model_validate_json(report.model_dump_json()) == report


def test_checks_are_counted_as_passed_warnings_and_failures(sound_dataset: Path) -> None:
    _, _, before = validate(sound_dataset)
    (sound_dataset / "labels/val/gone.txt").touch()
    _, _, warned = validate(sound_dataset)
    assert warned.passed
    assert len(failing(warned) - failing(before)) == 1
    assert warned.num_warnings == before.num_warnings + 1
    assert warned.num_checks_passed == before.num_checks_passed - 1
    assert re.search(rf"{warned.num_checks_passed} checks passed, {warned.num_warnings} warning", warned.sentence)


def test_a_fault_stops_the_train_and_the_sentence_says_where(sound_dataset: Path) -> None:
    (sound_dataset / "labels/test/cam2_test_1.txt").write_text("0 0.5 0.5 0.1 0.1 0.9\n" * 3)
    _, _, report = validate(sound_dataset)
    assert not report.passed
    assert report.sentence.startswith("12 frames with 33 boxes must not train: 1 check of ")
    assert "data/labels/test/cam2_test_1.txt:1: 6 columns" in report.sentence


def test_highlights_name_what_stops_first_and_where_to_look(sound_dataset: Path) -> None:
    (sound_dataset / "labels/val/gone.txt").touch()
    (sound_dataset / "labels/test/cam2_test_1.txt").write_text("0 0.5 0.5 0.1 0.1 0.9\n" * 3)
    _, _, report = validate(sound_dataset)
    lines = report.highlights()
    assert lines[0].startswith("✗ Every label line reads") and "cam2_test_1.txt:1: 6 columns" in lines[0]
    assert any(line.startswith("! ") and "gone.txt" in line for line in lines)
    assert lines[-1] == "  See: reports/validate.html"
    sound = report.model_copy(update={"checks": tuple(one for one in report.checks if one.passed)})
    assert sound.highlights() == []

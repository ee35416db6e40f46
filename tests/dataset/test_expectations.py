"""Every check finds its fault, names file and line, and is silent on a sound dataset."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.dataset.checks.suite import dataset_checks
from flows.dataset.expectations import CheckResult, run_expectations
from flows.dataset.layout import FRAMES_CSV, read_dataset
from flows.dataset.manifest import build_manifest
from flows.params_file import read_params

DEFAULTS = read_params(Path(__file__).parents[2] / "params.yaml").validate_
PARAMS = DEFAULTS.model_copy(
    update={"max_warnings_listed": 3, "labels": DEFAULTS.labels.model_copy(update={"min_box_px": 2.0})}
)
LABEL = "labels/train/cam1_train_0.txt"
IMAGE = "images/train/cam1_train_0.jpg"


def run_checks(root: Path, docs_dir: Path | None = None) -> dict[str, CheckResult]:
    dataset = read_dataset(root)
    results = run_expectations(dataset, build_manifest(dataset, 2), PARAMS, docs_dir)
    return {result.name: result for result in results}


def append(relative: str, text: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        (root / relative).write_text((root / relative).read_text() + text)

    return spoil


def in_frames_csv(line: int, old: str, new: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        lines = (root / FRAMES_CSV).read_text().splitlines(keepends=True)
        assert old in lines[line - 1]
        lines[line - 1] = lines[line - 1].replace(old, new)
        (root / FRAMES_CSV).write_text("".join(lines))

    return spoil


def drop_class_2_of_val(root: Path) -> None:
    for path in (root / "labels" / "val").iterdir():
        path.write_text("\n".join(path.read_text().splitlines()[:2]))


def many_boxes_but_one(root: Path) -> None:
    for path in (root / "labels").rglob("cam1_*.txt"):
        path.write_text(path.read_text() * 2)
    (root / LABEL).write_text("")


FAULTS: list[tuple[str, Callable[[Path], object], str, int, str]] = [
    ("images_readable", lambda root: (root / IMAGE).write_bytes(b"x"), IMAGE, 0, "no image of a known format"),
    ("labels_present", lambda root: (root / LABEL).unlink(), LABEL, 0, "the label file is missing"),
    ("labels_parse", append(LABEL, "0 0.5 0.5 nan 0.1\n"), LABEL, 4, "width 'nan' is not a finite number"),
    ("classes_known", append(LABEL, "9 0.5 0.5 0.1 0.1\n"), LABEL, 4, "only 3 classes (0 car ... 2 bus)"),
    ("boxes_inside", append(LABEL, "0 0.5 0.02 0.2 0.2\n"), LABEL, 4, "the car reaches 5.1 px outside the frame"),
    ("boxes_inside", append(LABEL, "0 50 20 30 20\n"), LABEL, 4, "(pixels instead of fractions?)"),
    ("boxes_large_enough", append(LABEL, "1 0.5 0.5 0.02 0.2\n"), LABEL, 4, "the big truck is 1.92 x 12.80 px"),
    ("no_duplicates_across_splits", lambda root: shutil.copy(root / IMAGE, root / "images/val/cam2_val_1.jpg"),
     IMAGE, 0, "is byte for byte the same as data/images/val/cam2_val_1.jpg"),
    ("classes_in_every_split", drop_class_2_of_val, "labels/val", 0, "no bus among the 4 frames of val"),
    ("cameras_named", in_frames_csv(2, "cam1,", " ,"), FRAMES_CSV, 2, "cam1_train_0.jpg has no camera"),
    ("slices_named", in_frames_csv(3, "day", ""), FRAMES_CSV, 3, "cam1_train_1.jpg has no slice"),
    ("times_zoned", in_frames_csv(4, "+02:00", ""), FRAMES_CSV, 4, "has the time '2026-05-01T12:00:00'"),
    ("empty_frames_plausible", many_boxes_but_one, IMAGE, 0, "half of the frames of camera cam1 have 6 or more"),
    ("clips_in_one_split", in_frames_csv(6, "c_val", "c_train"), FRAMES_CSV, 2, "lies in train, val"),
    ("no_strays", lambda root: (root / "labels/test/gone.txt").touch(), "labels/test/gone.txt", 0, "to no frame"),
    ("no_strays", lambda root: shutil.copy(root / IMAGE, root / "images/train/new.jpg"),
     "images/train/new.jpg", 0, "frames.csv does not list"),
]  # fmt: skip


def test_a_sound_dataset_passes_every_check(sound_dataset: Path, capfd: pytest.CaptureFixture[str]) -> None:
    docs = sound_dataset.parent / "docs"
    docs.mkdir()
    (docs / "old.html").touch()
    results = run_checks(sound_dataset, docs)
    assert [result for result in results.values() if not result.passed or result.offenders] == []
    assert {name: result.num_checked for name, result in results.items()} == {
        **dict.fromkeys(("images_readable", "labels_present", "no_duplicates_across_splits", "cameras_named"), 12),
        **dict.fromkeys(("slices_named", "times_zoned", "empty_frames_plausible", "no_strays"), 12),
        **dict.fromkeys(("labels_parse", "classes_known", "boxes_inside", "boxes_large_enough"), 36),
        "classes_in_every_split": 9,
        "clips_in_one_split": 6,
    }
    assert (docs / "index.html").is_file() and not (docs / "old.html").exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("check", "spoil", "file", "line", "message"), FAULTS)
def test_a_planted_fault_fails_its_check_alone(
    sound_dataset: Path, check: str, spoil: Callable[[Path], object], file: str, line: int, message: str
) -> None:
    spoil(sound_dataset)
    results = run_checks(sound_dataset)
    assert [name for name, result in results.items() if not result.passed] == [check]
    first = results[check].offenders[0]
    assert (first.file, first.line) == (f"data/{file}", line)
    assert message in first.message
    assert results[check].num_failed == len(results[check].offenders)


def test_every_check_has_a_planted_fault() -> None:
    assert {check.name for check in dataset_checks(PARAMS)} == {fault[0] for fault in FAULTS}


def test_all_failures_count_but_few_are_listed(sound_dataset: Path) -> None:
    append(LABEL, "0 0.5\n" * 10)(sound_dataset)
    result = run_checks(sound_dataset)["labels_parse"]
    assert (result.num_failed, result.num_checked, len(result.offenders)) == (10, 13 + 33, 3)


def test_a_box_may_reach_a_pixel_outside(sound_dataset: Path) -> None:
    append(LABEL, f"0 {(5 - 0.9) / 96} 0.5 {10 / 96} 0.2\n")(sound_dataset)
    assert run_checks(sound_dataset)["boxes_inside"].passed


def test_a_dataset_without_a_readable_image_or_a_clip_is_still_judged(sound_dataset: Path) -> None:
    for path in (sound_dataset / "images").rglob("*.jpg"):
        path.write_bytes(b"")
    frames_csv = sound_dataset / FRAMES_CSV
    frames_csv.write_text(re.sub(r",c_\w+,", ",,", frames_csv.read_text()))
    results = run_checks(sound_dataset)
    assert results["images_readable"].num_failed == 12
    assert results["clips_in_one_split"].passed and results["clips_in_one_split"].num_checked == 0
    assert results["classes_in_every_split"].num_failed == 9

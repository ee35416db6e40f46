"""Every check of files, labels, boxes, classes and frames.csv finds its fault, and is silent on a sound dataset."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.dataset.checks.balance import balance_checks
from flows.dataset.checks.check import Check
from flows.dataset.checks.expectations import CheckResult, Offender, run_expectations
from flows.dataset.checks.frames import frames_checks
from flows.dataset.checks.geometry import geometry_checks
from flows.dataset.checks.labels import labels_checks
from flows.dataset.checks.listing import listing_checks
from flows.dataset.layout import FRAMES_CSV, read_dataset
from flows.dataset.manifest.manifest import build_manifest
from flows.errors import ParamsError
from flows.params_data import ValidateParams
from flows.params_file import read_params

DEFAULTS = read_params(Path(__file__).parents[3] / "params.yaml").validate_
LABELS = DEFAULTS.labels.model_copy(update={"min_box_px": 2.0, "min_shape_boxes": 10, "min_class_boxes": 8})
PARAMS = DEFAULTS.model_copy(update={"max_warnings_listed": 3, "labels": LABELS})
FAMILIES = (frames_checks, labels_checks, geometry_checks, balance_checks, listing_checks)
CHECKS: dict[str, Check] = {check.name: check for family in FAMILIES for check in family(PARAMS)}
LABEL = "labels/train/cam1_train_0.txt"
IMAGE = "images/train/cam1_train_0.jpg"


def run_checks(root: Path, docs_dir: Path | None = None, params: ValidateParams = PARAMS) -> dict[str, CheckResult]:
    """The results of the families above; others have tests of their own."""
    dataset = read_dataset(root)
    results = run_expectations(dataset, build_manifest(dataset, 2), params, docs_dir)
    return {result.name: result for result in results if result.name in CHECKS}


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


def grey(value: int, size_wh: tuple[int, int] = (96, 64), spread: int = 0) -> Callable[[Path], None]:
    """Draw the frame anew in one grey, or in noise about it."""

    def spoil(root: Path) -> None:
        noise = np.random.default_rng(0).integers(-spread, spread + 1, (size_wh[1], size_wh[0]))
        Image.fromarray((noise + value).clip(0, 255).astype(np.uint8)).save(root / IMAGE)

    return spoil


def orient(value: int) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        with Image.open(root / IMAGE) as image:
            exif = image.getexif()
            exif[0x0112] = value
            image.save(root / IMAGE, exif=exif, quality=95)

    return spoil


def drop_class_2_of_val(root: Path) -> None:
    for path in (root / "labels" / "val").iterdir():
        path.write_text("\n".join(path.read_text().splitlines()[:2]))


def many_boxes_but_one(root: Path) -> None:
    more = "".join(f"0 {0.1 + 0.1 * column:.1f} 0.8 0.2 0.2\n" for column in range(5))
    for path in (root / "labels").rglob("cam1_*.txt"):
        path.write_text(path.read_text() + more)
    (root / LABEL).write_text("")


def seldom_a_class(root: Path) -> None:
    for path in (root / "labels").rglob("*_1.txt"):
        path.write_text("\n".join(path.read_text().splitlines()[:2]))


def few_buses_in_val(root: Path) -> None:
    """Four clips of each split, so that chance hardly deals them so; train and test have nine buses for a car."""
    lines = (root / FRAMES_CSV).read_text().splitlines()
    spread = [re.sub(r"_(\d)\.jpg,(.*),c_", r"_\1.jpg,\2,c\1_", line) for line in lines]
    (root / FRAMES_CSV).write_text("\n".join(spread) + "\n")
    more = "".join(f"2 {0.15 + 0.1 * column:.2f} 0.5 0.2 0.9\n" for column in range(8))
    for path in [*(root / "labels" / "train").iterdir(), *(root / "labels" / "test").iterdir()]:
        path.write_text(path.read_text() + more)


FAULTS: list[tuple[str, Callable[[Path], object], str, int, str]] = [
    ("images_readable", lambda root: (root / IMAGE).write_bytes(b"x"), IMAGE, 0, "no image of a known format"),
    ("frames_show_something", grey(0), IMAGE, 0, "100% of it is almost black: lens covered"),
    ("frames_show_something", grey(255), IMAGE, 0, "100% of it is almost white"),
    ("frames_show_something", grey(90, spread=2), IMAGE, 0, "grey levels): lens covered"),
    ("camera_keeps_size", grey(90, (96, 72), 20), IMAGE, 0, "is 96 x 72 px, as 1 of 6 frames of camera cam1; most are"),
    ("orientation_readable", orient(9), IMAGE, 0, "none of 1 to 8"),
    ("frames_stored_upright", orient(3), IMAGE, 0, "orientation 3 (turned by 180°) turns it"),
    ("labels_present", lambda root: (root / LABEL).unlink(), LABEL, 0, "the label file is missing"),
    ("labels_parse", append(LABEL, "0 0.5 0.5 nan 0.1\n"), LABEL, 4, "width 'nan' is not a finite number"),
    ("labels_parse", lambda root: (root / LABEL).write_bytes(b"\xff\xfe0\x00"), LABEL, 1, "the text is UTF-16"),
    ("classes_known", append(LABEL, "9 0.5 0.5 0.1 0.1\n"), LABEL, 4, "only 3 classes (0 car ... 2 bus)"),
    ("empty_frames_plausible", many_boxes_but_one, LABEL, 0, "half of the day frames of camera cam1 have 8 or more"),
    ("no_strays", lambda root: (root / "labels/test/gone.txt").touch(), "labels/test/gone.txt", 0, "to no frame"),
    ("no_strays", lambda root: shutil.copy(root / IMAGE, root / "images/train/new.jpg"),
     "images/train/new.jpg", 0, "frames.csv does not list"),
    ("boxes_inside", append(LABEL, "0 0.5 0.02 0.2 0.2\n"), LABEL, 4, "the car reaches 5.1 px outside the frame"),
    ("boxes_inside", append(LABEL, "0 50 20 30 20\n"), LABEL, 4, "(pixels instead of fractions?)"),
    ("boxes_large_enough", append(LABEL, "1 0.5 0.5 0.02 0.03\n"), LABEL, 4, "the big truck is 1.92 x 1.92 px"),
    ("boxes_smaller_than_frame", append(LABEL, "2 0.5 0.5 0.99 0.99\n"), LABEL, 4, "the bus covers 98% of the frame"),
    ("boxes_labelled_once", append(LABEL, "0 0.26 0.5 0.2 0.2\n"), LABEL, 4, "repeats the car of line 1 (IoU 0.90)"),
    ("classes_agree", append(LABEL, "0 0.5 0.5 0.3 0.41\n"), LABEL, 4,
     "the car is also the big truck of line 2 (IoU 0.98)"),
    ("aspects_plausible", append(LABEL, "0 0.5 0.5 0.8 0.05\n"), LABEL, 4,
     "the car is 77 x 3 px, 24.00 times as wide as high; usual is 1.50 (robust z 18.5)"),
    ("sizes_plausible", append(LABEL, "0 0.5 0.58 0.04 0.04\n"), LABEL, 4, "times smaller than usual here"),
    ("classes_in_every_split", drop_class_2_of_val, "labels/val", 0, "no bus among the 4 frames of val"),
    ("classes_frequent", seldom_a_class, "data.yaml", 0, "only 6 boxes are of the class bus"),
    ("class_mix_even", few_buses_in_val, "labels/val", 0, "bus has 33% of the boxes of val, but 76% of all"),
    ("cameras_named", in_frames_csv(2, "cam1,", " ,"), FRAMES_CSV, 2, "cam1_train_0.jpg has no camera"),
    ("slices_named", in_frames_csv(3, "day", ""), FRAMES_CSV, 3, "cam1_train_1.jpg has no slice"),
    ("times_zoned", in_frames_csv(4, "+02:00", ""), FRAMES_CSV, 4, "has the time '2026-05-01T12:00:00'"),
]  # fmt: skip


def test_a_sound_dataset_passes_every_check(sound_dataset: Path, capfd: pytest.CaptureFixture[str]) -> None:
    docs = sound_dataset.parent / "docs"
    docs.mkdir()
    (docs / "old.html").touch()
    results = run_checks(sound_dataset, docs)
    assert [result for result in results.values() if not result.passed or result.offenders] == []
    assert {check.table: results[name].num_checked for name, check in CHECKS.items() if check.table != "boxes"} == {
        **dict.fromkeys(("frames", "label_files", "partners", "listing"), 12),
        **{"label_lines": 36, "classes": 9, "class_totals": 3, "split_mixes": 3},
    }
    looked_at = {name: results[name].num_checked for name, check in CHECKS.items() if check.table == "boxes"}
    assert looked_at.pop("aspects_plausible") == looked_at.pop("sizes_plausible") == 36 - 12  # buses touch the border
    assert set(looked_at.values()) == {36}
    assert (docs / "index.html").is_file() and not (docs / "old.html").exists()
    assert capfd.readouterr() == ("", "")


def test_a_sound_dataset_passes_with_the_thresholds_of_the_project(sound_dataset: Path) -> None:
    results = run_checks(sound_dataset, params=DEFAULTS)
    assert [name for name, result in results.items() if not result.passed] == []
    assert "fewer than 50 whole boxes: big truck (12), bus (0), car (12)" in results["sizes_plausible"].note
    assert results["sizes_plausible"].num_checked == 0


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
    assert not first.image or (sound_dataset / first.image).exists()
    assert first.image or CHECKS[check].table in ("classes", "class_totals", "split_mixes", "partners")


def test_every_check_has_a_planted_fault() -> None:
    assert set(CHECKS) - {"frames_large_enough"} == {fault[0] for fault in FAULTS}


def test_all_failures_count_but_few_are_listed(sound_dataset: Path) -> None:
    append(LABEL, "0 0.5\n" * 10)(sound_dataset)
    result = run_checks(sound_dataset)["labels_parse"]
    assert (result.num_failed, result.num_checked, len(result.offenders)) == (10, 13 + 33, 3)


def test_a_frame_below_the_smallest_size_is_told(sound_dataset: Path) -> None:
    params = DEFAULTS.model_copy(update={"labels": LABELS.model_copy(update={"min_frame_px": 65})})
    result = run_checks(sound_dataset, params=params)["frames_large_enough"]
    assert (result.severity, result.num_failed) == ("warn", 12)
    assert result.offenders[0].message == "the frame is only 96 x 64 px"
    assert result.threshold == "validate.labels.min_frame_px = 65"


def test_the_worst_come_first(sound_dataset: Path) -> None:
    append(LABEL, "0 0.5 0.08 0.2 0.2\n0 0.5 0.02 0.2 0.2\n0 0.5 0.05 0.2 0.2\n0 0.5 0.07 0.2 0.2\n")(sound_dataset)
    result = run_checks(sound_dataset)["boxes_inside"]
    assert result.num_failed == 4
    assert [offender.line for offender in result.offenders] == [5, 6, 7]


def test_a_box_may_reach_a_pixel_outside(sound_dataset: Path) -> None:
    append(LABEL, f"0 {(5 - 0.9) / 96} 0.5 {10 / 96} 0.2\n")(sound_dataset)
    assert run_checks(sound_dataset)["boxes_inside"].passed


def test_an_orientation_that_does_not_turn_is_no_fault(sound_dataset: Path) -> None:
    orient(1)(sound_dataset)
    results = run_checks(sound_dataset)
    assert results["frames_stored_upright"].passed and results["orientation_readable"].passed


def test_other_cameras_may_have_other_sizes(sound_dataset: Path) -> None:
    for path in (sound_dataset / "images").rglob("cam1_*.jpg"):
        with Image.open(path) as image:
            image.resize((128, 96)).save(path, quality=95)
    assert run_checks(sound_dataset)["camera_keeps_size"].passed


def test_unknown_cameras_are_reported_for_rare_shapes_only(sound_dataset: Path) -> None:
    frames_csv = sound_dataset / FRAMES_CSV
    frames_csv.write_text(re.sub(r",cam\d,", ",unknown,", frames_csv.read_text()))
    grey(90, (96, 96), 20)(sound_dataset)
    assert run_checks(sound_dataset)["camera_keeps_size"].passed  # one frame of twelve is no rarity
    params = DEFAULTS.model_copy(update={"labels": LABELS.model_copy(update={"rare_size_share": 0.1})})
    result = run_checks(sound_dataset, params=params)["camera_keeps_size"]
    assert "as 1 of 12 frames without a known camera" in result.offenders[0].message
    assert "only rare shapes" in result.note


def test_a_quiet_night_of_a_busy_camera_may_be_empty(sound_dataset: Path) -> None:
    many_boxes_but_one(sound_dataset)
    (sound_dataset / LABEL.replace("_0.txt", "_1.txt")).write_text("")
    frames_csv = sound_dataset / FRAMES_CSV
    frames_csv.write_text(re.sub(r"(cam1_train_\d.*),day", r"\1,night", frames_csv.read_text()))
    assert run_checks(sound_dataset)["empty_frames_plausible"].passed


def test_a_dataset_without_a_readable_image_or_a_clip_is_still_judged(sound_dataset: Path) -> None:
    for path in (sound_dataset / "images").rglob("*.jpg"):
        path.write_bytes(b"")
    frames_csv = sound_dataset / FRAMES_CSV
    frames_csv.write_text(re.sub(r",c_\w+,", ",,", frames_csv.read_text()))
    results = run_checks(sound_dataset)
    failed = {name: result.num_failed for name, result in results.items() if not result.passed}
    assert failed == {"images_readable": 12, "classes_in_every_split": 9}


def test_one_class_and_one_frame_are_enough_to_be_judged(sound_dataset: Path) -> None:
    lines = (sound_dataset / FRAMES_CSV).read_text().splitlines(keepends=True)
    (sound_dataset / FRAMES_CSV).write_text("".join(lines[:2]))
    (sound_dataset / "data.yaml").write_text("names: [car]\n")
    (sound_dataset / LABEL).write_text("0 0.5 0.5 0.2 0.2\n")
    results = run_checks(sound_dataset)
    assert [o.message for o in results["classes_in_every_split"].offenders] == [
        "no car among the 0 frames of val",
        "no car among the 0 frames of test",
    ]


def test_severities_come_from_params(sound_dataset: Path) -> None:
    params = PARAMS.model_copy(update={"severity": {"frames_show_something": "stop", "images_readable": "warn"}})
    results = run_checks(sound_dataset, params=params)
    assert (results["frames_show_something"].severity, results["images_readable"].severity) == ("stop", "warn")
    assert results["labels_parse"].severity == "stop"


def test_an_unknown_check_among_the_severities_is_refused(sound_dataset: Path) -> None:
    params = PARAMS.model_copy(update={"severity": {"image_readable": "warn"}})
    with pytest.raises(
        ParamsError, match=r"'image_readable', which does not exist \(did you mean images_readable"
    ) as told:
        run_checks(sound_dataset, params=params)
    assert "Known: aspects_plausible, boxes_inside" in str(told.value)


def test_data_docs_tell_title_severity_and_threshold(sound_dataset: Path) -> None:
    append(LABEL, "0 0.5 0.02 0.2 0.2\n")(sound_dataset)
    docs = sound_dataset.parent / "docs"
    run_checks(sound_dataset, docs)
    text = "\n".join(path.read_text() for path in docs.rglob("validations/**/*.html"))
    for check in CHECKS.values():
        threshold = f", threshold {check.threshold}" if check.threshold else ""
        assert html.escape(f"{check.title} ({check.name}: {check.severity}{threshold})") in text


def test_an_offender_reads_as_file_line_and_message() -> None:
    assert str(Offender(file="data/a.txt", line=3, message="broken")) == "data/a.txt:3: broken"
    assert str(Offender(file="data/a.jpg", line=0, message="gone")) == "data/a.jpg: gone"

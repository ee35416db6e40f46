"""The verdict, its figures, and a page that stands alone."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from flows.dataset.contact_sheet import contact_sheet
from flows.dataset.layout import FRAMES_CSV, Dataset, read_dataset
from flows.dataset.manifest import Manifest, build_manifest
from flows.dataset.validation import ValidationReport, validate_dataset, validation_page
from flows.dataset.validation_page import stacked_bars
from flows.params_file import read_params

DEFAULTS = read_params(Path(__file__).parents[2] / "params.yaml").validate_
PARAMS = DEFAULTS.model_copy(
    update={"max_warnings_listed": 20, "labels": DEFAULTS.labels.model_copy(update={"min_box_px": 1.0})}
)


def validate(root: Path) -> tuple[Dataset, Manifest, ValidationReport]:
    dataset = read_dataset(root)
    manifest = build_manifest(dataset, 1)
    return dataset, manifest, validate_dataset(dataset, manifest, PARAMS)


def test_a_sound_dataset_may_train(sound_dataset: Path) -> None:
    _, _, report = validate(sound_dataset)
    assert report.passed
    assert report.sentence == "12 frames with 36 boxes may train: 14 checks passed."
    assert (report.num_images, report.num_boxes, report.num_images_without_boxes) == (12, 36, 0)
    assert (report.num_cameras, report.num_clips, report.num_warnings) == (2, 6, 0)
    assert report.images_per_split == {"train": 4, "val": 4, "test": 4}
    assert report.images_per_slice == {"day": {"train": 4, "val": 4, "test": 4}}
    assert report.images_per_camera == {"cam1": 6, "cam2": 6}
    assert report.boxes_per_class["big truck"] == {"train": 4, "val": 4, "test": 4}
    assert ValidationReport.model_validate_json(report.model_dump_json()) == report


def test_a_warning_does_not_stop_the_train(sound_dataset: Path) -> None:
    (sound_dataset / "labels/val/gone.txt").touch()
    _, _, report = validate(sound_dataset)
    assert report.passed and report.num_warnings == 1
    assert report.sentence == "12 frames with 36 boxes may train: 13 checks passed, 1 warning."


def test_a_fault_stops_the_train_and_the_sentence_says_where(sound_dataset: Path) -> None:
    (sound_dataset / "labels/test/cam2_test_1.txt").write_text("0 0.5 0.5 0.1 0.1 0.9\n")
    _, _, report = validate(sound_dataset)
    assert not report.passed
    assert report.sentence.startswith("12 frames with 33 boxes must not train: 1 check of 14 failed.")
    assert "data/labels/test/cam2_test_1.txt:1: 6 columns" in report.sentence


class _References(HTMLParser):
    """Collects what a page refers to, and checks that tags are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in ("meta", "img", "rect", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self.open.pop() == tag


def test_the_page_stands_alone_and_shows_where_what_is_wrong(sound_dataset: Path) -> None:
    (sound_dataset / "labels/test/cam2_test_1.txt").write_text("0 0.5 <b>\n" * 12)
    text = (sound_dataset / FRAMES_CSV).read_text()
    (sound_dataset / FRAMES_CSV).write_text(text.replace("cam1,", "<script>cam</script>,"))
    dataset, manifest, report = validate(sound_dataset)
    html = validation_page(report, dataset, manifest, "docs/index.html")
    parser = _References()
    parser.feed(html)
    assert parser.open == []
    assert [url for url in parser.references if not url.startswith("data:")] == ["docs/index.html"]
    assert html.index("must not train") < html.index("<svg") < html.index("data:image/jpeg")
    assert "data/labels/test/cam2_test_1.txt:12" in html and "4 more" in html
    assert "<script>" not in html and "&lt;script&gt;cam" in html


def test_the_contact_sheet_is_a_picture_of_readable_frames(sound_dataset: Path) -> None:
    broken = sound_dataset / "images/train/cam1_train_0.jpg"
    broken.write_bytes(b"x")
    dataset, manifest, _ = validate(sound_dataset)
    uri = contact_sheet(dataset.root, manifest, num_frames=5)
    picture = Image.open(BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert picture.format == "JPEG"
    assert picture.size == (4 * 320, 2 * 220)  # five frames in rows of four


def test_no_readable_frame_gives_a_page_without_pictures(sound_dataset: Path) -> None:
    for path in (sound_dataset / "images").rglob("*.jpg"):
        path.write_bytes(b"x")
    dataset, manifest, report = validate(sound_dataset)
    assert "data:image" not in validation_page(report, dataset, manifest)


@pytest.mark.parametrize(
    ("counts", "widths"),
    [
        ({}, []),
        ({"a": {"train": 0, "val": 0}}, ["0.0", "0.0"]),
        ({"a": {"train": 3, "val": 1}, "b": {"train": 2, "val": 0}}, ["315.0", "105.0", "210.0", "0.0"]),
    ],
)
def test_bars_are_as_long_as_their_numbers(counts: dict[str, dict[str, int]], widths: list[str]) -> None:
    assert re.findall(r'<rect [^>]*width="([\d.]+)"', stacked_bars(counts)) == widths

"""The page of a validation: what it says, and how it behaves in a browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from flows.dataset.checks.expectations import CheckResult, Offender
from flows.dataset.layout import FRAMES_CSV, Dataset, read_dataset
from flows.dataset.manifest.manifest import TABLES, Manifest, build_manifest
from flows.dataset.report.frames_drawn import DrawnFrames, spread
from flows.dataset.report.page import MAX_DRAWN, validation_page
from flows.dataset.report.validation import ValidationReport, validate_dataset
from flows.params_file import read_params

PARAMS = read_params(Path(__file__).parents[3] / "params.yaml").validate_.model_copy(update={"max_warnings_listed": 20})
VOID = ("meta", "img", "rect", "br", "line", "polyline")


def validated(root: Path) -> tuple[ValidationReport, Dataset, Manifest]:
    dataset = read_dataset(root)
    manifest = build_manifest(dataset, 1)
    return validate_dataset(dataset, manifest, PARAMS), dataset, manifest


@pytest.fixture
def faulty_dataset(sound_dataset: Path) -> Path:
    """Broken lines, a box outside, an unreadable image, twins across splits, names that try to be markup."""
    (sound_dataset / "labels/test/cam2_test_1.txt").write_text("0 0.5 <b>\n" * 12)
    (sound_dataset / "labels/test/cam1_test_0.txt").write_text("0 0.95 0.5 0.4 0.2\n1 0.3 0.3 0.2 0.2\n")
    (sound_dataset / "images/train/cam1_train_0.jpg").write_bytes(b"x")
    shutil.copy(sound_dataset / "images/train/cam1_train_1.jpg", sound_dataset / "images/val/cam1_val_1.jpg")
    (sound_dataset / "labels/val/a b 'ü' \"<i>\".txt").touch()
    text = (sound_dataset / FRAMES_CSV).read_text()
    (sound_dataset / FRAMES_CSV).write_text(text.replace("cam1,", "<script>cam</script>,"))
    return sound_dataset


class _Elements(HTMLParser):
    """Collects what a page refers to and its anchors, and checks that tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.anchors: list[str] = []
        self.images: list[dict[str, str]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.references += [found[name] for name in ("href", "src") if name in found]
        self.anchors += [found["id"]] if "id" in found else []
        self.images += [found] if tag == "img" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_the_page_stands_alone_and_its_links_lead_somewhere(faulty_dataset: Path) -> None:
    html = validation_page(*validated(faulty_dataset), "docs/index.html")
    found = _Elements(html)
    assert found.open == []
    outside = [url for url in found.references if not url.startswith(("data:image/jpeg;base64,", "#"))]
    assert outside == ["docs/index.html"]
    assert {url[1:] for url in found.references if url.startswith("#")} <= set(found.anchors)
    assert len(found.anchors) == len(set(found.anchors))
    assert all(image["alt"] for image in found.images)


def test_the_verdict_comes_first_and_faults_before_samples_before_charts(faulty_dataset: Path) -> None:
    html = validation_page(*validated(faulty_dataset))
    order = [
        "must not train",
        '<dl class="tiles">',
        'id="faults"',
        "data:image/jpeg",
        'id="samples"',
        "<svg",
        'id="checks"',
    ]
    places = [html.index(one) for one in order]
    assert places == sorted(places)


def test_offenders_are_named_and_markup_in_names_is_not_markup(faulty_dataset: Path) -> None:
    html = validation_page(*validated(faulty_dataset))
    assert "data/labels/test/cam2_test_1.txt:12" in html and "10 more in this frame" in html
    assert "<script>" not in html and "&lt;script&gt;cam" in html and "<i>" not in html


def test_a_sound_set_has_nothing_to_look_at(sound_dataset: Path) -> None:
    report, dataset, manifest = validated(sound_dataset)
    fine = report.model_copy(update={"checks": tuple(check for check in report.checks if check.passed)})
    html = validation_page(fine, dataset, manifest, docs_href="")
    assert 'id="faults"' not in html and "#faults" not in html and "Data Docs" not in html
    assert html.count("<img") == 12  # sample frames


def test_a_set_without_a_readable_frame_or_box_has_a_page_without_pictures(sound_dataset: Path) -> None:
    for path in (sound_dataset / "images").rglob("*.jpg"):
        path.write_bytes(b"x")
    html = validation_page(*validated(sound_dataset))
    assert "data:image" not in html and 'id="samples"' not in html and "<svg" in html


def test_the_page_says_what_detail_it_shows(sound_dataset: Path) -> None:
    report, dataset, manifest = validated(sound_dataset)
    reduced, full = (validation_page(report, dataset, manifest, detail=detail) for detail in ("reduced", "full"))
    assert "Pictures are reduced" in reduced and "validate.pictures: full" in reduced
    assert "full detail</b>" in full and "Pictures are reduced" not in full
    assert full.index("full detail</b>") < full.index("<img")


# The drawn frames


def check_of(offenders: list[Offender], name: str = "c") -> CheckResult:
    return CheckResult(
        name=name,
        title="Nothing is wrong",
        severity="stop",
        passed=False,
        num_checked=len(offenders),
        num_failed=len(offenders),
        offenders=tuple(offenders),
    )


def test_faults_of_one_frame_share_a_picture_and_unreadable_frames_have_none(faulty_dataset: Path) -> None:
    _, dataset, manifest = validated(faulty_dataset)
    image, label = "images/test/cam1_test_0.jpg", "data/labels/test/cam1_test_0.txt"
    check = check_of(
        [
            Offender(
                file="data/images/train/cam1_train_0.jpg", line=0, message="x", image="images/train/cam1_train_0.jpg"
            ),
            *[Offender(file=label, line=line, message=f"fault {line}", image=image) for line in (1, 2)],
            Offender(file="data/frames.csv", line=3, message="no image"),
        ]
    )
    (picture,) = DrawnFrames(dataset, manifest, "reduced").offenders(check, 10)
    assert picture.alt == f"{image}: fault 1"
    assert "fault 1" in picture.caption and "fault 2" in picture.caption
    assert DrawnFrames(dataset, manifest, "reduced").offenders(check, 0) == []


class Paired(Offender):
    partner: str = ""


def test_a_frame_and_its_partner_stand_side_by_side_once(sound_dataset: Path) -> None:
    report, dataset, manifest = validated(sound_dataset)
    one, other, alone = (frame.image for frame in dataset.frames[:3])
    check = check_of(
        [
            Paired(file=one, line=0, message="the same", image=one, partner=other),
            Paired(file=other, line=0, message="the same", image=other, partner=one),
            Paired(file=alone, line=0, message="the same", image=alone, partner="images/train/gone.jpg"),
        ]
    )
    pair, single = DrawnFrames(dataset, manifest, "reduced").offenders(check, 10)
    assert (len(pair.data_uris), len(single.data_uris)) == (2, 1)
    html = validation_page(report.model_copy(update={"checks": (check,)}), dataset, manifest)
    assert html.count('<figure class="pair">') == 1 and "(for comparison)" in html


def test_the_number_of_pictures_does_not_grow_with_the_faults(sound_dataset: Path) -> None:
    report, dataset, manifest = validated(sound_dataset)
    offenders = [
        Offender(file=f"data/{frame.image}", line=0, message="m", image=frame.image) for frame in dataset.frames
    ]
    checks = tuple(check_of(offenders, f"check{index}") for index in range(20))
    html = validation_page(report.model_copy(update={"checks": checks}), dataset, manifest)
    assert html.count("<img") == MAX_DRAWN + len(dataset.frames)


@pytest.mark.parametrize(("number", "chosen"), [(9, "abcdef"), (6, "abcdef"), (3, "bdf"), (1, "d")])
def test_samples_are_spread_evenly(number: int, chosen: str) -> None:
    images = pd.DataFrame({"camera": list("112233"), "split": "train", "image": list("abcdef")})
    assert spread(images.sample(frac=1, random_state=1), number) == list(chosen)


def test_the_page_of_a_hundred_thousand_frames_is_no_larger_than_some_mb(sound_dataset: Path) -> None:
    report, dataset, manifest = validated(sound_dataset)
    images = pd.concat([manifest.images] * 8334, ignore_index=True)
    boxes = pd.concat([manifest.boxes] * 8334, ignore_index=True)
    images["image"] = [f"{name}.{index}" for index, name in enumerate(images["image"])]
    images["camera"] = [f"cam{index % 3000}" for index in range(len(images))]
    images["slice"] = [f"slice{index % 200}" for index in range(len(images))]
    html = validation_page(report, dataset, Manifest(images, boxes, manifest.problems, manifest.thumbnails))
    assert html.count("<img") <= MAX_DRAWN + 40 and len(html) < 2e6
    assert "The 400 cameras with most frames are listed" in html
    assert list(images.columns) == list(TABLES["images"])


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on the path (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--no-first-run"])
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser_nothing_overflows_nothing_is_fetched_nothing_complains(
    faulty_dataset: Path, browser: Browser, width: int, scheme: str
) -> None:
    path = faulty_dataset.parent / "validate.html"
    path.write_text(validation_page(*validated(faulty_dataset)), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    assert said == [] and [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    overflowing = """[...document.querySelectorAll("body *")].filter(one => !one.closest(".scroll")
        && one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 100))"""
    assert page.evaluate(overflowing) == []
    page.close()


def test_in_a_browser_contents_and_details_work_with_the_keyboard(faulty_dataset: Path, browser: Browser) -> None:
    path = faulty_dataset.parent / "validate.html"
    path.write_text(validation_page(*validated(faulty_dataset)), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.url.endswith("#faults")
    summary = page.locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert summary.evaluate("one => one.parentElement.open")
    page.close()


def test_a_picture_of_the_page_is_small_even_where_the_frame_is_large(sound_dataset: Path) -> None:
    large = Image.effect_noise((1920, 1080), 90).convert("RGB")
    large.save(sound_dataset / "images/train/cam1_train_0.jpg", quality=98)
    html = validation_page(*validated(sound_dataset))
    sizes = [len(uri) for uri in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)]
    assert max(sizes) < 60_000

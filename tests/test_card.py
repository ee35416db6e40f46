"""Model cards: figures from the reports, limits drawn from them, what is unknown said, names never taken for signs."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from bentos.detector.contract import EngineSpec, InputSpec, ModelSpec, Thresholds, write_spec
from flows.adapters.registry import Registry
from flows.cards.card import card_description, hub_metadata, make_card, write_card, write_version_card
from flows.cards.limits import measured_limits
from flows.cards.markdown import text_of
from flows.cards.page import markup_of
from flows.cards.sources import (
    CardBackground,
    gather_background,
    read_background,
    read_data_licence,
    read_sources,
)
from flows.cards.versions import card_of_artifacts, card_of_version
from flows.cli.card import add_to
from flows.comparison.evaluation import compare
from flows.comparison.predictions import GroundTruth, LabelledFrame, Predictions, ground_truth, predictions
from flows.dataset.checks.expectations import CheckResult
from flows.dataset.report.validation import ValidationReport
from flows.errors import ProjectError
from flows.exporting.accuracy import Accuracy, Baseline, Loss
from flows.exporting.benchmark import BatchLatency, Speed
from flows.exporting.candidates import NotBuilt
from flows.exporting.decoding import keep_full
from flows.exporting.parity import ParityReport
from flows.exporting.report import CandidateReport, ChoiceRule, ExportReport
from flows.params_file import read_params
from flows.settings import Project, read_settings
from flows.training.epochs import EpochMetrics
from flows.training.reproducibility import DataDifferenceSummary, TrainReport

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ("car", "<script>|bus*")
PROVENANCE = {
    "git_commit": "c0ffee" * 6,
    "git_dirty": False,
    "data_md5": "9f9730ce.dir",
    "params_digest": "785c9aff",
    "dvc_lock_sha256": None,
    "seed": 3,
    "versions": {"torch": "2.14.1"},
    "hardware": "4 cores, no GPU",
}
PARITY = ParityReport(
    passed=True,
    sentence="agrees with PyTorch: mean IoU 0.9990",
    num_frames=16,
    num_boxes=640,
    matched_share=1.0,
    mean_iou=0.999,
    min_iou=0.9,
    mean_score_diff=0.001,
    max_score_diff=0.01,
)


def draw_truth(rng: np.random.Generator) -> GroundTruth:
    frames = []
    for number in range(48):
        low = rng.uniform(0, 300, (4, 2))
        boxes = np.hstack([low, low + rng.uniform(40, 90, (4, 2))])
        slice_name = ("day", "night")[number % 2]
        frames.append(
            LabelledFrame(
                f"images/test/{number}.jpg", f"cam{number % 8}", "c0", slice_name, boxes, np.array([0, 0, 0, 1])
            )
        )
    return ground_truth(CLASSES, frames)


def draw_found(rng: np.random.Generator, truth: GroundTruth, share: float) -> Predictions:
    """Find a share of the objects, in the night only half as many."""
    boxes, scores, class_ids = [], [], []
    for index in range(len(truth.images)):
        here = truth.of(index)
        luck = share if truth.slices[index] == "day" else share / 2
        kept = rng.random(4) < luck
        boxes.append(truth.boxes_xyxy[here][kept] + rng.normal(0, 1, (int(kept.sum()), 4)))
        scores.append(rng.uniform(0.3, 1, int(kept.sum())))
        class_ids.append(truth.class_ids[here][kept])
    return predictions(truth.images, boxes, scores, class_ids)


def training(**changes: Any) -> TrainReport:
    values: dict[str, Any] = {
        "passed": True,
        "sentence": "mAP50-95 0.400 on val at epoch 2 of 3",
        "epochs": 3,
        "best_epoch": 2,
        "map50": 0.6,
        "map50_95": 0.4,
        "images": 256,
        "seconds": 120.0,
        "images_per_s": 31.25,
        "weights_sha256": "b" * 64,
        "started_from": "yolo11n.yaml",
        "classes_started_from": None,
        "head_kept": None,
        "classes": CLASSES,
        "num_parameters": 2_590_620,
        "input_size_wh": (320, 192),
        "seed": 3,
        "device": "cpu",
        "precision": "fp32",
        "num_threads": 1,
        "batch": 8,
        "notes": ("out of memory: micro-batch 8 became 4",),
        "data_version": "9f9730ce.dir",
        "data_difference": DataDifferenceSummary(sentence="12 frames added (cam09)"),
    }
    return TrainReport.model_validate({**values, **changes})


def validation() -> ValidationReport:
    check = CheckResult(
        name="rare",
        title="Every class is frequent",
        severity="warn",
        passed=False,
        num_checked=2,
        num_failed=1,
        offenders=(),
    )
    return ValidationReport(
        passed=True,
        sentence="96 frames may train.",
        num_images=96,
        num_boxes=384,
        num_images_without_boxes=0,
        num_cameras=8,
        num_clips=8,
        num_checks_passed=9,
        num_warnings=1,
        classes=CLASSES,
        slices=("day", "night"),
        images_per_split={"train": 48, "val": 0, "test": 48},
        images_per_slice={"day": {"train": 24, "test": 24}, "night": {"train": 24, "test": 24}},
        images_per_camera={f"cam{number}": 12 for number in range(8)},
        boxes_per_class={"car": {"train": 9000, "test": 144}, CLASSES[1]: {"train": 48, "test": 48}},
        checks=(check,),
    )


def exported() -> ExportReport:
    latency = (BatchLatency(batch=1, p50_ms=7.5, p99_ms=9.2, images_per_s=133.0, runs=24),)
    chosen = CandidateReport(
        engine="openvino",
        precision="bf16",
        device="CPU",
        state="chosen",
        reason="the fastest",
        accuracy=Accuracy(map50_95=0.5, loss=Loss(value=0.001, lower=-0.001, upper=0.003, num_units=8)),
        parity=PARITY,
        speed=Speed(load_s=0.5, resident_mb=250.0, num_parallel=2, lone_p50_ms=7.5, lone_p99_ms=9.2, latency=latency),
        best_batch=1,
        images_per_s=133.0,
        in_budget=True,
        engine_bytes=10_400_000,
        float_blocks=(),
        tried=(),
    )
    return ExportReport(
        passed=True,
        sentence="openvino bf16",
        model_digest="ab" * 32,
        engine="openvino",
        precision="bf16",
        device="CPU",
        input_size_wh=(320, 192),
        classes=CLASSES,
        top_k=300,
        file_bytes={"model.bin": 1},
        parity=PARITY,
        latency=latency,
        baseline=Baseline(
            split="test",
            unit="camera",
            alpha=0.05,
            num_images=48,
            num_objects=192,
            num_units=8,
            min_units=6,
            map50_95=0.5,
        ),
        rule=ChoiceRule(max_loss=0.005, latency_budget_ms=100, min_speedup=1.05, sentence="The fastest."),
        candidates=(chosen,),
        not_built=(NotBuilt(engine="tensorrt", precision="fp16", reason="TensorRT is not installed"),),
        calibration=None,
        decoding=keep_full("frames are small"),
    )


def curve(number: int = 3) -> tuple[EpochMetrics, ...]:
    return tuple(
        EpochMetrics(
            epoch=index,
            epochs=number,
            losses={"train_box_loss": 1.5 / index, "val_box_loss": float("nan")},
            score=0.2,
            map50=0.4,
            map50_95=0.2,
            precision=0.5,
            recall=0.5,
            learning_rate=0.001,
            seconds=1.0,
            images_per_s=30.0,
        )
        for index in range(1, number + 1)
    )


BACKGROUND = CardBackground(
    params={"seed": 3, "train": {"epochs": 3, "model": "yolo11n.yaml"}},
    epochs=curve(),
    data_licence="CC BY 4.0",
    bento_tag="its-camera-detector:abc",
    cameras_by_split={"train": ("cam0", "cam1"), "test": tuple(f"cam{number}" for number in range(8))},
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package folder: model.json and the four reports, as flows write them."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "model").mkdir()
    (folder / "reports").mkdir()
    spec = ModelSpec(
        name="its-camera-detector",
        classes=CLASSES,
        input=InputSpec(size_wh=(320, 192)),
        thresholds=Thresholds(conf=0.25, iou=0.6, max_det=100),
        top_k=300,
        engine=EngineSpec(kind="openvino", file="model.xml", precision="bf16"),
    )
    write_spec(folder / "model", spec)
    rng = np.random.default_rng(0)
    truth = draw_truth(rng)
    params = read_params(ROOT / "params.yaml").evaluate.model_copy(update={"replicates": 50})
    evaluation = compare(
        truth, draw_found(rng, truth, 0.9), draw_found(rng, truth, 0.6), params, served_conf=0.25, seed=0
    )
    reports = {"validate": validation(), "train": training(), "export": exported(), "evaluate": evaluation}
    for stage, report in reports.items():
        more = {"stage": stage, "seconds": 1.0, "finished_at": "2026-11-21T11:29:35+00:00", "provenance": PROVENANCE}
        more |= {"champion_version": "4", "challenger_digest": "x"} if stage == "evaluate" else {}
        (folder / "reports" / f"{stage}.json").write_text(json.dumps({**report.model_dump(mode="json"), **more}))
    return folder


@pytest.fixture
def package(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "package"))


class Sound(HTMLParser):
    """Every tag that is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_card_holds_what_mitchell_asks_for_and_every_figure(package: Path) -> None:
    html, markdown = (path.read_text(encoding="utf-8") for path in write_card(package, BACKGROUND))
    headings = ["Model details", "Intended use", "Limits", "Quantitative analyses", "Metrics", "Factors"]
    headings += ["Evaluation data", "Training data", "Training", "Speed", "Ethical considerations", "Provenance"]
    assert re.findall(r"^## (.*)$", markdown, flags=re.MULTILINE) == headings
    assert re.findall(r"<h2>(.*?)</h2>", html) == headings
    evaluation = json.loads((package / "reports" / "evaluate.json").read_text())
    figure = f"{evaluation['challenger']['figures']['map50_95']['value']:.3f}".replace("0.", ".", 1)
    for text in (html, markdown):
        for said in (figure, "champion, version 4", "CC BY 4.0", "9f9730ce.dir", "c0ffee", "4 cores, no GPU", "2.14.1"):
            assert said in text
        for said in ("12 frames added (cam09)", "tca reproduce VERSION", "7.5 / 9.2", "TensorRT is not installed"):
            assert said in text
        assert "nobody is named" in text
        assert "micro-batch 8 became 4" in text


def test_names_from_data_are_never_taken_for_signs(package: Path) -> None:
    html, markdown = (path.read_text(encoding="utf-8") for path in write_card(package, BACKGROUND))
    sound = Sound()
    sound.feed(html)
    assert sound.open == []
    assert "script" not in sound.seen
    body = markdown.split("---\n", 2)[2]
    assert "<script>" not in body
    assert r"&lt;script&gt;\|bus\*" in body
    for header, *rows in tables_of(body):
        width = len(re.findall(r"(?<!\\)\|", header))
        assert all(len(re.findall(r"(?<!\\)\|", row)) == width for row in rows)


def tables_of(markdown: str) -> list[list[str]]:
    blocks = re.split(r"\n\n+", markdown)
    return [block.splitlines() for block in blocks if block.startswith("|")]


def test_the_head_of_the_markdown_is_what_the_hub_reads(package: Path) -> None:
    _, path = write_card(package, BACKGROUND)
    head = yaml.safe_load(path.read_text(encoding="utf-8").split("---\n")[1])
    assert (head["license"], head["pipeline_tag"], head["library_name"]) == (
        "agpl-3.0",
        "object-detection",
        "ultralytics",
    )
    (model,) = head["model-index"]
    (result,) = model["results"]
    assert model["name"] == "its-camera-detector"
    assert result["task"]["type"] == "object-detection"
    assert {"name", "type"} <= result["dataset"].keys()
    assert result["dataset"]["revision"] == "9f9730ce.dir"
    assert {metric["type"] for metric in result["metrics"]} == {"map", "map_50", "map_75", "precision", "recall"}
    assert all(0 <= metric["value"] <= 1 for metric in result["metrics"])


def test_limits_are_drawn_from_the_figures(package: Path) -> None:
    limits = "\n".join(measured_limits(read_sources(package / "model", package / "reports", BACKGROUND)))
    assert "Weakest slice: night" in limits
    assert "Few labels to learn from, in the training split: <script>|bus* (48)" in limits
    assert "of the labelled objects" in limits
    assert "Of the 8 judged cameras 6 were not trained on: cam2" in limits
    assert "8 cameras under the conditions day and night" in limits
    assert "The data gate warned: Every class is frequent (1 of 2 failed)." in limits
    assert "Too few objects to judge the class alone (fewer than 50): <script>|bus* (48)" in limits
    seen = BACKGROUND.model_copy(update={"cameras_by_split": {"train": tuple(f"cam{n}" for n in range(8))}})
    assert "all of which it was trained on" in "\n".join(
        measured_limits(read_sources(package / "model", package / "reports", seen))
    )


def test_parts_without_a_name_say_so(package: Path) -> None:
    """Frames whose manifest names neither slice nor camera."""
    path = package / "reports" / "evaluate.json"
    report = json.loads(path.read_text())
    unnamed = {"night": "", "cam2": ""}
    for part in report["parts"]:
        part["figure"]["name"] = unnamed.get(part["figure"]["name"], part["figure"]["name"])
    path.write_text(json.dumps(report))
    write_card(package, BACKGROUND)
    limits = "\n".join(measured_limits(read_sources(package / "model", package / "reports", BACKGROUND)))
    assert "Weakest slice: (none), mAP50-95" in limits
    assert re.search(r"Too few objects to judge the camera alone .*\(none\) \(24\)", limits)
    assert re.search(r"^\| slice \\?\(none\\?\) \|", card_description(package, "3"), flags=re.MULTILINE)


def test_a_training_that_was_interrupted_tells_the_epoch_in_which_it_went_on(package: Path) -> None:
    path = package / "reports" / "train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "resumed_at": [1, 1]}))
    html, markdown = (one.read_text(encoding="utf-8") for one in write_card(package, BACKGROUND))
    for text in (html, markdown):
        assert re.search(r"interrupted, went on in epoch\W+(td\W+)*2\b", text)
        assert "went on in epoch 2;" in text
    assert html.count(">resumed<") == html.count(">best: 2<") > 0


def test_a_package_older_than_cards_says_what_is_not_known(package: Path) -> None:
    old = json.loads((package / "reports" / "train.json").read_text())
    del old["precision"]
    (package / "reports" / "train.json").write_text(json.dumps(old))
    (package / "reports" / "validate.json").unlink()
    html, markdown = (path.read_text(encoding="utf-8") for path in write_version_card(package / "out", package, "12"))
    for text in (html, markdown):
        assert "was written in another form (precision)" in text
        assert "report of" in text and "is missing" in text
        assert "not stated by the data" in text
        assert "not known" in text
        assert "its-camera-detector, version 12" in text
        assert "tca reproduce 12" in text
        assert "The parameters were not kept" in text


def test_a_model_that_was_not_evaluated_claims_nothing(package: Path) -> None:
    (package / "reports" / "evaluate.json").unlink()
    sources = read_sources(package / "model", package / "reports")
    card = make_card(sources)
    assert (card.ok, card.sentence) == (None, "Not evaluated: nothing is claimed about this model.")
    assert "model-index" not in hub_metadata(sources)
    assert "FOR INFORMATION" in write_card(package, BACKGROUND)[0].read_text(encoding="utf-8")


def test_a_record_that_lacks_something_is_not_called_reproducible(package: Path) -> None:
    (package / "record.json").write_text(json.dumps({"lacks": ["the data have no version"]}))
    html, _ = write_version_card(package / "out", package, "3")
    text = html.read_text(encoding="utf-8")
    assert "It cannot be made again from its record: the data have no version." in text
    assert "tca reproduce" not in text


def test_the_background_is_read_back_and_the_version_card_is_the_card_with_its_number(package: Path) -> None:
    write_card(package, BACKGROUND)
    assert repr(read_background(package / "card.json")) == repr(BACKGROUND)
    html, markdown = write_version_card(package / "out", package, "3")
    assert (html, markdown) == (package / "out" / "cards" / "3.html", package / "out" / "cards" / "3.md")
    text = markdown.read_text(encoding="utf-8")
    unnumbered = (package / "card.md").read_text(encoding="utf-8")
    assert "# its-camera-detector, version 3" in text
    assert text.split("## Intended use")[1].split("## Provenance")[0] in unnumbered
    (package / "card.json").write_text("{broken")
    with pytest.raises(ProjectError, match=r"card\.json of this package cannot be read"):
        write_version_card(package / "out", package, "3")


def test_the_description_is_short_whole_lines(package: Path) -> None:
    write_card(package, BACKGROUND)
    text = card_description(package, "3")
    assert "class car" in text and "slice night" in text
    assert "Weakest slice: night" in text
    assert text.endswith("or `tca card 3`.\n")
    crowded = training(notes=tuple(f"note number {number} of a training with much to tell" for number in range(500)))
    old = json.loads((package / "reports" / "train.json").read_text())
    (package / "reports" / "train.json").write_text(json.dumps({**old, **crowded.model_dump(mode="json")}))
    cut = card_description(package, "3")
    assert len(cut) <= 4000
    assert "…" in cut
    assert cut.endswith("or `tca card 3`.\n")


def test_without_a_model_there_is_no_card(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="there is no model.json in model/"):
        write_card(tmp_path, CardBackground())


def test_a_model_that_was_changed_is_refused(package: Path) -> None:
    spec = package / "model" / "model.json"
    spec.write_text(spec.read_text().replace("openvino", "onnxruntime"))
    with pytest.raises(ProjectError, match=r"model/model\.json cannot be taken"):
        write_card(package, CardBackground())


@pytest.mark.parametrize(
    ("yaml_text", "file", "expected"),
    [
        ("names: [car]\n", "", None),
        ("names: [car]\nlicense: CC BY 4.0\n", "", "CC BY 4.0"),
        ("names: [car]\nlicence: MIT\n", "LICENSE", "MIT"),
        ("names: [car]\nroboflow: {license: CC0, version: 3}\n", "", "CC0"),
        ("names: [car]\nlicense: 5\n", "", None),
        ("- a list\n", "", None),
        ("names: [car]\n", "LICENSE", "see LICENSE of the data (Terms of the city)"),
        ("names: [", "LICENSE.txt", "see LICENSE.txt of the data (Terms of the city)"),
    ],
)
def test_the_licence_of_the_data_is_what_they_state(
    tmp_path: Path, yaml_text: str, file: str, expected: str | None
) -> None:
    (tmp_path / "data.yaml").write_text(yaml_text, encoding="utf-8")
    if file:
        (tmp_path / file).write_text("\n  Terms of the city\nmore\n", encoding="utf-8")
    assert read_data_licence(tmp_path) == expected
    assert read_data_licence(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("text", "markdown", "html"),
    [
        ("plain", "plain", "plain"),
        ("run `tca card 3` now", "run `tca card 3` now", "run <code>tca card 3</code> now"),
        ("a | b * c", r"a \| b \* c", "a | b * c"),
        ("odd ` tick", "odd ' tick", "odd ` tick"),
        ("``` <b> `", "''' &lt;b&gt; '", "``` &lt;b&gt; `"),
        ("two\nlines <b>", "two lines &lt;b&gt;", "two\nlines &lt;b&gt;"),
        ("`a|b`", r"'a\|b'", "`a|b`"),
    ],
)
def test_texts_keep_their_code_and_lose_their_signs(text: str, markdown: str, html: str) -> None:
    assert text_of(text) == markdown
    assert str(markup_of(text)) == html


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in ("TCA_HOME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "city"
    root.mkdir()
    shutil.copy(ROOT / "params.yaml", root)
    return Project(root)


def test_cards_of_versions_come_from_the_registry(project: Project, package: Path) -> None:
    settings, params = read_settings(project), read_params(project.params_file)
    registry = Registry(settings.tracking_uri, params.package.name, project.home, project.champion_file)
    write_card(package, BACKGROUND)
    with registry.run("package", {}) as log:
        registry.register(log.run_id, package, "a" * 64, {})
    html, _ = card_of_version(project, "1")
    assert html == project.reports / "cards" / "1.html"
    assert card_of_version(project, "challenger") == card_of_version(project, "1")
    with pytest.raises(ProjectError, match="there is no champion yet"):
        card_of_version(project, "champion")
    with pytest.raises(ProjectError, match="there is no version 7"):
        card_of_version(project, "7")


def test_the_card_of_the_artifacts_needs_no_registry(project: Project, package: Path) -> None:
    with pytest.raises(ProjectError, match="tca export"):
        card_of_artifacts(project)
    shutil.copytree(package / "model", project.model)
    shutil.copytree(package / "reports", project.reports)
    html, markdown = card_of_artifacts(project)
    assert (html.name, markdown.name) == ("card.html", "card.md")
    assert "given when it is registered" in markdown.read_text(encoding="utf-8")
    assert not project.home.exists()


def test_passwords_of_params_stay_out_of_the_card(project: Project) -> None:
    found = gather_background(project, read_params(project.params_file))
    assert set(found.params) == {"seed", "train", "export", "evaluate", "package"}
    assert (found.epochs, found.data_licence, found.cameras_by_split) == ((), None, {})


def test_the_command_tells_where_the_card_is(project: Project, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "dvc.yaml", project.root)
    shutil.copytree(package / "model", project.model)
    app = typer.Typer()
    add_to(app)
    monkeypatch.chdir(project.root)
    done = CliRunner().invoke(app, [])
    assert done.output == "See: reports/card.html; as text: reports/card.md\n"
    assert (project.reports / "card.html").is_file()


@given(st.text(alphabet="`<>|*a& \n[]_\\", max_size=40))
def test_no_text_can_open_a_tag_or_a_cell(text: str) -> None:
    shown = text_of(text)
    assert "<" not in shown
    assert not re.search(r"(?<!\\)(\\\\)*\|", shown)
    assert "\n" not in shown
    assert "<" not in str(markup_of(text)).replace("<code>", "").replace("</code>", "")


def test_a_long_curve_is_thinned_in_markdown_but_keeps_the_best_epoch(package: Path) -> None:
    old = json.loads((package / "reports" / "train.json").read_text())
    (package / "reports" / "train.json").write_text(json.dumps({**old, "epochs": 300, "best_epoch": 137}))
    _, markdown = write_card(package, BACKGROUND.model_copy(update={"epochs": curve(300)}))
    text = markdown.read_text(encoding="utf-8")
    assert "| 137 (best) |" in text
    assert "| 300 |" in text
    rows = re.findall(r"^\| \d+( \(best\))? \|", text, flags=re.MULTILINE)
    assert 15 <= len(rows) <= 25

"""The page of a training: verdict first, curves, what the checkpoint does on val, and what is missing is said."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from flows.page import Picture
from flows.training.epochs import EpochMetrics
from flows.training.report.judged import JudgedPart, JudgedValidation
from flows.training.report.page import Background, SamplePictures, duration, incidents, interval_text, training_page
from flows.training.reproducibility import DataDifferenceSummary, TrainReport

PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACw="


def report(**changes: Any) -> TrainReport:
    values: dict[str, Any] = {
        "passed": True,
        "sentence": "mAP50-95 0.400 on val at epoch 2 of 3, from yolo11n.yaml",
        "epochs": 3,
        "best_epoch": 2,
        "map50": 0.6,
        "map50_95": 0.4,
        "images": 1256,
        "seconds": 4000.0,
        "images_per_s": 31.25,
        "weights_sha256": "a" * 64,
        "started_from": "yolo11n.yaml",
        "classes_started_from": None,
        "head_kept": None,
        "classes": ("car", "<bus>"),
        "num_parameters": 2_590_620,
        "input_size_wh": (320, 192),
        "seed": 7,
        "device": "cpu",
        "precision": "fp32",
        "num_threads": 1,
        "data_version": "9f9730ce.dir",
        "data_difference": DataDifferenceSummary(sentence="12 frames added (cam09)"),
    }
    return TrainReport.model_validate({**values, **changes})


def epochs(number: int = 3) -> list[EpochMetrics]:
    return [
        EpochMetrics(
            epoch=index,
            epochs=number,
            losses={"train_box_loss": 1 / index, "val_box_loss": 2 / index},
            score=0.2 * index,
            map50=0.3 * index,
            map50_95=0.2 * index,
            precision=0.5,
            recall=0.5,
            learning_rate=0.01,
            seconds=1.0,
            images_per_s=30.0,
            wait_share=0.02,
            memory_gb=1.5,
        )
        for index in range(1, number + 1)
    ]


def part(kind: Any, name: str, value: float | None = 0.4, lower: float | None = 0.3) -> JudgedPart:
    return JudgedPart(
        kind=kind,
        name=name,
        num_images=10,
        num_objects=25,
        map50_95=value,
        lower=lower,
        upper=None if lower is None else 0.5,
        unit="camera",
        num_units=8,
        precision=0.75,
        recall=None,
    )


@pytest.fixture
def judged() -> JudgedValidation:
    kinds = [
        ("all", ""),
        ("class", "car"),
        ("class", "<bus>"),
        ("slice", "night"),
        ("camera", "cam01"),
        ("size", "small"),
    ]
    return JudgedValidation(
        split="val",
        conf=0.25,
        iou=0.5,
        alpha=0.05,
        classes=("car", "<bus>"),
        num_images=12,
        num_objects=31,
        num_detections=29,
        parts=tuple(part(kind, name) for kind, name in kinds),
        confusion=((20, 1, 4), (0, 6, 0), (2, 0, 0)),
        worst=(),
        best=(),
    )


PICTURES = SamplePictures(
    worst=(Picture((PIXEL,), "Frame w", "4 missed"),), best=(Picture((PIXEL,), "Frame b", "9 right"),)
)


def test_the_verdict_comes_first_then_curves_figures_and_frames(judged: JudgedValidation) -> None:
    html = training_page(
        report(), epochs(), judged, PICTURES, Background({"train": {"batch": 8}}, {"git_commit": "abc"})
    )
    places = [html.index(text) for text in ("verdict good", "mAP50-95 on val", "<h2>Curves", "<h2>On the validation")]
    places += [html.index(text) for text in ("night", "Who was taken for whom", "4 missed", "9 right", "<h2>Data")]
    places += [html.index(text) for text in ("12 frames added (cam09)", "Every epoch", "train.batch", "git_commit")]
    assert places == sorted(places)
    assert "0.400 [0.300, 0.500]" in html
    assert "1 h 07 min" in html


def test_the_page_is_one_file_of_sound_drawings_with_all_names_escaped(judged: JudgedValidation) -> None:
    html = training_page(report(), epochs(), judged, PICTURES)
    assert "<bus>" not in html
    assert "&lt;bus&gt;" in html
    assert not re.search(r"""(src|href)=["']?(http|/)""", html)
    assert "<script" not in html
    svgs = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(svgs) == 7  # a loss, accuracy, precision and recall, rate, speed, waiting, memory
    for svg in svgs:
        ElementTree.fromstring(svg)


def test_what_is_missing_is_said_and_not_hidden(judged: JudgedValidation) -> None:
    html = training_page(report(), [], "frame 7 <cannot> be read", "no disk")
    assert "There are no figures by frame: frame 7 &lt;cannot&gt; be read" in html
    assert "The curve of this training is not on this machine" in html
    assert "There are no pictures: no disk" in training_page(report(), epochs(), judged, "no disk")
    assert "there is nothing to show" in training_page(report(), epochs(), judged)


def test_a_training_that_diverged_is_refused(judged: JudgedValidation) -> None:
    bad = [one.model_copy(update={"losses": {"train_box_loss": float("nan")}}) for one in epochs()]
    html = training_page(report(passed=False, map50_95=float("nan")), bad, judged)
    assert "verdict bad" in html
    assert "not finite" in html


def test_what_went_otherwise_than_planned_is_listed() -> None:
    assert incidents(report()) == []
    changed = report(notes=("out of memory: micro-batch 8 became 4",), resumed_at=(1, 1, 2, 3), stopped_early=True)
    told = incidents(changed)
    assert told[0] == "out of memory: micro-batch 8 became 4"
    assert "went on in epoch 2, 3;" in told[1]
    assert "ended after epoch 3" in told[2]
    html = training_page(changed, epochs(), "not judged")
    assert html.index("Worth knowing") < html.index("<h2>Curves")
    assert html.count(">resumed<") == 2 * 7


@pytest.mark.parametrize(
    ("done", "went_on_in", "has_line"),
    [((), (), False), ((0,), (1,), False), ((0, 1), (1, 2), True), ((3,), (), False)],
)
def test_an_interruption_is_told_by_the_epoch_in_which_it_went_on(
    done: tuple[int, ...], went_on_in: tuple[int, ...], has_line: bool
) -> None:
    """`resumed_at` counts epochs done; after the last one nothing was left but to write the results."""
    changed = report(resumed_at=done)
    assert changed.went_on_in == went_on_in
    assert bool(incidents(changed)) == bool(went_on_in)
    html = training_page(changed, epochs(), "not judged")
    assert ("A dotted line" in html) == (">resumed<" in html) == has_line


def test_another_task_shows_its_own_score() -> None:
    html = training_page(
        report(task="classify", score=0.91, map50_95=0.0, map50=0.0), epochs(), "only detection is judged"
    )
    assert "score on val" in html
    assert "0.910" in html
    assert "mAP50-95 on val" not in html


def test_several_processes_and_a_started_head_are_told() -> None:
    html = training_page(report(num_processes=4, num_nodes=2, head_kept=False, started_from="x.pt 12"), [], "")
    assert "4 processes on 2 machines" in html
    assert "with a new head" in html


@pytest.mark.parametrize(
    ("value", "lower", "text"),
    [(None, None, "not defined"), (0.25, None, "0.250"), (0.25, 0.2, "0.250 [0.200, 0.500]")],
)
def test_intervals(value: float | None, lower: float | None, text: str) -> None:
    assert interval_text(part("class", "car", value, lower)) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (3599, "1 h 00 min"), (11_100, "3 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text

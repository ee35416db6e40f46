"""The page of an export: verdict first, every engine with its figures, plots, and what was not run."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from flows.exporting.accuracy import Accuracy, Baseline, Loss
from flows.exporting.benchmark import BatchLatency, Speed
from flows.exporting.calibration import CalibrationReport
from flows.exporting.candidates import NotBuilt
from flows.exporting.decoding import keep_full
from flows.exporting.export_page import export_page
from flows.exporting.export_plots import latency_plot, speed_plot
from flows.exporting.parity import ParityReport
from flows.exporting.report import CandidateReport, ChoiceRule, ExportReport, State

RULE = ChoiceRule(max_loss=0.005, latency_budget_ms=100, min_speedup=1.05, sentence="The fastest that loses <little>.")
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


def candidate(
    precision: str, state: State, images_per_s: float, loss: Loss, tried: tuple[str, ...] = ()
) -> CandidateReport:
    latency = tuple(
        BatchLatency(batch=batch, p50_ms=10.0 * batch, p99_ms=12.0 * batch, images_per_s=images_per_s, runs=24)
        for batch in (1, 2, 4)
    )
    return CandidateReport(
        engine="openvino",
        precision=precision,
        device="CPU",
        state=state,
        reason=f"openvino {precision} {state}: {loss.text()}",
        accuracy=Accuracy(map50_95=None if loss.value is None else 0.5 - loss.value, loss=loss),
        parity=PARITY,
        speed=Speed(load_s=0.5, resident_mb=250.0, num_parallel=2, lone_p50_ms=7.5, lone_p99_ms=9.25, latency=latency),
        best_batch=4,
        images_per_s=images_per_s,
        in_budget=True,
        engine_bytes=10_400_000,
        float_blocks=("model.8",) if tried else (),
        tried=tried,
    )


@pytest.fixture
def report(loss: Callable[..., Loss]) -> ExportReport:
    rows = (
        candidate("int8", "refused", 300.0, loss(0.012, 0.006), ("openvino int8 refused: loses .030",)),
        candidate("bf16", "chosen", 270.0, loss(0.001, 0.002)),
        candidate("fp32", "admitted", 150.0, loss(0.0, 0.0)),
    )
    return ExportReport(
        passed=True,
        sentence="openvino bf16 at 320 x 192 px: 270 images/s & more",
        model_digest="ab" * 32,
        engine="openvino",
        precision="bf16",
        device="CPU",
        input_size_wh=(320, 192),
        classes=("car", "bus"),
        top_k=300,
        file_bytes={"model.bin": 10_000_000, "model.json": 900},
        parity=PARITY,
        latency=rows[1].speed.latency,
        baseline=Baseline(
            split="test",
            unit="camera",
            alpha=0.05,
            num_images=128,
            num_objects=721,
            num_units=8,
            min_units=6,
            map50_95=0.5,
        ),
        rule=RULE,
        candidates=rows,
        not_built=(
            NotBuilt(engine="tensorrt", precision="fp32", reason="TensorRT is not installed"),
            NotBuilt(engine="tensorrt", precision="fp16", reason="TensorRT is not installed"),
        ),
        calibration=CalibrationReport(num_frames=64, num_strata=32, sha256="0123456789abcdef"),
        decoding=keep_full("frames are small"),
    )


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html.split("</style>")[-1]).split())


def test_the_verdict_comes_first_and_every_engine_has_its_figures(report: ExportReport) -> None:
    page = export_page(report)
    said = text_of(page)
    assert "Measured on" not in said
    assert said.index("PASSED") < said.index("270 images/s &amp; more") < said.index("Engines")
    assert "openvino int8 , 1 blocks float refused 300 (batch 4) 7.5 / 9.2 .012 [.006, .018] .488 250 10.4 0.50" in said
    assert "before: openvino int8 refused: loses .030" in said
    assert "PyTorch reaches .500 mAP50-95 on 128 frames of test with 721 objects from 8 cameras" in said
    assert "The fastest that loses &lt;little&gt;." in said
    assert "Scaled decoding off: frames are small." in said
    assert "64 frames of train from 32 pairs of slice and camera, sha256 0123456789abcdef" in said


def test_the_hardware_is_named(report: ExportReport) -> None:
    assert "Measured on 2 cores &lt;x86_64&gt;." in text_of(export_page(report, "2 cores <x86_64>"))


def test_what_was_not_run_is_said_plainly(report: ExportReport) -> None:
    said = text_of(export_page(report))
    assert "Nothing is claimed of these. engine why tensorrt fp32, fp16 TensorRT is not installed" in said
    everything = report.model_copy(update={"not_built": ()})
    assert "Every engine that this product knows competed." in text_of(export_page(everything))


def test_the_page_needs_nothing_from_elsewhere(report: ExportReport) -> None:
    page = export_page(report)
    assert "http" not in page
    assert "<script" not in page
    assert page.count("<svg") == 2


def test_a_refused_export_says_so(report: ExportReport) -> None:
    page = export_page(report.model_copy(update={"passed": False, "sentence": "no engine may be taken"}))
    assert "REFUSED" in page


def test_plots_are_sound_and_hold_every_engine(report: ExportReport) -> None:
    for plot in (speed_plot(report.candidates, report.rule), latency_plot(report.candidates, report.rule)):
        svg = ElementTree.fromstring(plot)
        width, height = map(float, svg.attrib["viewBox"].split()[2:])
        words = "".join(svg.itertext())
        assert all(one.name in words for one in report.candidates)
        for mark in svg.iter():
            for key, most in (
                ("x", width),
                ("cx", width),
                ("x1", width),
                ("y", height),
                ("cy", height),
                ("y2", height),
            ):
                assert 0 <= float(mark.attrib.get(key, 0)) <= most


def test_a_faster_engine_is_drawn_higher_and_a_worse_one_further_right(report: ExportReport) -> None:
    svg = ElementTree.fromstring(speed_plot(report.candidates, report.rule))
    chosen, admitted = svg.findall(".//circle")
    (refused,) = svg.findall(".//rect")
    assert float(refused.attrib["y"]) < float(chosen.attrib["cy"]) < float(admitted.attrib["cy"])
    assert float(admitted.attrib["cx"]) < float(chosen.attrib["cx"]) < float(refused.attrib["x"])


def test_without_labels_there_is_no_loss_to_show(report: ExportReport) -> None:
    nothing = Loss(value=None, lower=None, upper=None, num_units=0)
    rows = tuple(
        one.model_copy(update={"accuracy": Accuracy(map50_95=None, loss=nothing)}) for one in report.candidates
    )
    page = export_page(report.model_copy(update={"candidates": rows}))
    assert "no labelled object" in page
    assert "not defined" in page


def test_labels_do_not_cover_one_another(report: ExportReport, loss: Callable[..., Loss]) -> None:
    rows = [candidate(precision, "admitted", 100.0, loss(0.0)) for precision in ("fp32", "fp16", "bf16")]
    svg = ElementTree.fromstring(speed_plot(rows, RULE))
    heights = sorted(float(one.attrib["y"]) for one in svg.findall("./g/text"))
    assert min(high - low for low, high in pairwise(heights)) > 13.9

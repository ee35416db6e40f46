from __future__ import annotations

from typing import Any

import pytest

from flows.reproducing.compare import judge_rebuild, list_differences
from flows.reproducing.page import reproduce_page
from flows.reproducing.record import Environment, Figure, Results
from flows.reproducing.reproduce import ReproduceReport, report_text, tell

REGISTERED = Figure(value=0.50, lower=0.45, upper=0.55)


def results(weights: str = "same", **changes: Any) -> Results:
    values: dict[str, Any] = {"weights_sha256": weights * 16, "best_epoch": 1, "map50_95": 0.5, "epochs": ()}
    return Results(**{**values, **changes})


def evaluated(
    weights: str = "same", value: float | None = 0.5, predictions: str = "p", truth: str = "t", **changes: Any
) -> Results:
    figure = Figure(value=value, lower=0.1, upper=0.9)
    return results(
        weights,
        frozen_map50_95=figure,
        predictions_sha256=predictions,
        ground_truth_sha256=truth,
        engine="openvino fp32",
        **changes,
    )


RECORDED = evaluated(onnx_sha256="o").model_copy(update={"frozen_map50_95": REGISTERED})


@pytest.mark.parametrize(
    ("recorded", "rebuilt", "verdict", "reason"),
    [
        (RECORDED, results(), "identical", "the same weights (samesamesame)"),
        (RECORDED, evaluated(), "identical", "the same weights (samesamesame) and the same detections"),
        (RECORDED, evaluated(value=0.54, predictions="q"), "equivalent", "the same weights"),
        (RECORDED, evaluated(value=0.56, predictions="q"), "different", "not within"),
        (RECORDED, results("other"), "different", "other weights; mAP50-95 0.500 on val, recorded 0.500"),
        (RECORDED, evaluated("other", 0.45, "q"), "equivalent", "0.450 [0.100, 0.900] on the frozen frames"),
        (RECORDED, evaluated("other", 0.449, "q"), "different", "registered 0.500 [0.450, 0.550]: not within"),
        (RECORDED, evaluated("other", None, "q"), "different", "not defined"),
        (RECORDED, evaluated("other", 0.5, "q", truth="u"), "different", "have other labels (t, now u)"),
        (RECORDED, evaluated("other"), "equivalent", "other weights and the same detections"),
        (evaluated().model_copy(update={"frozen_map50_95": None}), evaluated("other", 0.5, "q"), "different", "on val"),
        (
            RECORDED.model_copy(update={"frozen_map50_95": Figure(value=0.5, lower=None, upper=None)}),
            evaluated("other", 0.5, "q"),
            "different",
            "which has no interval",
        ),
    ],
)
def test_weights_decide_then_the_registered_interval(
    recorded: Results, rebuilt: Results, verdict: str, reason: str
) -> None:
    found = judge_rebuild(recorded, rebuilt)
    assert found.verdict == verdict
    assert reason in found.reason


@pytest.mark.parametrize(
    ("ours", "theirs", "name", "state"),
    [
        ([], [{"box": 1.0}], "figures of each epoch", "other"),
        ([{"box": 1.0}], [{"box": 1.0, "new": 2.0}], "figures of each epoch", "same"),
        ([{"box": 1.0}], [{"box": 1.0}, {"box": 1.0}], "figures of each epoch", "differs"),
        (
            [{"box": 1.0}, {"box": 1.0, "cls": 1.0}],
            [{"box": 1.0}, {"box": 1.1, "cls": 3.0}],
            "figures of each epoch, first apart at 2: cls",
            "differs",
        ),
    ],
)
def test_the_first_epoch_apart_is_named(ours: list, theirs: list, name: str, state: str) -> None:
    row = judge_rebuild(results(epochs=ours), results(epochs=theirs)).comparisons[1]
    assert (row.name, row.state) == (name, state)


def environment(python: str = "3.11.7", hardware: str = "x", **packages: str) -> Environment:
    return Environment(python=python, packages=packages, constraints_sha256=None, hardware=hardware)


def test_packages_that_shape_a_result_are_told_apart_from_others() -> None:
    then = environment(torch="1", rich="1", numpy="1")
    assert list_differences(then, then) == ((), ())
    now = environment("3.12.0", "y", torch="2", rich="2", extra="1")
    shaping, beside = list_differences(then, now)
    assert shaping == ("Python 3.11.7 -> 3.12.0", "torch 1 -> 2", "numpy 1 -> absent", "hardware x -> y")
    assert beside == ("rich 1 -> 2",)


def make_report(**changes: Any) -> ReproduceReport:
    judgement = judge_rebuild(RECORDED, evaluated("other", 0.46, "q"))
    values: dict[str, Any] = {
        "passed": True,
        "sentence": tell("3", "equivalent", judgement.reason, ("torch 1 -> 2",), "evaluate"),
        "verdict": judgement.verdict,
        "model_version": "3",
        "model_digest": "d" * 64,
        "record_digest": None,
        "commit": "a" * 40,
        "changed_files": ("flows/<a>.py",),
        "data_md5": "b" * 32,
        "until": "evaluate",
        "comparisons": judgement.comparisons,
        "differences": ("torch 1 -> 2",),
        "other_packages": ("rich 1 -> 2",),
        "notes": ("no record",),
        "kept": None,
        "finished_at": "2026-01-01T00:00:00+00:00",
    }
    return ReproduceReport(**{**values, **changes})


def test_the_report_says_the_verdict_first_on_the_terminal_and_on_the_page() -> None:
    report = make_report()
    text = report_text(report).splitlines()
    assert text[0].startswith("version 3 is reproduced within its interval: other weights; mAP50-95 0.460")
    assert text[0].endswith("not the same here: torch 1 -> 2")
    assert any(line.startswith("x  weights") for line in text)
    assert text[-1] == "page: reports/reproduce-3.html"
    shown = reproduce_page(report)
    assert shown.index("within its interval") < shown.index("Recorded and now")
    assert "&lt;a&gt;" in shown
    assert "<a>.py" not in shown


def test_weights_that_differ_after_training_alone_name_the_way_on() -> None:
    assert tell("3", "different", "other weights", (), "train").endswith("tca reproduce 3 --until evaluate")

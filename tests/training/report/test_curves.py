"""Curves: round axes, gaps where nothing was measured, the best epoch and interruptions marked."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import ProjectError
from flows.training.epochs import EpochMetrics
from flows.training.report.curve_file import read_curve
from flows.training.report.curves import (
    Chart,
    Line,
    Moments,
    charts_of,
    curve_grid,
    curve_svg,
    epoch_ticks,
    nice_ticks,
    short_number,
)

SPAN = st.floats(-1e6, 1e6, allow_nan=False)


def epoch(number: int, **changes: object) -> EpochMetrics:
    values: dict[str, object] = {
        "epoch": number,
        "epochs": 3,
        "losses": {"train_box_loss": 2.0 / number, "val_box_loss": 2.5 / number},
        "score": 0.1 * number,
        "map50": 0.2 * number,
        "map50_95": 0.1 * number,
        "precision": 0.5,
        "recall": 0.4,
        "learning_rate": 0.001 / number,
        "seconds": 3.0,
        "images_per_s": 30.0,
    }
    return EpochMetrics.model_validate({**values, **changes})


def texts(svg: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter("text")]


@given(SPAN, SPAN)
def test_ticks_are_round_even_and_enclose_the_values(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    ticks = nice_ticks(low, high)
    step = ticks[1] - ticks[0]
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low + 1e-6 * step
    assert ticks[-1] >= high - 1e-6 * step
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - round_one) for round_one in (1, 2, 5)) < 1e-3


@given(st.integers(1, 10_000), st.integers(0, 10_000))
def test_few_epochs_are_named_the_first_among_them(first: int, more: int) -> None:
    ticks = epoch_ticks(first, first + more)
    assert ticks[0] == first
    assert 1 <= len(ticks) <= 7
    assert ticks == sorted(set(ticks))
    assert ticks[-1] <= first + more


def test_what_was_not_measured_has_no_chart() -> None:
    titles = [chart.title for chart in charts_of([epoch(1), epoch(2)])]
    assert titles[0] == "Loss: box"
    assert not any("Memory" in title or "GPU" in title or "waiting" in title for title in titles)
    measured = charts_of([epoch(1, memory_gb=2.0, gpu_memory_gb=8.0, gpu_use=0.9, wait_share=0.01)])
    assert sum(word in chart.title for chart in measured for word in ("Memory", "busy", "waiting")) == 3


def test_another_score_than_map_has_a_line_of_its_own() -> None:
    accuracy = next(chart for chart in charts_of([epoch(1, score=0.9)]) if chart.title == "Accuracy on val")
    assert [line.name for line in accuracy.lines] == ["score", "mAP50-95", "mAP50"]
    top1 = next(c for c in charts_of([epoch(1, score=0.9, map50=0.0, map50_95=0.0)]) if c.title == "Accuracy on val")
    assert [line.name for line in top1.lines] == ["score"]


def test_the_best_epoch_and_interruptions_are_marked() -> None:
    chart = Chart("Loss", (Line("train", (3.0, 2.0, 1.0)),))
    svg = curve_svg(chart, [1, 2, 3], Moments(best=2, went_on_in=(3,)))
    assert "best: 2" in texts(svg)
    assert texts(svg).count("resumed") == 1
    assert "best" not in "".join(texts(curve_svg(chart, [1, 2, 3], Moments())))


@pytest.mark.parametrize(
    ("values", "polylines", "dots"),
    [
        ((), 0, 0),
        ((1.0,), 0, 1),
        ((1.0, 2.0), 1, 0),
        ((1.0, 2.0, None, 3.0), 1, 1),
        ((1.0, float("nan"), 3.0, 4.0, float("inf")), 1, 1),
        ((0.0, 0.0), 1, 0),
        ((5.0, 5.0, 5.0), 1, 0),
    ],
)
def test_gaps_split_a_line_and_a_lone_value_is_a_dot(
    values: tuple[float | None, ...], polylines: int, dots: int
) -> None:
    svg = curve_svg(Chart("x", (Line("a", values),)), list(range(1, len(values) + 1)), Moments())
    root = ElementTree.fromstring(svg)
    assert (len(list(root.iter("polyline"))), len(list(root.iter("circle")))) == (polylines, dots)
    assert "nan" not in svg
    assert "inf" not in svg


def test_a_thousand_epochs_stay_inside_the_picture() -> None:
    epochs = [epoch(number, epochs=1000) for number in range(1, 1001)]
    html = curve_grid(epochs, Moments(best=700, went_on_in=(2, 500)))
    for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL):
        for line in ElementTree.fromstring(svg).iter("polyline"):
            points = [point.split(",") for point in line.attrib["points"].split()]
            assert all(0 <= float(x) <= 320 and 0 <= float(y) <= 190 for x, y in points)


def test_the_legend_tells_the_value_at_the_best_epoch() -> None:
    html = curve_grid([epoch(1), epoch(2), epoch(3)], Moments(best=2))
    assert "mAP50-95 0.2" in html
    assert "val (dashed) 1.25" in html


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "not finite"), (0.0, "0"), (0.00021849, "0.000218"), (12345.6, "12,346")],
)
def test_short_numbers(value: float | None, text: str) -> None:
    assert short_number(value) == text


def test_the_curve_file_of_a_training_is_read_back(trained) -> None:
    found = read_curve(trained.out_dir / "epochs.csv")
    assert [one.numbers() for one in found] == [one.numbers() for one in trained.epochs]
    assert [one.epoch for one in found] == [1, 2]


def test_an_older_curve_lacks_what_was_not_measured_then(tmp_path: Path) -> None:
    path = tmp_path / "epochs.csv"
    known = {"epoch": 1, "train_box_loss": 1.5, "map50": 0.4, "map50_95": 0.2, "precision": 0.1, "recall": 0.2}
    known |= {"learning_rate": 0.1, "seconds": 1.0, "images_per_s": 5.0, "something_new": 1.0}
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerows([known.keys(), known.values()])
    (found,) = read_curve(path)
    assert (found.score, found.wait_share, found.gpu_use, found.losses) == (0.2, 0.0, None, {"train_box_loss": 1.5})


def test_a_task_without_objects_has_a_score_and_no_more(tmp_path: Path) -> None:
    text = "epoch,train_loss,val_loss,score,learning_rate,seconds,images_per_s\n1,2.0,nan,0.75,0.1,1.0,5.0\n"
    (tmp_path / "epochs.csv").write_text(text, encoding="utf-8")
    epochs = read_curve(tmp_path / "epochs.csv")
    assert (epochs[0].score, math.isnan(epochs[0].map50_95)) == (0.75, True)
    titles = {chart.title: [line.name for line in chart.lines] for chart in charts_of(epochs)}
    assert titles["Accuracy on val"] == ["score"]
    assert titles["Loss"] == ["train"]
    assert not any("recall" in title for title in titles)
    assert "nan" not in curve_grid(epochs, Moments(best=1)).lower()


@pytest.mark.parametrize("text", ["epoch,map50\n1,x\n", "a,b\n1,2\n", "epoch,map50_95\n1,0.5\n"])
def test_what_is_no_curve_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "epochs.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ProjectError, match=r"epochs\.csv is not the curve of a training"):
        read_curve(tmp_path / "epochs.csv")
    with pytest.raises(ProjectError, match="there is no absent.csv"):
        read_curve(tmp_path / "absent.csv")

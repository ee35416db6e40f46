"""Drawings stay legible: names do not lie on one another, a limit far away does not squeeze the rest."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from flows.comparison.calibration import Calibration, CalibrationBin
from flows.comparison.engine_latency import EngineTimes, engine_latency
from flows.comparison.plots import ModelPoint, calibration_plot, latency_plot, trade_off_plot


def point(name: str, accuracy: float, time: float = 10.0) -> ModelPoint:
    return ModelPoint(name, time, None, accuracy, accuracy - 0.01, accuracy + 0.01, "#000000")


def test_names_of_models_that_are_alike_do_not_lie_on_one_another() -> None:
    svg = ET.fromstring(trade_off_plot([point(f"model {n}", 0.5 + n / 1e5) for n in range(6)], 0.49, "mAP50-95", "ms"))
    heights = sorted(float(one.get("y")) for one in svg.iter("text") if (one.text or "").startswith("model"))
    assert len(heights) == 6
    assert min(np.diff(heights)) >= 12


def test_a_single_model_can_be_drawn() -> None:
    assert ET.fromstring(
        trade_off_plot([ModelPoint("one", 5, None, 0.5, None, None, "#000000")], None, "mAP50-95", "ms")
    )


@pytest.mark.parametrize(("limit_ms", "drawn"), [(15.0, True), (1000.0, False), (None, False)])
def test_the_limit_is_drawn_where_it_is_near(limit_ms: float | None, drawn: bool) -> None:
    times = tuple(np.linspace(9, 11, 120))
    latency = engine_latency(EngineTimes(challenger_ms=times, champion_ms=times), 0.05)
    svg = ET.fromstring(latency_plot(latency, limit_ms))
    assert any("limit" in (one.text or "") for one in svg.iter("text")) == drawn


def test_marks_of_calibration_grow_with_their_detections() -> None:
    bins = tuple(
        CalibrationBin(lower=low, upper=low + 0.1, mean_confidence=low + 0.05, precision=0.5, num=num)
        for low, num in ((0.3, 10), (0.8, 1000))
    )
    svg = ET.fromstring(calibration_plot({"challenger": Calibration(error=0.1, bins=bins)}))
    small, large = (float(one.get("r")) for one in svg.iter("circle"))
    assert small < large

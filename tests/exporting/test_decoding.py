"""Scaled decoding is on only where frames are larger than the input, it is faster, and its loss is bounded."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bentos.detector.contract import EngineSpec, InputSpec, ModelSpec, Thresholds
from bentos.detector.detector import Detector
from flows.exporting import decoding
from flows.exporting.accuracy import Loss
from flows.exporting.decoding import decide_decoding

Losses = Callable[..., Loss]


class NoEngine:
    max_batch, num_parallel, num_decoders, solo = 1, 1, 0, None

    def infer(self, frames: np.ndarray) -> np.ndarray:
        return np.zeros((len(frames), 4, 6), dtype=np.float32)

    def close(self) -> None:
        pass


@pytest.fixture
def detector() -> Detector:
    spec = ModelSpec(
        name="demo",
        classes=("car",),
        input=InputSpec(size_wh=(96, 64)),
        thresholds=Thresholds(conf=0.25, iou=0.6, max_det=4),
        top_k=4,
        engine=EngineSpec(kind="fake", file="none"),
    )
    return Detector(spec, NoEngine())


@pytest.fixture(autouse=True)
def told_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_time_both", lambda *_: (4.0, 1.5))


def jpeg(width: int, height: int, kind: str = "JPEG") -> bytes:
    sink = BytesIO()
    Image.new("RGB", (width, height), (90, 120, 60)).save(sink, kind)
    return sink.getvalue()


LARGE = [jpeg(384, 256)]


@pytest.mark.parametrize("images", [[jpeg(96, 64)], [jpeg(100, 66)], [jpeg(50, 40)], [jpeg(384, 256, "PNG")]])
def test_never_where_there_is_nothing_to_gain(detector: Detector, judge: Any, images: list[bytes]) -> None:
    report = decide_decoding(detector, images, judge, 0.005)
    assert not report.scaled
    assert "not enough larger" in report.sentence
    assert judge.measured == []


def test_on_where_it_is_faster_and_proven_harmless(detector: Detector, judge: Any, loss: Losses) -> None:
    judge.losses["scaled"] = [loss(0.002, 0.002)]
    report = decide_decoding(detector, LARGE, judge, 0.005)
    assert report.scaled
    assert judge.measured == ["scaled"]
    assert (report.full_ms, report.scaled_ms) == (4.0, 1.5)
    assert "1.50 ms a frame instead of 4.00" in report.sentence
    assert not detector.spec.input.scaled_decode  # the one that was handed in decodes as before


@pytest.mark.parametrize(
    ("value", "reach", "said"),
    [
        (0.004, 0.002, "lose .004 [.002, .006] mAP50-95 together, allowed 0.005 at the upper end"),
        (0.0, None, "too few units to bound what it loses"),
    ],
)
def test_off_where_the_loss_is_not_bounded(
    detector: Detector, judge: Any, loss: Losses, value: float, reach: float | None, said: str
) -> None:
    judge.losses["scaled"] = [loss(value, reach)]
    report = decide_decoding(detector, LARGE, judge, 0.005)
    assert not report.scaled
    assert said in report.sentence
    assert report.loss is not None


def test_off_where_it_is_not_faster(detector: Detector, judge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_time_both", lambda *_: (1.5, 1.5))
    report = decide_decoding(detector, LARGE, judge, 0.005)
    assert not report.scaled
    assert "not faster here" in report.sentence
    assert judge.measured == []


def test_both_ways_are_timed(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    full_ms, scaled_ms = decoding._time_both(detector, detector, LARGE)
    assert full_ms > 0
    assert scaled_ms > 0


def test_png_next_to_large_jpegs_does_not_hide_them(detector: Detector, judge: Any, tmp_path: Path) -> None:
    assert decide_decoding(detector, [jpeg(96, 64), *LARGE], judge, 0.005).scaled

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from flows.dataset.drift.drift import DriftReport, column_meaning, measure_drift
from flows.dataset.drift.embeddings import join_embeddings
from flows.dataset.drift.page import drift_page, histograms
from flows.dataset.drift.samples import Sample
from flows.dataset.drift.units import ALIKE, ALL
from flows.params_data import MonitorParams
from tests.dataset.drift.drift_frames import make_sample, refreshed, scenes

PARAMS = MonitorParams(
    alpha=0.01,
    threshold=0.1,
    min_frames=50,
    min_units=6,
    shuffles=499,
    block_s=60.0,
    min_camera_frames=8,
    view_shift=0.02,
    blind_share=0.25,
    embedding_frames=100,
)
STREETS = scenes(4)


@pytest.fixture(scope="module")
def reference() -> Sample:
    return make_sample("train", STREETS, seed=1)


def drifted(report: DriftReport, group: str = ALL) -> set[str]:
    return {one.name for one in report.features if one.drifted and one.group == group}


@pytest.mark.parametrize("seed", range(2, 8))
def test_the_same_streets_on_another_day_are_steady(reference: Sample, seed: int) -> None:
    report = measure_drift(reference, make_sample("new", STREETS, seed), PARAMS)
    assert report.verdict == "steady", report.sentence
    assert report.passed
    assert (report.unit, report.num_reference_units, report.num_current_units) == ("clip", 24, 24)
    assert {one.group for one in report.features} == {ALL, ALIKE, *(f"camera {name}" for name in STREETS)} | {
        "slice day",
        "slice night",
    }
    assert all(one.limit is None or one.limit >= PARAMS.threshold for one in report.features)
    assert [one.state for one in report.cameras] == ["steady"] * 4
    assert "no drift in 11 columns, 96 frames of new against 96 of train" in report.sentence
    assert report.notes == ()


@pytest.mark.parametrize("seed", range(2, 5))
def test_frames_darker_by_30_percent_are_found(reference: Sample, seed: int) -> None:
    sample = make_sample("new", STREETS, seed)
    assert sample.thumbnails is not None
    darker = refreshed(replace(sample, thumbnails=(sample.thumbnails * 0.7).astype(np.uint8)))
    report = measure_drift(reference, darker, PARAMS)
    assert report.verdict == "drifted"
    assert not report.passed
    assert "brightness" in drifted(report, ALIKE)
    assert not drifted(report, ALIKE) & {"num_boxes", "mean_box_share", "share of car"}
    assert not any(one.is_alarm for one in report.cameras)
    assert "brightness" in report.sentence


def test_blurred_frames_are_found(reference: Sample) -> None:
    sample = make_sample("new", STREETS, 3)
    assert sample.thumbnails is not None
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in sample.thumbnails])
    report = measure_drift(reference, refreshed(replace(sample, thumbnails=blurred)), PARAMS)
    assert "sharpness" in drifted(report, ALIKE)


def test_another_class_mix_is_found_and_nothing_else(reference: Sample) -> None:
    report = measure_drift(reference, make_sample("new", STREETS, 4, share_of_trucks=0.6), PARAMS)
    assert drifted(report) == {"share of car", "share of truck"}
    assert "2 columns drifted (share of car, share of truck)" in report.sentence


def test_a_class_that_only_one_side_has_counts_as_absent_in_the_other(reference: Sample) -> None:
    sample = make_sample("new", STREETS, 4)
    frames = sample.frames.rename(columns={"share of truck": "share of bus"})
    report = measure_drift(reference, replace(sample, frames=frames), PARAMS)
    assert drifted(report) == {"share of truck", "share of bus"}


@pytest.mark.parametrize(("num_clips", "minimum"), [(0, "0"), (1, "16")])
def test_too_few_frames_give_no_verdict(reference: Sample, num_clips: int, minimum: str, tmp_path: Path) -> None:
    few = make_sample("new", STREETS, 5, num_clips=1)
    few = replace(few, frames=few.frames[: 16 * num_clips], thumbnails=few.thumbnails[: 16 * num_clips])  # type: ignore[index]
    page = tmp_path / "evidently.html"
    report = measure_drift(reference, few, PARAMS, page)
    assert (report.verdict, report.passed, report.features) == ("insufficient", False, ())
    assert report.sentence == f"too few frames of new to say: {minimum}, at least 50 are needed"
    assert not page.exists()
    assert "FOR INFORMATION" in drift_page(report, reference, few)


def test_a_small_effect_is_no_drift_however_certain(reference: Sample) -> None:
    sample = make_sample("new", STREETS, 6)
    frames = sample.frames.assign(num_boxes=reference.frames["num_boxes"].to_numpy() + 4)
    shifted = replace(sample, frames=frames)
    assert "num_boxes" in drifted(measure_drift(reference, shifted, PARAMS))
    strict = PARAMS.model_copy(update={"threshold": 9.0})
    assert measure_drift(reference, shifted, strict).verdict == "steady"


def test_frames_are_shuffled_where_clips_are_unknown_and_the_report_says_so(reference: Sample) -> None:
    sample = make_sample("new", STREETS, 2)
    unknown = replace(sample, frames=sample.frames.assign(unit=""))
    report = measure_drift(reference, unknown, PARAMS)
    assert (report.unit, report.num_current_units) == ("frame", 96)
    assert any("shuffled one by one" in note for note in report.notes)
    few = replace(sample, frames=sample.frames.assign(unit="one long clip"))
    assert measure_drift(reference, few, PARAMS).unit == "frame"


def test_another_mix_of_slices_is_drift_but_explained(reference: Sample) -> None:
    sample = make_sample("new", STREETS, 9, num_clips=24)
    night = (sample.frames["slice"] == "night").to_numpy()
    assert sample.thumbnails is not None
    frames = sample.frames[night].reset_index(drop=True)
    report = measure_drift(reference, replace(sample, frames=frames, thumbnails=sample.thumbnails[night]), PARAMS)
    assert "brightness" in drifted(report) - drifted(report, ALIKE)
    (note,) = report.notes
    assert note.startswith("another mix of cameras and slices may explain brightness")


def test_a_column_that_few_frames_have_is_not_judged(reference: Sample) -> None:
    sample = make_sample("new", STREETS, 2)
    frames = sample.frames.copy()
    frames.loc[10:, "mean_box_share"] = np.nan
    report = measure_drift(reference, replace(sample, frames=frames), PARAMS)
    (one,) = (one for one in report.features if one.name == "mean_box_share" and one.group == ALL)
    assert (one.drifted, one.distance, one.limit) == (None, None, None)
    assert report.verdict == "steady"
    assert "too few have it" in drift_page(report, reference, sample)


def test_columns_that_one_side_lacks_are_left_out_and_named(reference: Sample) -> None:
    sample = make_sample("new", STREETS, 2)
    fewer = Sample("production", sample.frames.drop(columns=["box_aspect", "underexposed"]))
    report = measure_drift(reference, fewer, PARAMS)
    assert not {one.name for one in report.features} & {"box_aspect", "underexposed"}
    assert "production has no box_aspect, underexposed: not compared" in report.notes


def test_cameras_without_a_counterpart_are_noted(reference: Sample) -> None:
    report = measure_drift(reference, make_sample("new", {**scenes(3), "cam09": scenes(9)["cam09"]}, 2), PARAMS)
    assert "new has no frame of cam04" in report.notes
    assert "train has no frame of cam09" in report.notes


def test_embeddings_of_the_same_kind_are_steady_and_of_another_found(reference: Sample) -> None:
    generator = np.random.default_rng(0)
    before = generator.normal(size=(96, 64)).astype(np.float32)
    before[:20] = np.nan  # not embedded
    now = generator.normal(size=(96, 64)).astype(np.float32)
    current = make_sample("new", STREETS, 2)
    for offset, verdict in ((0.0, "steady"), (1.0, "drifted")):
        shift = np.zeros(64, dtype=np.float32)
        shift[:4] = 2 * offset
        samples = join_embeddings(reference, current, before, now + shift)
        report = measure_drift(*samples, PARAMS)
        assert report.verdict == verdict, report.sentence
        assert samples[0].frames["embedding_1"].isna().sum() == 20
    assert "embedding_1" in drifted(report)
    assert "principal component" in column_meaning("embedding_1")


def test_page_and_json_carry_the_verdict_and_evidently_agrees(reference: Sample, tmp_path: Path) -> None:
    sample = make_sample("a <new> batch", STREETS, 4, share_of_trucks=0.7)
    assert sample.thumbnails is not None
    pictures = sample.thumbnails.copy()
    pictures[(sample.frames["camera"] == "cam02").to_numpy()] //= 30
    current = refreshed(replace(sample, thumbnails=pictures))
    evidently = tmp_path / "reports" / "evidently.html"
    report = measure_drift(reference, current, PARAMS, evidently)
    assert report.sentence.startswith("camera cam02 sees nothing: contrast")
    assert DriftReport.model_validate_json(json.dumps(report.model_dump(mode="json"))) == report
    page = drift_page(report, reference, current, evidently.name)
    assert "REFUSED" in page
    assert "a &lt;new&gt; batch" in page
    assert 'href="evidently.html"' in page
    assert page.count("<svg") == len({one.name for one in report.features})
    assert page.count("data:image/jpeg;base64") == 1  # cam02 before and now
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    theirs = evidently.read_text(encoding="utf-8")
    assert "<html" in theirs


def test_evidently_computes_the_same_distances(reference: Sample, tmp_path: Path) -> None:
    from flows.dataset.drift.evidently_page import evidently_distances
    from flows.dataset.drift.units import pool_units

    current = make_sample("new", STREETS, 4, share_of_trucks=0.7)
    report = measure_drift(reference, current, PARAMS)
    ours = {one.name: one for one in report.features if one.group == ALL}
    units = pool_units(reference, current, list(ours), PARAMS.min_units)
    limits = {name: one.limit for name, one in ours.items() if one.limit is not None}
    theirs = evidently_distances(units, limits, tmp_path / "evidently.html")
    assert theirs == pytest.approx({name: ours[name].distance for name in limits}, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], [0.0, 1.0, 5.0]])
def test_histograms_draw_any_values(values: list[float]) -> None:
    svg = histograms(np.array(values), np.array(values))
    assert svg.startswith("<svg")
    assert "nan" not in svg


def test_nothing_on_both_sides(tmp_path: Path) -> None:
    empty = Sample(
        "train", pd.DataFrame(columns=["image", "sha256", "camera", "unit", "slice", "brightness", "contrast"])
    )
    report = measure_drift(empty, replace(empty, name="val"), PARAMS)
    assert report.verdict == "insufficient"
    drift_page(report, empty, empty)

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from flows.dataset.checks.check import Evidence, note_of
from flows.dataset.checks.review import review_checks, review_tables
from flows.dataset.review.review import review_labels
from flows.params_data import ValidateParams
from flows.params_file import read_params
from tests.dataset.review.review_scenes import Scenes, draw_scenes, make_params, plant_faults, witness

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def params() -> ValidateParams:
    return read_params(ROOT / "params.yaml").validate_


def evidence_of(scenes: Scenes, params: ValidateParams) -> Evidence:
    manifest = scenes.manifest
    found = review_labels(scenes.dataset, manifest, scenes.detections, witness(), make_params())
    return Evidence(scenes.dataset, manifest, params, found)


def failing(evidence: Evidence, params: ValidateParams) -> dict[str, pd.DataFrame]:
    tables = review_tables(evidence)
    return {
        check.name: tables[check.table][tables[check.table][check.column].notna()] for check in review_checks(params)
    }


def test_without_a_review_there_is_nothing_to_ask(params: ValidateParams) -> None:
    scenes = draw_scenes(1, 4)
    assert review_tables(Evidence(scenes.dataset, scenes.manifest, params)) == {}


def test_sound_labels_fail_no_check(params: ValidateParams) -> None:
    evidence = evidence_of(draw_scenes(1), params)
    assert evidence.review is not None
    assert [name for name, rows in failing(evidence, params).items() if len(rows)] == []
    assert {name: len(table) for name, table in review_tables(evidence).items()} == {
        "reviewed_frames": 120,
        "reviewed_labels": evidence.review.num_labels,
    }


@pytest.mark.parametrize(
    ("check", "kind"),
    [
        ("empty_frames_confirmed", "empty_frame"),
        ("labels_classes_agree", "wrong_class"),
        ("labels_well_placed", "badly_located"),
        ("labels_supported", "spurious"),
    ],
)
def test_planted_faults_fail_their_check_with_file_and_line(check: str, kind: str, params: ValidateParams) -> None:
    scenes = draw_scenes(2, 300)
    plant_faults(scenes, 2)
    rows = failing(evidence_of(scenes, params), params)[check]
    planted = {(f"data/labels/train/{Path(image).stem}.txt", line) for image, line in scenes.planted[kind]}
    named = set(zip(rows["file"], rows["line"], strict=True))
    assert len(named & planted) > 0.7 * len(planted)
    assert len(named - planted) <= 0.05 * len(planted)


def test_missing_labels_are_told_frame_by_frame(params: ValidateParams) -> None:
    scenes = draw_scenes(3)
    x1, _, x2, _ = scenes.labels[5].pop(0)[1]
    rows = failing(evidence_of(scenes, params), params)["labels_not_missing"]
    assert rows["file"].tolist() == ["data/labels/train/f0005.txt"]
    assert rows["missing"].iloc[0].startswith("1 probably without a label: ")
    assert abs(float(rows["missing"].iloc[0].split("(")[1].split(",")[0]) - (x1 + x2) / 2) < 10


def test_every_check_has_its_table_column_and_order(params: ValidateParams) -> None:
    evidence = evidence_of(draw_scenes(4, 5), params)
    assert evidence.review is not None
    tables = review_tables(evidence)
    for check in review_checks(params):
        assert {check.column, check.worst, "file", "line", "image"} <= set(tables[check.table].columns)
        assert check.severity == "warn"
        assert f"of {evidence.review.num_labels} labels" in note_of(tables[check.table], check.name)
        assert "validate.review." in check.threshold

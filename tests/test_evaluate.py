"""`tca evaluate` around the judging: what is kept recomputes the verdict, and frames to label are listed."""

from __future__ import annotations

import csv
import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bentos.detector.contract import Thresholds, read_spec, write_spec
from flows.cli import app
from flows.comparison.tables import read_ground_truth, write_evidence
from flows.contestants import find_champion, frames_to_time
from flows.dataset.layout import read_dataset
from flows.errors import DataError, ProjectError
from flows.evaluate import EvaluationRecord, gather, judge, show, trainer_map50_95
from flows.kept_evaluation import recompute, tasks_from_evidence
from flows.settings import Project
from tests.stand_in_models import StandInRegistry, stand_in_run, write_model, write_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """The challenger in artifacts/model sees all; the champion, where one is registered, sees no trucks."""
    (tmp_path / "project").mkdir()
    made = write_project(tmp_path / "project")
    write_model(made.model, "challenger")
    return made


@pytest.fixture
def registry(tmp_path: Path) -> StandInRegistry:
    made = StandInRegistry(tmp_path / "registry")
    made.add("1", "champion", sees_trucks=False)
    return made


def evaluated(project: Project, registry: StandInRegistry) -> tuple[Any, EvaluationRecord]:
    """As the stage does it; its report is written too."""
    run = stand_in_run(project, registry)
    dataset = read_dataset(project.data)
    version, champion_dir = find_champion(run)
    found = gather(run, dataset, champion_dir)
    write_evidence(project.artifacts / "evaluation", found.evidence)
    record = judge(run, found, None if version is None else version.version)
    show(run, dataset, found, record)
    (project.reports / "evaluate.json").write_text(record.model_dump_json())
    return run, record


def test_the_verdict_can_be_recomputed_from_what_is_kept(project, registry) -> None:
    _, record = evaluated(project, registry)
    shutil.rmtree(project.data)
    (project.root / "params.yaml").unlink()
    found = recompute(project)
    assert found.differences == ()
    assert found.again.model_dump() == record.model_dump(include=set(type(found.again).model_fields))
    assert record.difference.map50_95.value == pytest.approx(0.5, abs=0.01)


def test_a_first_champions_verdict_can_be_recomputed_too(project, registry) -> None:
    registry.aliases.clear()
    evaluated(project, registry)
    assert recompute(project).differences == ()


def test_the_command_verifies_and_names_what_was_changed(project, registry, monkeypatch) -> None:
    monkeypatch.chdir(project.root)
    (project.root / "dvc.yaml").touch()
    _, record = evaluated(project, registry)
    result = CliRunner().invoke(app, ["evaluate", "--verify"])
    assert result.exit_code == 0, result.output
    assert result.output.endswith("holds: computed anew from artifacts/evaluation, it is the same\n")
    path = project.reports / "evaluate.json"
    better = record.model_copy(update={"outcome": "promote", "passed": True, "sentence": "Promote: so good."})
    worse = record.model_copy(update={"outcome": "reject", "passed": False})
    path.write_text((worse if record.passed else better).model_dump_json())
    result = CliRunner().invoke(app, ["evaluate", "--verify"])
    assert result.exit_code == 1
    assert "outcome: " in result.output
    assert f'computed anew "{record.outcome}"' in result.output
    assert "does not hold" in result.output
    path.write_text(record.model_dump_json())
    times = project.artifacts / "evaluation" / "engine_times.json"
    times.write_text(times.read_text().replace('"challenger_ms":', '"champion_mw":'))
    result = CliRunner().invoke(app, ["evaluate", "--verify"])
    assert isinstance(result.exception, DataError)
    assert "engine_times.json is missing or damaged" in str(result.exception)


def test_other_tables_than_those_judged_do_not_verify(project, registry) -> None:
    evaluated(project, registry)
    folder = project.artifacts / "evaluation"
    shutil.copy(folder / "champion.parquet", folder / "challenger.parquet")
    found = recompute(project)
    assert any(line.startswith("challenger.predictions_sha256: ") for line in found.differences)
    (folder / "champion.parquet").unlink()
    with pytest.raises(DataError, match="a champion was timed, but there is none"):
        recompute(project)


def test_each_model_is_judged_at_the_confidence_that_it_serves_with(project, registry) -> None:
    """A model that hides behind its threshold finds less than users are used to."""
    spec = read_spec(project.model)
    write_spec(project.model, spec.model_copy(update={"thresholds": Thresholds(conf=1.0, iou=0.6, max_det=4)}))
    _, record = evaluated(project, registry)
    assert (record.thresholds.served_conf, record.thresholds.champion_conf) == (1.0, 0.25)
    assert record.champion.figures.recall.value == 0.5
    assert record.challenger.figures.recall.value == 0.0
    assert next(gate for gate in record.gates if gate.name == "recall").state == "failed"
    assert recompute(project).differences == ()


def test_a_champion_of_other_classes_and_another_size_is_judged_on_those_it_knows(project, registry) -> None:
    """Its ids are another order; a class that the data lack does not count, one that it lacks is not found."""
    reigning = registry.root / "1" / "model"
    shutil.rmtree(reigning)
    write_model(reigning, "of old", classes=(" Car", "tram"), size_wh=(64, 64))
    _, record = evaluated(project, registry)
    assert record.champion_lacks == ("truck",)
    ap = {one.figure.name: one.figure.champion.value for one in record.parts if one.figure.kind == "class"}
    assert ap["car"] > 0.5
    assert ap["truck"] == 0.0
    assert any("does not know truck" in line for line in record.highlights())


def test_a_champion_of_no_class_in_common_is_refused(project, registry) -> None:
    shutil.rmtree(registry.root / "1" / "model")
    write_model(registry.root / "1" / "model", "cats", classes=("cat", "dog"))
    with pytest.raises(DataError, match="the champion knows cat, dog"):
        evaluated(project, registry)


def test_both_engines_are_timed_on_the_same_frames(project, registry) -> None:
    _, record = evaluated(project, registry)
    assert record.latency.champion is not None
    assert record.latency.num_frames >= 59  # fewer do not bound a 95th percentile
    gate = next(one for one in record.gates if one.name == "latency")
    assert gate.state != "not judged"


def test_a_table_of_an_earlier_champion_does_not_stay(project, registry) -> None:
    evaluated(project, registry)
    registry.aliases.clear()
    _, record = evaluated(project, registry)
    assert record.champion_version is None
    assert record.latency.champion is None
    assert not (project.artifacts / "evaluation" / "champion.parquet").exists()


def test_the_terminal_names_every_gate_that_did_not_pass(project, registry) -> None:
    _, record = evaluated(project, registry)
    open_gates = [gate for gate in record.gates if gate.state != "passed"]
    lines = record.highlights()
    assert len(lines) == len(open_gates) + 1
    assert all(gate.reason in line for gate, line in zip(open_gates, lines, strict=False))
    assert lines[-1].endswith("reports/label_tasks.json")


def test_the_page_names_what_no_gate_reads(project, registry) -> None:
    trained = project.artifacts / "training" / "best.pt"
    trained.parent.mkdir()
    for path in (trained, project.model / "weights.pt"):
        path.write_bytes(b"weights")
    project.reports.mkdir()
    (project.reports / "train.json").write_text('{"map50_95": 0.25}')
    evaluated(project, registry)
    html = (project.reports / "evaluate.html").read_text()
    assert "Ultralytics" in html
    assert "no gate reads it" in html


def test_frames_to_label_lie_beside_the_page_and_can_be_listed_anew(project, registry, monkeypatch) -> None:
    evaluated(project, registry)
    tasks = json.loads((project.reports / "label_tasks.json").read_text())
    assert len(tasks) == 12  # the champion misses a truck in every frame
    assert {one["model_version"] for one in tasks[0]["predictions"]} == {"challenger", "champion", "labels"}
    assert (project.data / tasks[0]["data"]["file"]).is_file()
    monkeypatch.chdir(project.root)
    (project.root / "dvc.yaml").touch()
    result = CliRunner().invoke(app, ["tasks", "--num", "5"])
    assert result.exit_code == 0, result.output
    assert "5 frames: reports/label_tasks.json, reports/label_tasks.csv, reports/label_config.xml" in result.output
    assert json.loads((project.reports / "label_tasks.json").read_text()) == tasks[:5]
    with (project.reports / "label_tasks.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["image"] for row in rows] == [one["data"]["file"] for one in tasks[:5]]
    assert len({row["camera"] for row in rows}) == 5
    labels = ET.parse(project.reports / "label_config.xml").iter("Label")
    assert [one.get("value") for one in labels] == ["car", "truck"]


def test_without_an_evaluation_there_is_nothing_to_label(project) -> None:
    with pytest.raises(ProjectError, match="no detector was evaluated here"):
        tasks_from_evidence(project, 5)


def test_a_frame_that_is_gone_is_named(project, registry) -> None:
    evaluated(project, registry)
    truth = read_ground_truth(project.artifacts / "evaluation" / "ground_truth.parquet")
    (project.data / "images/test/cam0_0.png").unlink()
    with pytest.raises(DataError, match=r"cam0_0\.png"):
        tasks_from_evidence(project, 100)
    with pytest.raises(DataError, match=r"cam0_0\.png"):
        frames_to_time(read_dataset(project.data), truth)


def test_the_trainers_figure_is_shown_of_this_very_model_only(project) -> None:
    assert trainer_map50_95(project) is None
    trained = project.artifacts / "training"
    trained.mkdir()
    for path in (trained / "best.pt", project.model / "weights.pt"):
        path.write_bytes(b"weights")
    assert trainer_map50_95(project) is None
    project.reports.mkdir(exist_ok=True)
    (project.reports / "train.json").write_text('{"map50_95": 0.25}')
    assert trainer_map50_95(project) == 0.25
    (project.reports / "train.json").write_text('{"map50_95": NaN}')
    assert trainer_map50_95(project) is None
    (project.reports / "train.json").write_text('{"map50_95": 0.25}')
    (trained / "best.pt").write_bytes(b"others")
    assert trainer_map50_95(project) is None

"""`tca compare` around the judging: which models are meant, each sent through once, judged again from what is kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows import candidate_models, compare, contestants
from flows.candidate_models import find_entries
from flows.cli import app
from flows.compare import CandidatesRecord, gather, judge, make_challenger, pairs_needed
from flows.errors import DataError, GateRefused, InputError, ProjectError
from flows.exporting.report import ExportReport
from flows.settings import Project
from tests.projects import copy_project
from tests.stand_in_models import StandInRegistry, stand_in_run, write_model, write_project

# How fast a stand-in answers says nothing, and a perfect model needs no margin.
PARAMS = ("evaluate.max_latency_ms=60000", "evaluate.max_slowdown=1000", "evaluate.min_objects_per_slice=2")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "project").mkdir()
    return write_project(tmp_path / "project")


@pytest.fixture
def registry(tmp_path: Path) -> StandInRegistry:
    """Version 1 reigns and sees no trucks; 2 sees all; 3, the challenger, is as blind as the champion."""
    made = StandInRegistry(tmp_path / "registry")
    made.add("1", "champion", sees_trucks=False)
    made.add("2")
    made.add("3", "challenger", sees_trucks=False)
    return made


@pytest.fixture
def run(project: Project, registry: StandInRegistry) -> Any:
    return stand_in_run(project, registry, *PARAMS)


def compared(run: Any, *named: str) -> CandidatesRecord:
    folder = run.project.artifacts / "compare"
    gather(run, named, False, folder)
    return judge(run, folder)


def test_the_model_that_sees_more_comes_first(run, tmp_path: Path) -> None:
    directory = write_model(tmp_path / "worse", "worse", sees_trucks=False)
    record = compared(run, "3", str(directory), "v2")
    assert record.candidates[0].name == "version 2"
    assert record.candidates[0].outcome == "promote"
    assert record.candidates[0].difference.map50_95.value == pytest.approx(0.5, abs=0.01)
    assert record.champion_version == "1"
    assert record.source("version 2").next_step == "tca compare 2 --choose, then tca promote"
    assert record.source("version 3").next_step == "tca promote"
    assert record.source(str(directory)).kind == "directory"
    assert any("version 2" in line and "promote" in line for line in record.highlights())


def test_every_model_is_sent_over_the_frames_once(run, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    detect = contestants.detect_frames

    def counted(detector: Any, *arguments: Any, **options: Any) -> Any:
        sent.append(detector.spec.name)
        return detect(detector, *arguments, **options)

    monkeypatch.setattr(contestants, "detect_frames", counted)
    compared(run, "2", "3")
    assert sent == ["version 1", "version 2", "version 3"]


def test_what_is_kept_gives_the_same_verdict_again_and_another_with_other_params(run, project, registry) -> None:
    record = compared(run, "2", "3")
    shutil.rmtree(project.data)  # nothing but what is kept is read
    assert judge(run, project.artifacts / "compare") == record
    strict = stand_in_run(project, registry, *PARAMS, "evaluate.margin=0", "evaluate.goal=superior")
    judged = judge(strict, project.artifacts / "compare")
    assert judged.candidates[0].outcome == "promote"
    assert judged != record


def test_the_winner_becomes_the_challenger_only_if_it_is_registered(run, registry, tmp_path: Path) -> None:
    record = make_challenger(run, compared(run, "2"))
    assert record.chosen == "2"
    assert "  version 2 is the challenger now; next: tca promote" in record.highlights()
    assert registry.by_alias("challenger").version == "2"
    directory = write_model(tmp_path / "good", "good")
    with pytest.raises(GateRefused, match="is not registered"):
        make_challenger(run, compared(run, str(directory)))


def test_none_is_chosen_that_was_compared_with_another_champion(run, registry) -> None:
    record = compared(run, "2")
    registry.aliases["champion"] = "3"
    with pytest.raises(GateRefused, match="with champion 1, but now it is 3"):
        make_challenger(run, judge(run, run.project.artifacts / "compare"))
    del registry.aliases["champion"]
    with pytest.raises(GateRefused, match="with champion 1, but now it is none"):
        make_challenger(run, record)
    assert registry.by_alias("challenger").version == "3"


def test_without_a_champion_the_floor_counts(run, registry) -> None:
    del registry.aliases["champion"]
    record = compared(run, "1", "2")
    assert record.champion_version is None
    assert [one.name for one in record.candidates] == ["version 2", "version 1"]
    assert record.candidates[0].latency.champion is None


@pytest.mark.parametrize(
    ("named", "error", "said"),
    [
        ((), InputError, "no candidate is named"),
        (("nonsense",), InputError, "nonsense is no model"),
        (("9",), ProjectError, "no version 9"),
        (("previous",), ProjectError, "there is no previous"),
        (("champion",), InputError, "version 1 is the champion"),
        (("2", "2"), InputError, "version 2 is the same model as version 2"),
        (("3", "challenger"), InputError, "version 3 is the same model as version 3"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_sent(run, named, error, said) -> None:
    with pytest.raises(error, match=said):
        compared(run, *named)
    assert not (run.project.artifacts / "compare").exists()


def test_a_folder_without_a_model_and_other_classes_are_named(run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty is no model: .*model\.json is missing"):
        compared(run, str(tmp_path / "empty"))
    other = write_model(tmp_path / "other", "other", classes=("car", "tram"))
    with pytest.raises(DataError, match="tram"):
        compared(run, str(other))


def test_a_damaged_model_is_an_error_that_can_be_read(run, tmp_path: Path) -> None:
    directory = write_model(tmp_path / "damaged", "damaged")
    (directory / "fake.json").write_text("[]")
    with pytest.raises(ProjectError, match=r"fake\.json"):
        compared(run, str(directory))


def test_nothing_kept_cannot_be_judged_again(run) -> None:
    with pytest.raises(ProjectError, match="no comparison is kept"):
        judge(run, run.project.artifacts / "compare")


def test_checkpoints_are_exported_once_and_left_out_where_no_engine_may_serve(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = []

    def export(checkpoint: Path, folder: Path, *_: Any) -> ExportReport:
        exports.append(checkpoint.name)
        write_model(folder, checkpoint.name)
        passed = checkpoint.name != "lossy.pt"
        spec = candidate_models.read_spec(folder)
        return ExportReport.model_construct(
            passed=passed, sentence="no engine loses little enough", model_digest=spec.digest, engine="fake"
        )

    monkeypatch.setattr(candidate_models, "export_model", export)
    monkeypatch.setattr(candidate_models, "gather_evidence", lambda *_: None)
    for name in ("good.pt", "lossy.pt"):
        (tmp_path / name).write_bytes(name.encode())
    named = [str(tmp_path / "good.pt"), str(tmp_path / "lossy.pt")]
    record = compared(run, *named)
    assert [one.name for one in record.candidates] == [named[0]]
    assert [(one.name, one.reason) for one in record.left_out] == [(named[1], "no engine loses little enough")]
    compared(run, named[0])
    assert exports == ["good.pt", "lossy.pt"]
    with pytest.raises(GateRefused, match="no engine loses little enough"):
        compared(run, named[1])


def test_the_front_is_what_is_kept_of_the_tuning(run, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.tuning import study

    class Report:
        study, front = "s1", (4, 2)
        trials = tuple(type("Row", (), {"number": number, "origin": number})() for number in (1, 2, 4))

    class Study:
        report = staticmethod(lambda: Report)

    monkeypatch.setattr(study, "current_study", lambda *_: Study)
    with pytest.raises(ProjectError, match="no model of the front of study s1 is kept"):
        find_entries(run, (), front=True)
    for number in (1, 2):
        (run.project.home / "tune" / "s1" / f"trial{number}").mkdir(parents=True)
        (run.project.home / "tune" / "s1" / f"trial{number}" / "best.pt").write_bytes(b"")
    [entry] = find_entries(run, (), front=True)
    assert (entry.name, entry.kind, entry.next_step) == (
        "trial 2", "trial", "tca tune apply --trial 2 --write, then tca release",
    )  # fmt: skip


@pytest.mark.parametrize("num_candidates", [1, 5, 40])
def test_enough_frames_are_timed_for_a_bound_at_every_number_of_candidates(num_candidates: int) -> None:
    from flows.comparison.engine_latency import quantile_estimate

    alpha = 0.05 / num_candidates
    num = max(compare.NUM_PAIRS, pairs_needed(alpha))
    assert quantile_estimate(compare_range(num), 0.95, alpha).upper is not None


def compare_range(num: int) -> Any:
    import numpy as np

    return np.arange(num, dtype=float)


def test_the_command_hands_on_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr("flows.cli.compare.run_flow", lambda name, *_, **more: given.update(more, name=name))
    result = CliRunner().invoke(app, ["compare", "2", "models/x", "--front", "--choose"])
    assert result.exit_code == 0, result.output
    assert given == {"name": "compare", "models": ["2", "models/x"], "front": True, "choose": True, "again": False}


def test_the_record_is_json_that_reads_back(run) -> None:
    record = compared(run, "2")
    assert CandidatesRecord.model_validate(json.loads(record.model_dump_json())) == record


@pytest.mark.deep
def test_the_command_compares_in_a_project_of_its_own(tmp_path: Path, prefect_api: str) -> None:
    root = copy_project(tmp_path / "project")
    write_project(root)
    good, blind = write_model(tmp_path / "good", "good"), write_model(tmp_path / "blind", "blind", sees_trucks=False)
    homes = {"TCA_HOME", "BENTOML_HOME", "PREFECT_HOME", "MLFLOW_TRACKING_URI"}
    env = {key: value for key, value in os.environ.items() if key not in homes} | {"PREFECT_API_URL": prefect_api}

    def tca(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "flows.cli", *arguments]
        return subprocess.run(argv, cwd=root, env=env, capture_output=True, text=True, timeout=280, check=False)

    slow = ("-S", "evaluate.max_latency_ms=60000")
    done = tca("compare", str(blind), str(good), "--json", *slow)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [one["name"] for one in report["candidates"]] == [str(good), str(blind)]
    assert (root / "reports" / "compare.html").is_file()
    assert tca("compare", "--again").returncode == 0
    assert tca("compare", "--again", "-S", "evaluate.max_latency_ms=0.0001").returncode == 1
    refused = tca("compare", "nonsense")
    assert refused.returncode == 2
    assert "nonsense is no model" in refused.stderr
    assert "Traceback" not in refused.stderr

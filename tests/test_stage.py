"""The wrapper that every verb shares, with a real Prefect API and without DVC."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from flows.errors import ParamsError, ProjectError
from flows.settings import Project
from flows.stage import StageRun, read_report, stage


class Report(BaseModel):
    model_config = ConfigDict(frozen=True)

    passed: bool
    sentence: str


@stage(tracked=False)
def sample(run: StageRun, passes: bool = True) -> Report:
    """A stage that does next to nothing."""
    doubled = run.step(lambda value: value * 2)(21)
    return Report(passed=passes, sentence=f"epochs {run.params.train.epochs}, {doubled}")


@pytest.fixture
def project(project_dir: Path, monkeypatch: pytest.MonkeyPatch, prefect_api: str) -> Project:
    monkeypatch.chdir(project_dir)
    return Project(project_dir)


def test_a_stage_writes_its_report_with_provenance(project: Project) -> None:
    sample()
    report = read_report(project, "sample")
    assert report["passed"]
    assert report["sentence"].endswith("42")
    assert report["provenance"]["git_commit"]
    assert report["provenance"]["git_dirty"] is False
    assert set(report["provenance"]["versions"]) >= {"python", "torch", "ultralytics-opencv-headless"}


def test_an_override_reaches_params_yaml_and_the_run(project: Project) -> None:
    sample(overrides=["train.epochs=77"])
    assert read_report(project, "sample")["sentence"].startswith("epochs 77")
    assert "epochs: 77" in project.params_file.read_text()
    assert read_report(project, "sample")["provenance"]["git_dirty"] is True


def test_a_wrong_override_fails_before_any_work(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    with pytest.raises(ParamsError, match="did you mean epochs"):
        sample(overrides=["train.epoch=77"])
    assert not (project.reports / "sample.json").exists()


def test_a_refusal_is_a_report_and_no_exception(project: Project) -> None:
    state = sample(passes=False, return_state=True)
    assert state.name == "Refused"
    assert json.loads((project.reports / "sample.json").read_text())["passed"] is False


def test_the_flow_shows_its_parameters_and_its_description() -> None:
    assert sample.name == "sample"
    assert sample.description == "A stage that does next to nothing."
    assert set(sample.parameters.properties) == {"overrides", "force", "passes"}


@pytest.mark.parametrize(("content", "said"), [(None, "has not run"), ("{", "is not JSON")])
def test_a_missing_or_broken_report_says_what_to_run(tmp_path: Path, content: str | None, said: str) -> None:
    (tmp_path / "reports").mkdir()
    if content is not None:
        (tmp_path / "reports" / "train.json").write_text(content)
    with pytest.raises(ProjectError, match=said):
        read_report(Project(tmp_path), "train")

from __future__ import annotations

from pathlib import Path

import pytest

from flows.adapters.versioning import (
    add_data,
    commit_stage,
    parse_status,
    read_staleness,
    read_staleness_of_data,
)
from flows.errors import InputError, ProjectError
from flows.provenance import read_data_md5
from tests.projects import copy_project, run

DVC_YAML = """
stages:
  first: {cmd: cp data/a.txt made.txt, deps: [data], outs: [made.txt]}
  second: {cmd: cp made.txt more.txt, deps: [made.txt], outs: [more.txt]}
"""


def test_dvc_status_is_parsed_into_reasons() -> None:
    status = {
        "data.dvc": [{"changed outs": {"data": "modified"}}],
        "train": [{"changed deps": {"params.yaml": {"train.epochs": "modified"}}}, "changed command"],
        "export": [{"changed outs": {"artifacts/model": "deleted"}}],
    }
    assert parse_status({}) == {}
    assert parse_status(status) == {
        "data": ["output data modified"],
        "train": ["params.yaml train.epochs modified", "changed command"],
        "export": ["output artifacts/model deleted"],
    }


def test_a_stage_is_stale_until_it_is_committed(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    (project / "dvc.yaml").write_text(DVC_YAML)
    (project / "data").mkdir()
    (project / "data" / "a.txt").write_text("1")
    assert read_staleness_of_data(project) == ["not versioned yet"]
    add_data(project, project / "data")
    version = read_data_md5(project)
    assert version is not None
    assert read_staleness_of_data(project) == []
    assert set(read_staleness(project, "second")) == {"first", "second"}
    for name in ("made.txt", "more.txt"):
        (project / name).write_text("1")
    commit_stage(project, "first")
    commit_stage(project, "second")
    assert read_staleness(project, "second") == {}
    (project / "data" / "a.txt").write_text("2")
    assert set(read_staleness(project, "second")) == {"data", "first"}


def test_no_repository_and_no_stage_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="dvc init"):
        read_staleness(tmp_path, "train")
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, "dvc", "init", "-q")
    with pytest.raises(InputError, match="train"):
        read_staleness(tmp_path, "train")

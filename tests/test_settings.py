from __future__ import annotations

from pathlib import Path

import pytest

from flows.errors import InputError, ProjectError
from flows.settings import Project, find_project, read_settings


def test_the_project_is_found_from_any_folder_below(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").touch()
    (tmp_path / "dvc.yaml").touch()
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_project(below).root == tmp_path


def test_no_project_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="tca -C FOLDER"):
        find_project(tmp_path)


@pytest.mark.parametrize("text", ["0", "70000", "http", "-1", "30.5"])
def test_a_port_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TCA_PORT", text)
    with pytest.raises(InputError, match="TCA_PORT"):
        read_settings(Project(tmp_path))


def test_the_environment_names_other_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TCA_PORT", raising=False)
    assert read_settings(Project(tmp_path)).tracking_uri == f"sqlite:///{tmp_path / '.tca' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example")
    assert read_settings(Project(tmp_path)).tracking_uri == "http://tracking.example"

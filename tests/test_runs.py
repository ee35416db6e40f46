"""`tca runs`: what MLflow has not got, and sending it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.adapters.runs import Runs
from flows.cli.runs import app
from flows.errors import OutsideError
from tests.projects import ROOT


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tca_runs(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_what_a_dead_server_lacks_is_listed_and_cannot_be_sent(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("list", "send"):
        assert tca_runs(command) == "MLflow has everything\n"
    dead = "http://127.0.0.1:9"
    with Runs(dead, "its-camera-detector", project / ".tca").run("train", {}, job="a") as log:
        log.metrics({"loss": 0.5}, 1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", dead)
    (one,) = json.loads(tca_runs("list", "--json"))
    assert (one["stage"], one["status"], one["num_unsent"], one["run_id"]) == ("train", "FINISHED", 3, None)
    with pytest.raises(
        OutsideError, match=r"of 1 runs MLflow still lacks something: MLflow at http://127.0.0.1:9 does not answer"
    ):
        tca_runs("send")
    assert tca_runs("list").startswith("train    FINISHED      3 to send  run -")

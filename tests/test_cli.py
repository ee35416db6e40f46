from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.stages import REPORT_MODELS, report_schema

VERBS = ("validate", "train", "tune", "export", "evaluate", "package", "promote", "monitor", "release")


def tca(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "flows.cli", *arguments]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def test_help_lists_the_verbs_in_the_order_of_the_work(tmp_path: Path) -> None:
    done = tca(tmp_path, "--help")
    assert done.returncode == 0
    places = [done.stdout.index(f"\n  {verb} ") for verb in VERBS if verb != "release" and verb != "monitor"]
    assert places == sorted(places)


def test_nothing_heavy_is_imported_for_help() -> None:
    heavy = ("torch", "prefect", "mlflow", "pandas", "numpy")
    code = f"import sys, flows.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(tmp_path: Path, verb: str) -> None:
    done = tca(tmp_path, verb, "--help")
    assert done.returncode == 0
    assert "--set" in done.stdout
    assert "--json" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nonsense",), "No such command"),
        (("train", "--nonsense"), "No such option"),
        (("status",), "no project here"),
        (("-C", "/no/such/folder", "status"), "No such file"),
    ],
)
def test_wrong_input_exits_2_without_a_traceback(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = tca(tmp_path, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("validate", "-S", "train.epoch=3"), "did you mean epochs"),
        (("train", "-S", "train.image_size=321"), "nearest: 320, 352"),
        (("serve",), "there is no champion to serve"),
        (("rollback",), "there is no previous champion"),
        (("replay", "/no/such/source"), "/no/such/source"),
        (("promotion", "verify", "7"), "there is no record of promotion 7"),
        (("data", "import", "yolo", "/no/such/set"), "/no/such/set is not a folder"),
        (("schema", "nonsense"), "there is no stage nonsense"),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(project_dir: Path, arguments: tuple[str, ...], said: str) -> None:
    done = tca(project_dir, *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_status_of_a_new_project_needs_no_server(project_dir: Path) -> None:
    done = tca(project_dir, "status", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["champion"] is None
    assert found["services"] == []
    assert "validate" in found["stale"]
    assert "none yet: tca release" in tca(project_dir, "status").stdout


def test_down_with_nothing_running_says_so(project_dir: Path) -> None:
    assert tca(project_dir, "down").stdout.strip() == "nothing was running"


@pytest.mark.parametrize("stage", sorted(REPORT_MODELS))
def test_every_report_has_a_schema_whose_fields_are_described(stage: str) -> None:
    schema = report_schema(stage)
    assert {"passed", "sentence"} <= set(schema["properties"])
    undescribed = [name for name, field in schema["properties"].items() if "description" not in field]
    assert undescribed == []


@pytest.mark.parametrize(
    ("arguments", "overrides"),
    [
        ((), []),
        (("--engine", "openvino", "--precision", "int8"), ["export.engine=openvino", "export.precision=int8"]),
        (("-S", "export.max_loss=0.01", "--precision", "auto"), ["export.max_loss=0.01", "export.precision=auto"]),
    ],
)
def test_an_engine_can_be_named_in_short(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], overrides: list[str]
) -> None:
    from typer.testing import CliRunner

    from flows.cli import app, verbs

    ran: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(verbs, "run_flow", lambda name, given, *_: ran.append((name, given)))
    assert CliRunner().invoke(app, ["export", *arguments]).exit_code == 0
    assert ran == [("export", overrides)]

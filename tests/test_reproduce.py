from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from bentos.detector.contract import file_sha256
from flows.adapters.worktree import Worktree
from flows.errors import GateRefused, InputError, OutsideError, ProjectError
from flows.reproducing.given import Given, find_checkpoint, gather, require_one_machine
from flows.reproducing.record import Champion, Record, Start
from flows.reproducing.tree import fill_tree
from flows.reproducing.work import Workplace, build_environment, installed_in, run_stage
from flows.settings import Project
from tests.test_record import make_package, make_record

FAKE_CLI = """
import json, os, pathlib, sys
pathlib.Path("seen.json").write_text(json.dumps({"argv": sys.argv[1:], "env": dict(os.environ), "code": __file__}))
sys.exit(int(pathlib.Path("exit").read_text()))
"""


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    """A tree whose command line does nothing but note how it was called."""
    root = tmp_path / "tree"
    (root / "flows").mkdir(parents=True)
    (root / "flows" / "__init__.py").touch()
    (root / "flows" / "cli.py").write_text(FAKE_CLI)
    return Workplace(root, tmp_path / "home", None)


def call(place: Workplace, stage: str, code: int) -> dict[str, Any]:
    (place.root / "exit").write_text(str(code))
    run_stage(place, stage)
    return yaml.safe_load((place.root / "seen.json").read_text())


def test_a_stage_runs_with_the_code_of_the_tree_and_knows_nothing_of_our_services(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "TCA_PORT", "BENTOML_HOME", "GIT_DIR"):
        monkeypatch.setenv(name, "ours")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    seen = call(place, "train", 0)
    assert seen["argv"] == ["train"]
    assert seen["code"] == str(place.root / "flows" / "cli.py")
    assert "ours" not in seen["env"].values()
    assert seen["env"]["CUDA_VISIBLE_DEVICES"] == "1"
    assert seen["env"]["TCA_HOME"] == str(place.home)


@pytest.mark.parametrize(
    ("stage", "code", "error"),
    [
        ("train", 1, GateRefused),
        ("evaluate", 1, None),
        ("train", 2, ProjectError),
        ("export", 3, OutsideError),
        ("export", 70, OutsideError),
    ],
)
def test_how_a_stage_ended_is_told(place: Workplace, stage: str, code: int, error: type[Exception] | None) -> None:
    if error is None:
        call(place, stage, code)
        return
    with pytest.raises(error, match=stage):
        call(place, stage, code)


def wheel(folder: Path, name: str, version: str) -> None:
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.mark.parametrize("from_constraints", [True, False])
def test_the_recorded_environment_is_built(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_constraints: bool
) -> None:
    wheel(tmp_path / "wheels", "tiny", "1.0")
    wheel(tmp_path / "wheels", "tiny", "2.0")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    recorded = make_record(make_package(tmp_path / "package")).environment
    recorded = recorded.model_copy(
        update={
            "python": ".".join(map(str, sys.version_info[:3])),
            "packages": {"tiny": "1.0"},
            "constraints_sha256": "x" if from_constraints else None,
        }
    )
    (place.root / "constraints.txt").write_text("tiny==1.0\n" if from_constraints else "tiny==3.0\n")
    built = build_environment(place, tmp_path / "venv", recorded)
    assert (tmp_path / "venv" / "lib").is_dir()
    assert built.interpreter == str(tmp_path / "venv" / "bin" / "python")
    (found,) = (tmp_path / "venv").glob("lib/python*/site-packages/tiny.py")
    assert "1.0" in found.read_text()
    with pytest.raises(OutsideError, match="the environment that was built does not work"):
        installed_in(built)  # it has none of the product's packages


def test_an_environment_that_is_not_to_be_had_is_said(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    recorded = make_record(make_package(tmp_path / "package")).environment
    (place.root / "constraints.txt").write_text("not-to-be-found==1.0\n")
    here = recorded.model_copy(update={"python": ".".join(map(str, sys.version_info[:3])), "constraints_sha256": "x"})
    with pytest.raises(OutsideError, match=r"cannot be built: uv pip: .*Without --environment"):
        build_environment(place, tmp_path / "venv", here)


def started(tmp_path: Path, start: Start, model: str = "weights/start.pt", **changes: Any) -> Record:
    package = make_package(tmp_path / "package")
    return make_record(package, start=start, params_yaml=f"train: {{model: {model}}}\n", **changes)


def test_the_checkpoint_must_be_the_one_that_was_recorded(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    (project.root / "weights").mkdir(parents=True)
    file = project.root / "weights" / "start.pt"
    file.write_bytes(b"weights")
    record = started(tmp_path, Start(kind="checkpoint", name="start.pt", sha256=file_sha256(file)[:12]))
    assert find_checkpoint(project, record, None) == file
    file.write_bytes(b"others")
    with pytest.raises(ProjectError, match="not the file that the training started from"):
        find_checkpoint(project, record, None)
    file.unlink()
    with pytest.raises(ProjectError, match=r"--start start\.pt"):
        find_checkpoint(project, record, None)
    elsewhere = tmp_path / "elsewhere.pt"
    elsewhere.write_bytes(b"weights")
    assert find_checkpoint(project, record, elsewhere) == elsewhere


def test_a_training_of_several_machines_needs_a_word(tmp_path: Path) -> None:
    record = make_record(make_package(tmp_path / "package"), params_yaml="train: {distributed: {nodes: 2}}\n")
    with pytest.raises(InputError, match=r"trained on 2 machines.*-S train\.distributed\.nodes=1"):
        require_one_machine(record, ("train.epochs=1",))
    require_one_machine(record, ("train.distributed.nodes=1",))
    require_one_machine(record.model_copy(update={"params_yaml": None}), ())


class NoRegistry:
    def get(self, version: str) -> None:
        raise ProjectError(f"there is no version {version}")


def test_a_champion_that_is_gone_is_said(tmp_path: Path) -> None:
    start = Start(kind="champion", name="weights.pt", sha256="0" * 64)
    gone = started(tmp_path, start, champion=Champion(version="1", digest=None))
    with pytest.raises(ProjectError, match="there is no version 1"):
        gather(Project(tmp_path), NoRegistry(), gone, None)  # type: ignore[arg-type]
    unnamed = gone.model_copy(update={"champion": None})
    with pytest.raises(ProjectError, match="does not say which"):
        gather(Project(tmp_path), NoRegistry(), unnamed, None)  # type: ignore[arg-type]


def test_a_tree_gets_the_recorded_params_with_the_values_that_must_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.reproducing.tree._put_data", lambda *_: None)
    tree = Worktree(tmp_path, tmp_path / "tree")
    tree.root.mkdir()
    (tree.root / "dvc.lock").touch()
    record = started(tmp_path, Start(kind="checkpoint", name="start.pt", sha256="0"))
    given = Given(None, tmp_path / "start.pt", ("train.distributed.nodes=1", "seed=2"))
    fill_tree(Project(tmp_path), tree, record, given, lambda *_: None)
    assert yaml.safe_load((tree.root / "params.yaml").read_text()) == {
        "train": {"model": str(tmp_path / "start.pt"), "distributed": {"nodes": 1}},
        "seed": 2,
    }
    assert not (tree.root / "dvc.lock").exists()
    assert "null" in (tree.root / "champion.json").read_text()


def test_other_constraints_than_the_recorded_are_refused(tmp_path: Path) -> None:
    tree = Worktree(tmp_path, tmp_path / "tree")
    tree.root.mkdir()
    record = started(tmp_path, Start(kind="architecture", name="yolo11n.yaml", sha256=None))
    record = record.model_copy(
        update={"environment": record.environment.model_copy(update={"constraints_sha256": "0" * 64})}
    )
    with pytest.raises(InputError, match=r"constraints\.txt of that commit"):
        fill_tree(Project(tmp_path), tree, record, Given(None, None), lambda *_: None)


def test_nothing_of_this_process_is_changed(place: Workplace) -> None:
    before = dict(os.environ)
    call(place, "train", 0)
    assert dict(os.environ) == before

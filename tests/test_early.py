"""What a verb cannot do is said before anything is loaded, and before any work is done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.early import check_early
from flows.errors import CheckpointError, DataError, ParamsError
from flows.params import Params
from flows.params_file import read_params
from flows.settings import Project
from tests.projects import ROOT

LIGHT = """
import sys
import flows.early
heavy = {"torch", "ultralytics", "optuna", "mlflow", "prefect", "numpy", "pandas"} & set(sys.modules)
assert not heavy, heavy
"""


def params(**train: Any) -> Params:
    return read_params(ROOT / "params.yaml", [f"train.{key}={value}" for key, value in train.items()])


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "champion.json").write_text('{"version": null, "digest": null}\n')
    return Project(tmp_path)


SEGMENT = {"task": "segment", "model": "yolo11n-seg.yaml"}


def test_it_is_light() -> None:
    subprocess.run([sys.executable, "-c", LIGHT], check=True)


@pytest.mark.parametrize("verb", ["validate", "train", "tune", "export", "evaluate", "package", "promote", "release"])
def test_detectors_do_all(verb: str, project: Project) -> None:
    check_early(verb, params(), project, drill="")


@pytest.mark.parametrize("verb", ["validate", "train", "tune", "export", "evaluate", "monitor"])
def test_other_tasks_do_what_ultralytics_offers(verb: str, project: Project) -> None:
    check_early(verb, params(**SEGMENT), project)


@pytest.mark.parametrize("verb", ["package", "promote", "release"])
def test_what_serves_knows_detectors_only(verb: str, project: Project) -> None:
    with pytest.raises(ParamsError, match="train.task is segment: tca .* detectors only") as caught:
        check_early(verb, params(**SEGMENT), project)
    assert "tca release --until evaluate" in str(caught.value)


def test_a_release_up_to_evaluate_is_possible(project: Project) -> None:
    check_early("release", params(**SEGMENT), project, until="evaluate")


@pytest.mark.parametrize("verb", ["train", "tune", "release"])
def test_a_wrong_start_is_said_by_all_that_train(verb: str, project: Project) -> None:
    with pytest.raises(CheckpointError, match="did you mean yolo11n.yaml"):
        check_early(verb, params(model="yolov8n.yaml"), project)
    check_early("export", params(model="yolov8n.yaml"), project)


@pytest.mark.parametrize(
    ("pointer", "is_needed"),
    [
        ('{"version": "3", "digest": "d"}', False),
        ('{"version": null, "digest": null}', True),
        ("broken", False),
        (None, True),
    ],
)
def test_the_model_is_not_needed_while_a_champion_reigns(
    project: Project, pointer: str | None, is_needed: bool
) -> None:
    project.champion_file.unlink()
    if pointer is not None:
        project.champion_file.write_text(pointer)
    if is_needed:
        with pytest.raises(CheckpointError, match="there is no checkpoint gone.pt"):
            check_early("train", params(model="gone.pt"), project)
    else:
        check_early("train", params(model="gone.pt"), project)


def test_labels_of_another_task_are_said(project: Project) -> None:
    project.data.mkdir()
    (project.data / "data.yaml").write_text("names: [car]\n")
    with pytest.raises(DataError, match="train.task is segment, but the labels are for detect"):
        check_early("train", params(**SEGMENT), project)


@pytest.mark.parametrize("verb", ["train", "tune", "release"])
def test_machines_without_a_meeting_place_are_said_by_all_that_train(verb: str, project: Project) -> None:
    with pytest.raises(ParamsError, match="rendezvous is empty"):
        check_early(verb, read_params(ROOT / "params.yaml", ["train.distributed.nodes=2"]), project)

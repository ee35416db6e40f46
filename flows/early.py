"""What a verb cannot do with these params, said before anything heavy is loaded and before any work is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.adapters.registry import read_pointer
from flows.errors import ParamsError, ProjectError
from flows.params import Params
from flows.settings import Project
from flows.training.launching.placing import place_training
from flows.training.start import check_start

_TRAINING_VERBS = ("train", "tune", "release")
_DETECTOR_VERBS = {
    "package": "packs",
    "promote": "compares live answers of",
}


def check_early(verb: str, params: Params, project: Project, until: str = "promote", **_: Any) -> None:
    """Refuse what would fail half-way. Reads params, data.yaml, and of a checkpoint the first bytes.

    Args:
        until: The last stage of a release.

    Raises:
        ParamsError: The task has no such stage, settings of train contradict each other, or it wants more processes
            than this machine has devices.
        CheckpointError: `train.model` is nothing to start from.
        DataError: The data are labelled for another task.
    """
    refuse_task(verb, params, until)
    if verb in _TRAINING_VERBS:
        place_training(params.train)
        check_start(params.train, project.data, _has_champion(project.champion_file))


def refuse_task(verb: str, params: Params, until: str = "promote") -> None:
    """Refuse the stages that serve: bento and rollout know detectors only. Raises ParamsError."""
    task = params.train.task
    if task == "detect":
        return
    possible = f"Possible for {task}: tca train, tca export, tca evaluate, or all: tca release --until evaluate"
    if verb in _DETECTOR_VERBS:
        raise ParamsError(f"train.task is {task}: tca {verb} {_DETECTOR_VERBS[verb]} detectors only", possible)
    if verb == "release" and until in _DETECTOR_VERBS:
        raise ParamsError(f"train.task is {task}: tca release ends with {until}, which is for detectors only", possible)


def _has_champion(pointer: Path) -> bool:
    """Whether champion.json names one; a damaged file is for those who read it to say, and taken for yes."""
    try:
        return read_pointer(pointer) is not None
    except (ProjectError, OSError):
        return True

"""The choice of a task runner comes from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.errors import InputError
from flows.settings import Project, TaskRunnerChoice, read_settings


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        (None, TaskRunnerChoice("local")),
        ("", TaskRunnerChoice("local")),
        (" local ", TaskRunnerChoice("local")),
        ("threads", TaskRunnerChoice("threads")),
        ("processes", TaskRunnerChoice("processes")),
        ("dask", TaskRunnerChoice("dask")),
        ("dask:tcp://10.0.0.5:8786", TaskRunnerChoice("dask", "tcp://10.0.0.5:8786")),
    ],
)
def test_a_task_runner_is_chosen_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, choice: TaskRunnerChoice
) -> None:
    monkeypatch.delenv("TCA_TASK_RUNNER", raising=False)
    if text is not None:
        monkeypatch.setenv("TCA_TASK_RUNNER", text)
    assert read_settings(Project(tmp_path)).task_runner == choice


@pytest.mark.parametrize("text", ["ray", "Dask", "dask:", "threads:4", "local:", ":"])
def test_another_task_runner_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TCA_TASK_RUNNER", text)
    with pytest.raises(InputError, match=f"TCA_TASK_RUNNER={text} .* Expected local, threads, processes, dask"):
        read_settings(Project(tmp_path))

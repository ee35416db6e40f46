"""Shared fixtures: a quiet environment, one Prefect API for the whole session, and small projects of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.projects import copy_project

# The same cases in every run, and no limit of time. HYPOTHESIS_PROFILE=explore draws others.
settings.register_profile("repeat", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))

os.environ.setdefault("OMP_NUM_THREADS", "2")
for variable in (
    "MLFLOW_TRACKING_URI",
    "PREFECT_API_URL",
    "TCA_HOME",
    "TCA_TASK_RUNNER",
    "TCA_TUNE_STORAGE",
    "DVC_STAGE",
    "DETECTOR_DRILL",
    "DETECTOR_RECORD_DIR",
):
    os.environ.pop(variable, None)


@pytest.fixture(scope="session", autouse=True)
def quiet_environment(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No library of ours may write into the home of whoever runs the tests."""
    from flows.settings import Project, apply_environment

    home = tmp_path_factory.mktemp("home")
    os.environ["TCA_HOME"] = str(home / ".tca")
    apply_environment(Project(home))
    del os.environ["TCA_HOME"]


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[str]:
    """One real Prefect API for the session; its address also reaches child processes."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        address = str(PREFECT_API_URL.value())
        os.environ["PREFECT_API_URL"] = address
        yield address
        del os.environ["PREFECT_API_URL"]


@pytest.fixture
def project_dir(tmp_path: Path) -> Path:
    """A copy of the repository's code and configuration as a git and DVC repository of its own, without data."""
    return copy_project(tmp_path / "project")

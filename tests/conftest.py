"""Shared fixtures: a quiet environment, one Prefect API for the whole session, and small projects of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

os.environ.setdefault("OMP_NUM_THREADS", "2")
for variable in (
    "MLFLOW_TRACKING_URI",
    "PREFECT_API_URL",
    "TCA_HOME",
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


def copy_project(target: Path) -> Path:
    """Copy what a project consists of, commit it, and initialise DVC."""
    target.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for folder in ("flows", "bentos"):
        shutil.copytree(ROOT / folder, target / folder, ignore=ignore)
    for name in ("params.yaml", "dvc.yaml", "champion.json", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, target / name)
    (target / "champion.json").write_text('{"version": null, "digest": null}\n', encoding="utf-8")
    run(target, "git", "init", "-q")
    run(target, sys.executable, "-m", "dvc", "init", "-q")
    run(target, "git", "add", "-A")
    run(target, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "project")
    return target


def run(cwd: Path, *argv: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command that must succeed."""
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, f"{argv} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done

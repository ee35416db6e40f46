"""An MLflow database that is there at once, and a Kubernetes cluster."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.kubernetes_stage import Stage


@pytest.fixture(scope="session")
def migrated_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrating a store takes seconds: once a session, then copied."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_uri(tmp_path: Path, migrated_store: Path) -> str:
    """A database of the test's own."""
    shutil.copy(migrated_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A cluster of the test's own."""
    one = Stage(tmp_path)
    yield one
    one.close()

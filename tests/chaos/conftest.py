"""What the chaos tests start. They take minutes, so that only `make test-chaos` collects them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.load import Frame, mixed_frames
from tests.chaos.service import write_conv_model
from tests.detector.conftest import Services, service_environment  # noqa: F401  # a fixture
from tests.promotion.conftest import stack  # noqa: F401  # a fixture


@pytest.fixture
def services(service_environment: dict[str, str]) -> Iterator[Services]:  # noqa: F811
    """Starts services; whatever still runs at the end of the test is stopped."""
    started = Services(service_environment)
    yield started
    started.stop()


@pytest.fixture(scope="session")
def real_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with a real engine; CHAOS_MODEL_DIR names another."""
    if named := os.environ.get("CHAOS_MODEL_DIR"):
        return Path(named).resolve()
    return write_conv_model(tmp_path_factory.mktemp("model") / "conv")


@pytest.fixture(scope="session")
def frames() -> tuple[Frame, ...]:
    return mixed_frames()

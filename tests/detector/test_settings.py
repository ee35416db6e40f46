from __future__ import annotations

from pathlib import Path

import pytest

from bentos.detector.errors import LoadError
from bentos.detector.settings import BUNDLED_MODEL, read_settings


def test_nothing_set() -> None:
    settings = read_settings({})
    assert settings.model_dir == BUNDLED_MODEL
    assert settings.record_dir is None
    assert settings.model_version is None
    assert settings == read_settings({"DETECTOR_MODEL_VERSION": "", "OTHER": "1"})


def test_values_are_read() -> None:
    settings = read_settings({"DETECTOR_MODEL_DIR": "a/b", "DETECTOR_MAX_BATCH": "2", "DETECTOR_HINT": "throughput"})
    assert (settings.model_dir, settings.max_batch, settings.hint) == (Path("a/b"), 2, "throughput")


@pytest.mark.parametrize(
    ("name", "value"),
    [("MAX_BATCH", "0"), ("MAX_BATCH", "two"), ("HINT", "fast"), ("MAX_WAIT_MS", "-1"), ("MAX_BODY_BYTES", "1e9x")],
)
def test_a_wrong_value_names_its_variable(name, value) -> None:
    with pytest.raises(LoadError, match=f"DETECTOR_{name} = '{value}'"):
        read_settings({f"DETECTOR_{name}": value})

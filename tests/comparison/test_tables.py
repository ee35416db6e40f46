from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.comparison.predictions import predictions
from flows.comparison.tables import read_ground_truth, read_predictions, write_ground_truth, write_predictions
from flows.errors import DataError


def test_no_image_survives_the_file(tmp_path: Path) -> None:
    write_predictions(tmp_path / "none.parquet", predictions([], [], [], []))
    assert read_predictions(tmp_path / "none.parquet").images == ()


def test_tables_survive_the_file_bit_by_bit(tmp_path: Path, make_truth, make_predictions) -> None:
    truth = make_truth(np.random.default_rng(0), cameras=2)
    found = make_predictions(np.random.default_rng(1), truth)
    write_ground_truth(tmp_path / "deep/truth.parquet", truth)
    write_predictions(tmp_path / "deep/found.parquet", found)
    assert read_ground_truth(tmp_path / "deep/truth.parquet").digest() == truth.digest()
    assert read_predictions(tmp_path / "deep/found.parquet").digest() == found.digest()


def test_what_is_no_table_is_refused(tmp_path: Path, make_truth) -> None:
    path = tmp_path / "table.parquet"
    with pytest.raises(DataError, match="cannot be read as parquet"):
        read_predictions(path)
    path.write_bytes(b"not parquet")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        read_predictions(path)
    write_ground_truth(path, make_truth(np.random.default_rng(0), cameras=1))
    with pytest.raises(DataError, match="has no column scores"):
        read_predictions(path)

"""Evidently's page of a drift measurement, judged by our limits."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flows.dataset.drift.units import Units

_METRIC = "evidently:metric_v2:ValueDrift"


def evidently_distances(units: Units, limits: Mapping[str, float], html: Path) -> dict[str, float]:
    """Write Evidently's page about the columns that have a limit; their distances as Evidently computes them.

    Evidently calls a column drifted from its threshold on, and the data when one column is.
    """
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    columns = list(limits)
    definition = DataDefinition(numerical_columns=columns)
    preset = DataDriftPreset(
        drift_share=1 / len(columns),
        num_method="wasserstein",
        per_column_threshold={name: float(np.nextafter(limit, np.inf)) for name, limit in limits.items()},
        columns=columns,
    )
    current, reference = units.table[units.is_current], units.table[~units.is_current]
    html.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it correlates columns that do not vary
        snapshot = Report([preset], include_tests=True).run(
            Dataset.from_pandas(current[columns], data_definition=definition),
            Dataset.from_pandas(reference[columns], data_definition=definition),
        )
        snapshot.save_html(str(html))
    with tempfile.TemporaryDirectory() as folder:  # dict() would hold numpy scalars and enums
        path = Path(folder) / "snapshot.json"
        snapshot.save_json(str(path))
        found = json.loads(path.read_text(encoding="utf-8"))
    configs = [(metric["config"], metric["value"]) for metric in found["metrics"]]
    return {config["column"]: float(value) for config, value in configs if config["type"] == _METRIC}

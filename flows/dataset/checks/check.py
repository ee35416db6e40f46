"""A check is a condition on one column of a table; evidence is what the tables are made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from flows.dataset.layout import Dataset
from flows.dataset.manifest import Manifest
from flows.params_data import ValidateParams

Severity = Literal["stop", "warn"]
Row = dict[str, Any]


@dataclass(frozen=True)
class Check:
    """One condition: rows of `table` whose `column` fails `expectation(**arguments)` are the offenders.

    `expectation` names a class of great_expectations.expectations; missing values are not judged, except by an
    expectation about them. `message` turns an offending row into words; rows carry their `file` and `line`.
    """

    name: str
    title: str
    severity: Severity
    table: str
    column: str
    expectation: str
    message: Callable[[Row], str]
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """All that checks may ask."""

    dataset: Dataset
    manifest: Manifest
    params: ValidateParams

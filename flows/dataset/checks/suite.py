"""All families of checks together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.dataset.checks.basics import basic_checks, basic_tables
from flows.dataset.checks.check import Check, Evidence
from flows.params_data import ValidateParams

if TYPE_CHECKING:
    import pandas as pd


def dataset_checks(params: ValidateParams) -> tuple[Check, ...]:
    """All checks, in the order in which their reports are read."""
    return basic_checks(params)


def check_tables(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """The tables that the checks ask; each has `file` and `line`, where an offending row is to be found."""
    return basic_tables(evidence)

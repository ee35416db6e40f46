"""All families of checks together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.dataset.checks.balance import balance_checks, balance_tables
from flows.dataset.checks.check import Check, Evidence, with_severities
from flows.dataset.checks.frames import frames_checks, frames_tables
from flows.dataset.checks.geometry import geometry_checks, geometry_tables
from flows.dataset.checks.labels import labels_checks, labels_tables
from flows.dataset.checks.leakage import leakage_checks, leakage_tables
from flows.dataset.checks.listing import listing_checks, listing_tables
from flows.dataset.checks.review import review_checks, review_tables
from flows.params_data import ValidateParams

if TYPE_CHECKING:
    import pandas as pd

_CHECKS = (frames_checks, labels_checks, geometry_checks, balance_checks, leakage_checks, listing_checks, review_checks)
_TABLES = (frames_tables, labels_tables, geometry_tables, balance_tables, leakage_tables, listing_tables, review_tables)


def dataset_checks(params: ValidateParams) -> tuple[Check, ...]:
    """All checks, in the order in which their reports are read, with the severities that `params` give them.

    Raises:
        ParamsError: `params.severity` names a check that does not exist.
    """
    return with_severities([check for family in _CHECKS for check in family(params)], params.severity)


def check_tables(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """The tables that the checks ask; each has `file` and `line`, where an offending row is to be found."""
    return {name: table for family in _TABLES for name, table in family(evidence).items()}

"""All families of checks together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flows.dataset.checks.balance import balance_checks, balance_tables
from flows.dataset.checks.check import Check, Evidence, with_severities
from flows.dataset.checks.frames import frames_checks, frames_tables
from flows.dataset.checks.geometry import geometry_checks, geometry_tables
from flows.dataset.checks.labels import labels_checks, labels_tables
from flows.dataset.checks.leakage import leakage_checks, leakage_tables
from flows.dataset.checks.listing import listing_checks, listing_tables
from flows.dataset.checks.review import review_checks, review_tables
from flows.label_forms import BOXES, LabelForm
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


def checks_for(form: LabelForm, params: ValidateParams) -> tuple[Check, ...]:
    """The checks that mean something for labels of this form.

    Those of boxes judge the boxes around polygons, too. A class of a whole frame has no box to judge.

    Raises:
        ParamsError: `params.severity` names a check that does not exist.
    """
    checks = dataset_checks(params)
    if form.task == "classify":
        idle = {"empty_frames_plausible", *(check.name for check in geometry_checks(params))}
        checks = tuple(check for check in checks if check.name not in idle)
    if form == BOXES:
        return checks
    title = f"Every label line reads: {form.columns}"
    return tuple(replace(check, title=title) if check.name == "labels_parse" else check for check in checks)


def check_tables(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """The tables that the checks ask; each has `file` and `line`, where an offending row is to be found."""
    return {name: table for family in _TABLES for name, table in family(evidence).items()}

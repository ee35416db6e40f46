"""A check is a condition on one column of a table; evidence is what the tables are made from."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal

from flows.dataset.layout import Dataset
from flows.dataset.manifest.manifest import Manifest
from flows.errors import ParamsError
from flows.params_data import ValidateParams

if TYPE_CHECKING:
    import pandas as pd

    from flows.dataset.review.record import Review

Severity = Literal["stop", "warn"]
Row = dict[str, Any]
NULL, BETWEEN, LENGTHS, MATCHES = (
    "ExpectColumnValuesToBeNull",
    "ExpectColumnValuesToBeBetween",
    "ExpectColumnValueLengthsToBeBetween",
    "ExpectColumnValuesToMatchRegex",
)
_NOTES = "notes"


@dataclass(frozen=True)
class Check:
    """One condition: rows of `table` whose `column` fails `expectation(**arguments)` are the offenders.

    `expectation` names a class of great_expectations.expectations; missing values are not judged, except by an
    expectation about them. `message` turns an offending row into words; rows carry their `file` and `line`, and
    `image` where they are about one. `threshold` says which parameters decide, see `stated`. `worst` names the column
    by which offenders are ordered, largest first, or smallest first with a minus before it; empty: order of the table.
    """

    name: str
    title: str
    severity: Severity
    table: str
    column: str
    expectation: str
    message: Callable[[Row], str]
    arguments: dict[str, Any] = field(default_factory=dict)
    threshold: str = ""
    worst: str = ""


@dataclass(frozen=True)
class Evidence:
    """All that checks may ask; `review` is there when a reference model was asked about the labels."""

    dataset: Dataset
    manifest: Manifest
    params: ValidateParams
    review: Review | None = None


def told(column: str) -> Callable[[Row], str]:
    """The message of a check whose table holds the words already, in `column`."""
    return lambda row: str(row[column])


def stated(params: ValidateParams, *keys: str) -> str:
    """Thresholds as a person finds them in params.yaml: "validate.labels.min_box_px = 1.0"."""
    return ", ".join(f"validate.{key} = {reduce(getattr, key.split('.'), params)}" for key in keys)


def with_severities(checks: Iterable[Check], severities: Mapping[str, Severity]) -> tuple[Check, ...]:
    """The checks, with other severities where `severities` (params.yaml: validate.severity) names them.

    Raises:
        ParamsError: It names a check that does not exist; the message lists those that do.
    """
    given = tuple(checks)
    known = {check.name: check for check in given}
    assert len(known) == len(given), "two checks have the same name"
    for name in severities:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ParamsError(
                f"params.yaml: validate.severity names the check {name!r}, which does not exist{hint}",
                f"Known: {', '.join(sorted(known))}",
            )
    return tuple(replace(check, severity=severities.get(check.name, check.severity)) for check in known.values())


def add_note(table: pd.DataFrame, check: str, note: str) -> None:
    """Say beside the result of `check`, which asks `table`, what a reader must know: what was not judged, and why."""
    table.attrs.setdefault(_NOTES, {})[check] = note


def note_of(table: pd.DataFrame, check: str) -> str:
    """What `add_note` said about `check`, or nothing."""
    return str(table.attrs.get(_NOTES, {}).get(check, ""))


def root_name(dataset: Dataset) -> str:
    """How the folder of the dataset is named to people; files are shown as this name, a slash and their path."""
    return dataset.root.resolve().name

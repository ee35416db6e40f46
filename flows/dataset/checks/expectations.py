"""The checks as a Great Expectations suite: run, written as Data Docs, and told as results with file and line."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from flows.dataset.checks.check import Check, Evidence, Row, Severity, note_of
from flows.dataset.checks.suite import check_tables, checks_for
from flows.dataset.layout import Dataset
from flows.dataset.manifest.manifest import Manifest
from flows.dataset.replacing import replaced_folder
from flows.params_data import ValidateParams

if TYPE_CHECKING:
    import pandas as pd

    from flows.dataset.review.record import Review

_SITE = "data_docs"
_RESULTS = {
    "result_format": "COMPLETE",
    "return_unexpected_index_query": False,  # all failing rows listed once more
}


class Offender(BaseModel):
    """One thing that fails a check, and where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(description="file, relative to the folder that holds the dataset")
    line: int = Field(description="line in that file; 0: the whole file")
    message: str = Field(description="what is wrong")
    image: str = Field(
        default="", description="image that it is about, relative to the dataset; empty: none in particular"
    )
    partner: str = Field(default="", description="image that it is compared with, relative to the dataset; empty: none")

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.message}"


class CheckResult(BaseModel):
    """What became of one check."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="short name of the check")
    title: str = Field(description="what must hold, as a sentence")
    severity: Severity = Field(description="stop: a failure ends the train; warn: it is only told")
    threshold: str = Field(default="", description="the parameters that decide, with their values")
    note: str = Field(default="", description="what could not be judged, and why")
    passed: bool = Field(description="nothing fails the check")
    num_checked: int = Field(description="files, lines, boxes or pairs that were looked at")
    num_failed: int = Field(description="how many of them fail")
    offenders: tuple[Offender, ...] = Field(description="the worst of those that fail")


def run_expectations(
    dataset: Dataset,
    manifest: Manifest,
    params: ValidateParams,
    docs_dir: Path | None = None,
    review: Review | None = None,
) -> tuple[CheckResult, ...]:
    """Run all checks; write Data Docs into `docs_dir` (index.html), if given, replacing the ones that lie there.

    Checks of what a reference model says run only with a `review`: without one their tables do not exist.

    Raises:
        ParamsError: `params.severity` names a check that does not exist.
        RuntimeError: Great Expectations could not compute an expectation: a fault of the program, not of the data.
    """
    tables = check_tables(Evidence(dataset, manifest, params, review))
    checks = [check for check in checks_for(dataset.form, params) if check.table in tables]
    with replaced_folder(docs_dir) if docs_dir else nullcontext() as fresh, _quiet():
        outcomes = _run_suites(checks, tables, fresh)
    return tuple(
        _result(check, tables[check.table], outcomes[check.name], params.max_warnings_listed) for check in checks
    )


def _run_suites(
    checks: Sequence[Check], tables: Mapping[str, pd.DataFrame], docs_dir: Path | None
) -> dict[str, dict[str, Any]]:
    """One suite and one checkpoint per table; the raw result of each check by its name."""
    import great_expectations as gx
    from great_expectations.checkpoint.actions import UpdateDataDocsAction

    context = _context(docs_dir)
    source = context.data_sources.add_pandas("manifest")
    outcomes: dict[str, dict[str, Any]] = {}
    for name, table in tables.items():
        suite = gx.ExpectationSuite(
            name=name, expectations=[_expectation(check) for check in checks if check.table == name]
        )
        definition = gx.ValidationDefinition(
            name=name,
            data=source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all"),
            suite=context.suites.add(suite),
        )
        checkpoint = gx.Checkpoint(
            name=name,
            validation_definitions=[context.validation_definitions.add(definition)],
            actions=[UpdateDataDocsAction(name="write", site_names=[_SITE])] if docs_dir else [],
            result_format=_RESULTS,
        )
        run = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": _indexed(table)})
        for validation in run.run_results.values():
            outcomes |= {item.expectation_config.meta["check"]: _outcome(item) for item in validation.results}
    return outcomes


def _indexed(table: pd.DataFrame) -> pd.DataFrame:
    """The table with "POSITION: FILE:LINE" as index, which is what Data Docs show of rows that fail."""
    columns = zip(table["file"], table["line"], strict=True)
    return table.set_axis(
        [f"{at}: {file}" + (f":{line}" if line else "") for at, (file, line) in enumerate(columns)], axis="index"
    )


def _position(index: str) -> int:
    return int(index.partition(":")[0])


def _context(docs_dir: Path | None) -> Any:
    """A context that lives in memory, reports to nobody and has at most one site, in `docs_dir`."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        data_docs_sites={_SITE: _site(docs_dir)} if docs_dir else {},
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def _site(docs_dir: Path) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs_dir.resolve())},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }


def _expectation(check: Check) -> Any:
    from great_expectations import expectations

    return getattr(expectations, check.expectation)(
        column=check.column,
        severity={"stop": "critical", "warn": "warning"}[check.severity],
        description=_description(check),
        meta={"check": check.name},
        **check.arguments,
    )


def _description(check: Check) -> str:
    """What Data Docs show for the check, instead of what its expectation would say of itself."""
    threshold = f", threshold {check.threshold}" if check.threshold else ""
    return f"{check.title} ({check.name}: {check.severity}{threshold})"


def _outcome(item: Any) -> dict[str, Any]:
    if item.exception_info.get("raised_exception"):
        check, reason = item.expectation_config.meta["check"], item.exception_info.get("exception_message")
        raise RuntimeError(f"the check {check} could not be computed: {reason}")
    return {"success": bool(item.success), **item.result}


def _result(check: Check, table: pd.DataFrame, outcome: Mapping[str, Any], max_offenders: int) -> CheckResult:
    judges_missing = "missing_count" not in outcome
    failing = table.iloc[[_position(where) for where in outcome.get("unexpected_index_list") or []]]
    return CheckResult(
        name=check.name,
        title=check.title,
        severity=check.severity,
        threshold=check.threshold,
        note=note_of(table, check.name),
        passed=outcome["success"],
        num_checked=outcome["element_count"] - (0 if judges_missing else outcome["missing_count"]),
        num_failed=outcome["unexpected_count"],
        offenders=_offenders(check, failing, max_offenders),
    )


def _offenders(check: Check, failing: pd.DataFrame, max_offenders: int) -> tuple[Offender, ...]:
    if check.worst:
        column, smallest_first = check.worst.removeprefix("-"), check.worst.startswith("-")
        failing = failing.sort_values(column, ascending=smallest_first, kind="stable")
    return tuple(_offender(check, row) for row in _rows(failing.head(max_offenders)))


def _offender(check: Check, row: Row) -> Offender:
    return Offender(
        file=str(row["file"]),
        line=int(row["line"]),
        message=check.message(row),
        image=_image(row, "image"),
        partner=_image(row, "partner"),
    )


def _rows(table: pd.DataFrame) -> list[Row]:
    return [dict(zip(table.columns, values, strict=True)) for values in table.itertuples(index=False, name=None)]


def _image(row: Row, column: str) -> str:
    image = row.get(column, "")
    return image if isinstance(image, str) else ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Great Expectations logs and warns about itself; none of that concerns the data."""
    logger = logging.getLogger("great_expectations")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

"""The checks as a Great Expectations suite: run, written as Data Docs, and told as results with file and line."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from flows.dataset.checks.check import Check, Evidence, Severity
from flows.dataset.checks.suite import check_tables, dataset_checks
from flows.dataset.layout import Dataset
from flows.dataset.manifest import Manifest
from flows.dataset.replacing import replaced_folder
from flows.params_data import ValidateParams

if TYPE_CHECKING:
    import pandas as pd

_SITE = "data_docs"


class Offender(BaseModel):
    """One thing that fails a check, and where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(description="file, relative to the folder that holds the dataset")
    line: int = Field(description="line in that file; 0: the whole file")
    message: str = Field(description="what is wrong")

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.message}"


class CheckResult(BaseModel):
    """What became of one check."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="short name of the check")
    title: str = Field(description="what must hold, as a sentence")
    severity: Severity = Field(description="stop: a failure ends the train; warn: it is only told")
    passed: bool = Field(description="nothing fails the check")
    num_checked: int = Field(description="files, lines, boxes or pairs that were looked at")
    num_failed: int = Field(description="how many of them fail")
    offenders: tuple[Offender, ...] = Field(description="the first of those that fail")


def run_expectations(
    dataset: Dataset, manifest: Manifest, params: ValidateParams, docs_dir: Path | None = None
) -> tuple[CheckResult, ...]:
    """Run all checks; write Data Docs into `docs_dir` (index.html), if given, replacing the ones that lie there.

    Raises:
        RuntimeError: Great Expectations could not compute an expectation: a fault of the program, not of the data.
    """
    checks, tables = dataset_checks(params), check_tables(Evidence(dataset, manifest, params))
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
            result_format={"result_format": "COMPLETE"},
        )
        run = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": table})
        for validation in run.run_results.values():
            outcomes |= {item.expectation_config.meta["check"]: _outcome(item) for item in validation.results}
    return outcomes


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
        notes=check.title,
        meta={"check": check.name},
        **check.arguments,
    )


def _outcome(item: Any) -> dict[str, Any]:
    if item.exception_info.get("raised_exception"):
        check, reason = item.expectation_config.meta["check"], item.exception_info.get("exception_message")
        raise RuntimeError(f"the check {check} could not be computed: {reason}")
    return {"success": bool(item.success), **item.result}


def _result(check: Check, table: pd.DataFrame, outcome: Mapping[str, Any], max_offenders: int) -> CheckResult:
    judges_missing = "missing_count" not in outcome
    failing = table.loc[list(outcome.get("unexpected_index_list") or [])]
    offenders = tuple(
        Offender(file=str(row["file"]), line=int(row["line"]), message=check.message(dict(row)))
        for _, row in failing.head(max_offenders).iterrows()
    )
    return CheckResult(
        name=check.name,
        title=check.title,
        severity=check.severity,
        passed=outcome["success"],
        num_checked=outcome["element_count"] - (0 if judges_missing else outcome["missing_count"]),
        num_failed=outcome["unexpected_count"],
        offenders=offenders,
    )


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

"""A study looked at from the shell: its trials as a table, and the best values as a change of params.yaml."""

from __future__ import annotations

import difflib
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows.errors import InputError, ProjectError
from flows.params_file import apply_overrides, read_params
from flows.settings import Project
from flows.training.search.report import TrialRow, TuneReport, trial_cells, trial_headers
from flows.tuning.study import current_study


@dataclass(frozen=True)
class Change:
    """What a trial's values would change in params.yaml: a unified diff, empty where nothing."""

    trial: TrialRow
    overrides: tuple[str, ...]
    diff: str
    notes: tuple[str, ...]


def read_study(project: Project) -> TuneReport:
    """The study of this project as it is now. Raises ProjectError where there is none of these data and this space."""
    return current_study(project, read_params(project.params_file)).report()


def propose(project: Project, number: int | None = None) -> Change:
    """The change of params.yaml that takes over the best trial, or trial `number`.

    Raises:
        ProjectError: There is no study of these data, this start and this space, or no trial is complete.
        InputError: Trial `number` is none that came to its end.
    """
    report = read_study(project)
    trial = _find(report, number)
    overrides = tuple(f"train.{key}={_yaml(value)}" for key, value in trial.params.items())
    epochs, tried = read_params(project.params_file).train.epochs, report.facts["epochs"]
    notes = [f"found with {tried} epochs a trial; train.epochs is {epochs}"] if epochs != tried else []
    if len(report.front) > 1 and number is None:
        others = ", ".join(map(str, report.front[1:]))
        notes.append(f"the most accurate of the front; others of it: --trial {others}")
    return Change(trial, overrides, _diff(project.params_file, overrides), tuple(notes))


def take_over(project: Project, change: Change) -> None:
    """Write the change into params.yaml; comments stay."""
    apply_overrides(project.params_file, change.overrides)


def trials_table(report: TuneReport) -> str:
    """A line for each attempt, the keys of the space as columns."""
    rows = [[*trial_headers(report), ""], *(_cells(row, report) for row in report.trials)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    done = f"study {report.study}: {report.num_trials} of {report.num_wanted} trials; {report.sentence}"
    return "\n".join([*lines, "", done])


def _cells(row: TrialRow, report: TuneReport) -> list[str]:
    mark = "best" if row.number == report.best_number else "front" if row.number in report.front else ""
    again = f"again {row.origin}" if row.origin != row.number else ""
    return [*trial_cells(row, report), "; ".join(filter(None, [mark, again, row.reason or ""]))]


def _find(report: TuneReport, number: int | None) -> TrialRow:
    if number is None:
        if report.best_number is None:
            raise ProjectError(f"study {report.study} has no complete trial yet", "Run: tca tune")
        number = report.best_number
    row = report.row(number)
    if row is None or row.state != "complete":
        state = "does not exist" if row is None else f"is {row.state}"
        complete = ", ".join(str(one.number) for one in report.trials if one.state == "complete")
        raise InputError(f"trial {number} of study {report.study} {state}", f"Complete are: {complete or 'none'}")
    return row


def _yaml(value: Any) -> str:
    """A value on one line. Not JSON: its 1e-05 is a string in YAML 1.1, which wants 1.0e-05."""
    return yaml.safe_dump(value, allow_unicode=True, width=sys.maxsize).removesuffix("...\n").strip()


def _diff(params_file: Path, overrides: tuple[str, ...]) -> str:
    """What `apply_overrides` would do to the file."""
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / params_file.name
        shutil.copyfile(params_file, draft)
        apply_overrides(draft, overrides)
        before, after = (path.read_text(encoding="utf-8").splitlines(keepends=True) for path in (params_file, draft))
    name = params_file.name
    return "".join(difflib.unified_diff(before, after, f"a/{name}", f"b/{name}"))

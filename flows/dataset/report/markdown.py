"""A validation in a few lines of Markdown: verdict, what failed with its first offenders, how many checks passed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.dataset.checks.expectations import CheckResult

if TYPE_CHECKING:
    from flows.dataset.report.validation import ValidationReport

_OFFENDERS_EACH, _CHECKS_DETAILED, _LONGEST = 3, 12, 300
_SPECIAL = str.maketrans({letter: f"\\{letter}" for letter in "\\`*_[]|#~"} | {"<": "&lt;", "\n": " ", "\r": " "})


def validation_markdown(report: ValidationReport, where: str) -> str:
    """The report as Markdown, a few kB however much failed; `where` says where the whole page is, as Markdown."""
    failed = sorted((check for check in report.checks if not check.passed), key=lambda check: check.severity != "stop")
    rows = [f"| {_state(one)} | {_plain(one.title)} | {one.num_failed:,} | {one.num_checked:,} |" for one in failed]
    table = ["| | check | failing | looked at |", "|---|---|---:|---:|", *rows] if rows else []
    parts = [
        f"**{'passed' if report.passed else 'refused'}**: {_plain(report.sentence)}",
        f"{report.num_checks_passed} checks passed, {len(failed)} did not. {where}",
        "\n".join(table),
        *(_offenders(check) for check in failed[:_CHECKS_DETAILED] if check.offenders),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _offenders(check: CheckResult) -> str:
    shown = check.offenders[:_OFFENDERS_EACH]
    lines = [f"- {_plain(str(offender))}" for offender in shown]
    if check.num_failed > len(shown):
        lines.append(f"- and {check.num_failed - len(shown):,} more")
    return f"**{_plain(check.title)}**\n\n" + "\n".join(lines)


def _state(check: CheckResult) -> str:
    return {"stop": "✗ failed", "warn": "! warning"}[check.severity]


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is: names of files may hold anything."""
    short = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return short.translate(_SPECIAL).encode(errors="replace").decode()

"""Promotions after their start: listing, reading and verifying their records, resuming and aborting the open one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.errors import ProjectError
from flows.rollout.controller import abort_promotion, resume_promotion
from flows.rollout.journal import latest_promotions, open_journal
from flows.rollout.record import Verification, read_record, verify_record
from flows.rollout.report import PromotionReport
from flows.services import ensure_router
from flows.serving import registry_of, traffic_of
from flows.settings import Project, read_settings


def keep_report(project: Project, report: PromotionReport) -> None:
    """Keep the report beside the record of its promotion."""
    (project.records / f"{report.promotion}.json").write_text(report.model_dump_json(indent=1), encoding="utf-8")


def list_promotions(project: Project) -> list[dict[str, Any]]:
    """All promotions, newest first."""
    return latest_promotions(project.journal, limit=10_000)


def timeline(project: Project, number: int) -> str:
    """What happened, a line each: states, effects and the verdicts that decided."""
    lines = read_record(_record(project, number))
    shown = [line for line in lines if line["kind"] in ("opened", "state", "effect", "closed", "held")]
    return "\n".join(f"{line['at']}  {line['state']:<14} {line['sentence']}" for line in shown)


def verify_promotion(project: Project, number: int) -> Verification:
    """Check a record's chain and recompute its verdicts. Raises ProjectError when there is no such record."""
    return verify_record(_record(project, number))


def resume_open(project: Project, number: int) -> PromotionReport:
    """Go on with promotion `number`. Raises ProjectError when it is not the open one."""
    settings, registry = read_settings(project), registry_of(project)
    with open_journal(project.journal) as journal:
        _require_open(journal.open_entry(), number)
        ensure_router(project, settings)
        report = resume_promotion(journal, traffic_of(project, settings, registry), registry, project.records)
    keep_report(project, report)
    return report


def abort_open(project: Project, number: int, reason: str) -> PromotionReport | None:
    """Give promotion `number` up; None when a live controller will do it. Raises ProjectError when it is not open."""
    settings, registry = read_settings(project), registry_of(project)
    with open_journal(project.journal) as journal:
        _require_open(journal.open_entry(), number)
        ensure_router(project, settings)
        traffic = traffic_of(project, settings, registry)
        report = abort_promotion(journal, traffic, registry, project.records, reason)
    if report is not None:
        keep_report(project, report)
    return report


def _require_open(entry: Any, number: int) -> None:
    if entry is None or entry.id != number:
        state = "no promotion is open" if entry is None else f"the open one is promotion {entry.id}"
        raise ProjectError(f"promotion {number} is not open: {state}", "See: tca promotion list")


def _record(project: Project, number: int) -> Path:
    path = project.records / f"{number}.jsonl"
    if not path.exists():
        raise ProjectError(f"there is no record of promotion {number}", "See: tca promotion list")
    return path

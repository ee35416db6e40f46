"""Promotions while they run and after: listing and watching them, holding, resuming and aborting the open one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from flows.approving import Questions, require_open
from flows.console import Console, Step
from flows.errors import ProjectError
from flows.page import write_page
from flows.promotion_records import write_promotion_page
from flows.rollout.chain import one_line
from flows.rollout.controller import abort_promotion, hold_promotion, report_closed, resume_promotion
from flows.rollout.journal import Journal, latest_promotions, open_journal
from flows.rollout.record import read_record
from flows.rollout.report import OnEvent, PromotionReport, RolloutEvent
from flows.rollout.traffic import Registry, Traffic
from flows.serving import ensure_traffic, registry_of, traffic_of
from flows.settings import Project, read_settings

Work = Callable[[Journal, Traffic, Registry], PromotionReport | None]

_NO_REASON = "no reason given"


def keep_report(project: Project, report: PromotionReport) -> None:
    """Keep report and page beside the record of the promotion; a damaged record has no page."""
    write_page(project.records / f"{report.promotion}.json", report.model_dump_json(indent=1))
    with contextlib.suppress(ProjectError):
        write_promotion_page(project, report.promotion)


def report_of(project: Project, promotion: int) -> PromotionReport | None:
    """How a closed promotion ended; None when it left neither report nor record.

    Raises:
        ProjectError: There is no report, and the record is damaged.
    """
    kept = project.records / f"{promotion}.json"
    with contextlib.suppress(OSError, ValueError):  # missing, or damaged
        return PromotionReport.model_validate_json(kept.read_bytes())
    if not kept.with_suffix(".jsonl").is_file():
        return None
    with open_journal(project.journal) as journal:
        report = report_closed(journal, promotion, project.records)
    keep_report(project, report)
    return report


def note_of(project: Project, promotion: int) -> str:
    """What its record notes from the beginning, such as that it was a drill; "" when there is none."""
    with contextlib.suppress(ProjectError, IndexError):
        return str(read_record(project.records / f"{promotion}.jsonl")[0].get("note", ""))
    return ""


def list_promotions(project: Project) -> list[dict[str, Any]]:
    """All promotions, newest first."""
    return latest_promotions(project.journal, limit=10_000)


def resume_open(project: Project, number: int | None) -> PromotionReport:
    """Go on with promotion `number`, or the open one. Raises ProjectError when it is not open."""
    with Console().step("promote") as shown, watched(project, shown) as on_event, interrupted_by_sigterm():
        report = _on_open(
            project,
            number,
            lambda journal, traffic, registry: resume_promotion(
                journal, traffic, registry, project.records, on_event, lifts_hold=True
            ),
        )
        assert report is not None  # whoever resumes holds the lease, or raises
        shown.done(report.sentence)
    return report


def abort_open(project: Project, number: int | None, reason: str) -> PromotionReport | None:
    """Give promotion `number`, or the open one, up; None when a live controller will do it.

    Raises:
        ProjectError: It is not open.
    """
    return _on_open(
        project,
        number,
        lambda journal, traffic, registry: abort_promotion(
            journal, traffic, registry, project.records, one_line(reason) or _NO_REASON
        ),
    )


def hold_open(project: Project, number: int | None, reason: str) -> PromotionReport | None:
    """Hold promotion `number`, or the open one, until somebody resumes it; None when a live controller will do it.

    Raises:
        ProjectError: It is not open.
    """
    return _on_open(
        project,
        number,
        lambda journal, traffic, registry: hold_promotion(
            journal, traffic, registry, project.records, one_line(reason) or _NO_REASON
        ),
    )


@contextmanager
def watched(
    project: Project, shown: Step, progress: Callable[[int, int, str], None] | None = None
) -> Iterator[OnEvent]:
    """Show where a promotion is, each change of state as a line of its own; and ask people where they must agree."""
    states: list[str] = []
    questions, advance = Questions(project, shown.milestone), progress or shown.progress

    def on_event(event: RolloutEvent) -> None:
        if states[-1:] != [event.state]:
            states.append(event.state)
            share = f" at {event.share:.0%} of cameras" if event.share else ""
            # The first clause says why; the record has the figures behind it.
            shown.milestone(f"{event.state}{share}  {event.text.partition(';')[0]}".rstrip())
        waits = ", waits for an answer" if event.awaits else ""
        advance(event.num, event.num_needed, f"{event.state} {event.num}/{event.num_needed} frames{waits}")
        questions.heed(event)

    try:
        yield on_event
    finally:
        questions.close()


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that users get the champion before the controller goes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _on_open(
    project: Project, number: int | None, work: Callable[..., PromotionReport | None]
) -> PromotionReport | None:
    settings, registry = read_settings(project), registry_of(project)
    with open_journal(project.journal) as journal:
        require_open(journal.open_entry(), number)
        ensure_traffic(project, settings)
        report = work(journal, traffic_of(project, settings, registry), registry)
    if report is not None:
        keep_report(project, report)
    return report

"""What a promotion has left: its timeline, its page, and whether its record holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flows.approving import approval_key
from flows.errors import ProjectError
from flows.page import write_page
from flows.rollout.journal import latest_promotions, open_journal
from flows.rollout.page import TOLD, deciding_verdicts, promotion_page
from flows.rollout.record import JournalView, Verification, read_record, replay_record, verify_record
from flows.rollout.report import PromotionReport
from flows.rollout.summary import frames_judged
from flows.rollout.tokens import check_token
from flows.settings import Project


def newest_number(project: Project) -> int:
    """The number of the last promotion. Raises ProjectError when there was none."""
    last = latest_promotions(project.journal, limit=1)
    if not last:
        raise ProjectError("there has been no promotion yet", "Begin one: tca promote")
    return int(last[0]["id"])


def timeline(project: Project, number: int) -> str:
    """What happened, a line each: states, effects, people's answers, and the verdicts that decided with all reasons."""
    lines = read_record(_record(project, number))
    decided = {line["n"] for line in deciding_verdicts(lines)}
    told = []
    for line in lines:
        if line["kind"] in TOLD:
            told.append(f"{line['at']}  {line['state']:<14} {line['sentence']}")
        elif line["n"] in decided:
            verdict = line["verdict"]
            told.append(f"{line['at']}  {line['state']:<14} verdict: {verdict['decision']}")
            told += [f"{'':<{len(line['at']) + 17}} - {reason}" for reason in verdict["reasons"]]
    return "\n".join(told)


def write_promotion_page(project: Project, number: int) -> Path:
    """Write reports/promotions/<number>.html from the record.

    Raises:
        ProjectError: There is no record, or it is damaged.
    """
    return write_page_of(_record(project, number))


def write_page_of(record: Path) -> Path:
    """Write the page of `record` beside it. Raises ProjectError when the record is damaged."""
    number = int(record.stem)
    try:
        text = promotion_page(number, read_record(record))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        remedy = f"See what does not hold: tca promotion verify {number}"
        raise ProjectError(f"the record of promotion {number} is damaged: {error}", remedy) from None
    page = record.with_suffix(".html")
    write_page(page, text)
    return page


def verify_promotion(project: Project, number: int) -> Verification:
    """Check a record against itself, journal, report and key. Raises ProjectError when there is no such record."""
    record = _record(project, number)
    journal = _view_of_journal(project, number)  # before the record, which may grow meanwhile
    key = approval_key()
    found = verify_record(record, journal, (lambda *token: check_token(token[0], key, *token[1:])) if key else None)
    if found.passed and (problem := _compare_with_report(record)):
        return replace(found, problem=problem)
    return found


def _view_of_journal(project: Project, number: int) -> JournalView | None:
    if not project.journal.is_file():
        return None
    with open_journal(project.journal) as journal:
        try:
            entry = journal.read(number)
        except ProjectError:
            return None
        return JournalView(
            entry=entry,
            transitions=tuple(
                (position.state.value, position.step, event, reason)
                for position, event, reason, _ in journal.transitions(number)
            ),
            effects=frozenset(journal.effects(number)),
            approvals=tuple(journal.approvals(number)),
        )


def _compare_with_report(record: Path) -> str | None:
    """What the report beside a record says otherwise, if anything."""
    path, lines = record.with_suffix(".json"), read_record(record)
    if not path.is_file():
        return None
    try:
        report = PromotionReport.model_validate_json(path.read_bytes())
    except ValueError:
        return f"{path.name} is not the report of a promotion"
    endings = [line["sentence"] for line in lines if line["kind"] in ("held", "closed")]
    if report.sentence in endings[:-1] and report.sentence != endings[-1]:
        return None  # of an earlier hold: whoever went on was killed before a newer one was written
    opened, evidence = lines[0], replay_record(record).evidence
    recorded = {
        "sentence": endings[-1] if endings else None,
        "challenger_version": opened["challenger"][0],
        "challenger_digest": opened["challenger"][1],
        "champion_version": opened["champion"][0] if opened["champion"] else None,
        "frames_seen": evidence.frames,
        "frames_judged": frames_judged(evidence),
        "fallbacks": evidence.fallbacks,
        "lost": evidence.lost,
    }
    for name, value in recorded.items():
        if getattr(report, name) != value:
            return f"the report {path.name} says {name} {getattr(report, name)}, by the record it is {value}"
    return None


def _record(project: Project, number: int) -> Path:
    path = project.records / f"{number}.jsonl"
    if not path.exists():
        raise ProjectError(f"there is no record of promotion {number}", "See: tca promotion list")
    return path

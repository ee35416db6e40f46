"""Promote: the challenger comes to the throne under live traffic, on evidence, or is sent away by it."""

from __future__ import annotations

from flows.adapters.registry import CHALLENGER, ModelVersion, Registry
from flows.early import refuse_task
from flows.errors import ProjectError
from flows.promotions import keep_report
from flows.rollout.controller import resume_promotion, run_promotion
from flows.rollout.journal import latest_promotions, open_journal
from flows.rollout.report import OnEvent, PromotionReport, RolloutEvent
from flows.services import ensure_router
from flows.serving import traffic_of
from flows.settings import Project
from flows.stage import StageRun, main, stage


@stage(gate="stop", tracked=False)
def promote(run: StageRun, drill: str = "") -> PromotionReport:
    """Stage, shadow, canary, bake; what was judged before is not judged again unless forced."""
    refuse_task("promote", run.params)
    registry, project = run.registry(), run.project
    challenger = run.step(find_challenger, retries=2)(registry)
    if not run.force and (before := judged_before(project, registry, challenger)) is not None:
        return before
    run.step(ensure_router)(project, run.settings)
    traffic = traffic_of(project, run.settings, registry, {challenger.version: drill} if drill else {})
    with open_journal(project.journal) as journal:
        entry = journal.open_entry()
        # A promotion that was broken off may have moved the alias and not yet the pointer.
        champion = registry.champion() if entry else registry.reigning()
        if champion and (entry is None or entry.champion == (champion.version, champion.digest)):
            traffic.ensure_champion(champion.version, champion.digest)
        records, watch = project.records, watched(run)
        if entry is not None and entry.challenger == (challenger.version, challenger.digest):
            report = run.step(resume_promotion)(journal, traffic, registry, records, watch)
        else:
            report = run.step(run_promotion)(
                journal, traffic, registry, challenger, champion, run.params.promote, records, watch
            )
    keep_report(project, report)
    run.table([one.model_dump() for one in report.evidence])
    return report


def find_challenger(registry: Registry) -> ModelVersion:
    """The registered challenger. Raises ProjectError when there is none."""
    challenger = registry.by_alias(CHALLENGER)
    if challenger is None:
        raise ProjectError("there is no challenger to promote", "Make one: tca package, or all at once: tca release")
    return challenger


def judged_before(project: Project, registry: Registry, challenger: ModelVersion) -> PromotionReport | None:
    """How the last closed promotion of this very model ended, if there was one."""
    last = latest_promotions(project.journal, limit=1000)
    if any(not one["closed"] for one in last):
        return None
    for one in last:
        kept = project.records / f"{one['id']}.json"
        if one["challenger_digest"] == challenger.digest and kept.exists():
            return _as_of_now(PromotionReport.model_validate_json(kept.read_text(encoding="utf-8")), registry)
    return None


def watched(run: StageRun) -> OnEvent:
    """Show where the promotion is, and each change of state as a line of its own."""
    states: list[str] = []

    def on_event(event: RolloutEvent) -> None:
        if states[-1:] != [event.state]:
            states.append(event.state)
            share = f" at {event.share:.0%} of cameras" if event.share else ""
            # The first clause says why; the record has the figures behind it.
            run.shown.milestone(f"{event.state}{share}  {event.text.partition(';')[0]}".rstrip())
        run.progress(event.num, event.num_needed, f"{event.state} {event.num}/{event.num_needed} frames")

    return on_event


def _as_of_now(report: PromotionReport, registry: Registry) -> PromotionReport:
    if not report.passed:
        return report
    version, promotion = report.challenger_version, report.promotion
    champion = registry.champion()
    if champion is not None and champion.digest == report.challenger_digest:
        sentence = f"version {version} reigns since promotion {promotion}, and there is no newer challenger"
        return report.model_copy(update={"sentence": sentence})
    again = "to judge it again: tca promote --force"
    sentence = f"version {version} was promoted by promotion {promotion} and has been taken back since; {again}"
    return report.model_copy(update={"passed": False, "sentence": sentence})


if __name__ == "__main__":
    main(promote)

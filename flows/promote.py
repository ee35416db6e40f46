"""Promote: the challenger comes to the throne under live traffic, on evidence, or is sent away by it."""

from __future__ import annotations

from bentos.router.routing import Snapshot
from flows.adapters.registry import CHALLENGER, ModelVersion, Registry
from flows.early import refuse_task
from flows.errors import ProjectError
from flows.promotions import interrupted_by_sigterm, keep_report, note_of, report_of, watched
from flows.rollout.controller import resume_promotion, run_promotion
from flows.rollout.journal import Entry, latest_promotions, open_journal
from flows.rollout.report import PromotionReport
from flows.serving import ensure_traffic, traffic_of
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
    run.step(ensure_traffic)(project, run.settings)
    traffic = traffic_of(project, run.settings, registry, {challenger.version: drill} if drill else {})
    note = f"in a drill: {drill}" if drill else ""
    with (
        open_journal(project.journal) as journal,
        watched(project, run.shown, run.progress) as on_event,
        interrupted_by_sigterm(),
    ):
        entry = journal.open_entry()
        # A promotion that was broken off may have moved the alias and not yet the pointer.
        champion = registry.champion() if entry else registry.reigning()
        if champion and needs_champion(entry, champion, traffic.routing()):
            traffic.ensure_champion(champion.version, champion.digest)
        if entry is not None and entry.challenger == (challenger.version, challenger.digest):
            report = run.step(resume_promotion)(journal, traffic, registry, project.records, on_event, note=note)
        else:
            report = run.step(run_promotion)(
                *(journal, traffic, registry, challenger, champion, run.params.promote, project.records, on_event),
                note=note,
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


def needs_champion(entry: Entry | None, champion: ModelVersion, routed: Snapshot) -> bool:
    """Whether the champion must be seen to before the controller starts, which sees to it in an open promotion.

    Where the challenger stands in for a champion that is down, it goes on doing so until the champion is ready.
    """
    if entry is None:
        return True
    stands_in = routed.champion is not None and routed.champion.version == entry.challenger[0]
    return entry.champion == (champion.version, champion.digest) and not stands_in


def judged_before(project: Project, registry: Registry, challenger: ModelVersion) -> PromotionReport | None:
    """How the last closed promotion of this very model ended, if there was one."""
    last = latest_promotions(project.journal, limit=1000)
    if any(not one["closed"] for one in last):
        return None
    for one in last:
        if one["challenger_digest"] == challenger.digest and (report := report_of(project, one["id"])) is not None:
            note = note_of(project, report.promotion)
            return _as_of_now(report, registry, f"{report.sentence} ({note})" if note else report.sentence)
    return None


def _as_of_now(report: PromotionReport, registry: Registry, sentence: str) -> PromotionReport:
    version, promotion, again = report.challenger_version, report.promotion, "to judge it again: tca promote --force"
    if not report.passed:
        return report.model_copy(update={"sentence": f"{sentence}; {again}"})
    champion = registry.champion()
    if champion is not None and champion.digest == report.challenger_digest:
        sentence = f"version {version} reigns since promotion {promotion}, and there is no newer challenger"
        return report.model_copy(update={"sentence": sentence})
    sentence = f"version {version} was promoted by promotion {promotion} and has been taken back since; {again}"
    return report.model_copy(update={"passed": False, "sentence": sentence})


if __name__ == "__main__":
    main(promote)

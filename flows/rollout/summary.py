"""From a finished or held promotion to its report."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

from flows.params import PromoteParams
from flows.rollout.approvals import UNANSWERED, gate_of
from flows.rollout.evidence import Evidence, Figure, error_certificate, harm_figures
from flows.rollout.journal import Entry, Journal
from flows.rollout.latencies import Latencies
from flows.rollout.report import EvidenceFigure, Outcome, Percentiles, PromotionReport, StatePassed
from flows.rollout.states import Event, Route, State


def summarise(
    journal: Journal, promotion: int, evidence: Evidence, params: PromoteParams, now: float
) -> PromotionReport:
    """The report of a promotion that is closed or held."""
    entry = journal.read(promotion)
    outcome = _outcome(journal, entry)
    return PromotionReport(
        passed=outcome == "promoted",
        sentence=_sentence(journal, entry, outcome, evidence),
        outcome=outcome,
        promotion=promotion,
        challenger_version=entry.challenger[0],
        challenger_digest=entry.challenger[1],
        champion_version=entry.champion[0] if entry.champion else None,
        states=tuple(_states(journal, promotion, entry.closed_at or now)),
        frames_seen=evidence.frames,
        frames_judged=frames_judged(evidence),
        fallbacks=evidence.fallbacks,
        lost=evidence.lost,
        latency_ms=_percentiles(evidence.latencies),
        champion_latency_ms=_percentiles(evidence.champion_latencies),
        evidence=evidence_figures((*harm_figures(evidence, params), error_certificate(evidence, params))),
        awaits_approval=_awaited(entry, params),
    )


def evidence_figures(figures: Iterable[Figure]) -> tuple[EvidenceFigure, ...]:
    """E-values for people, instead of their logarithms."""
    return tuple(
        EvidenceFigure(
            metric=figure.metric,
            num=figure.num,
            value=figure.value,
            limit=figure.limit,
            e_value=float(f"{figure.e_value:.6g}"),
            e_needed=float(f"{math.exp(figure.needed_ln_e):.6g}"),
        )
        for figure in figures
    )


def _outcome(journal: Journal, entry: Entry) -> Outcome:
    if entry.position.state is State.DONE:
        return "promoted"
    if entry.position.state is State.HOLD:
        return "held"
    events = [event for _, event, _, _ in journal.transitions(entry.id)]
    return "aborted" if Event.ABORT in events else "rolled_back"


def _awaited(entry: Entry, params: PromoteParams) -> Literal["canary", "promoting"] | None:
    held = entry.position.held_from
    if held is None or not entry.sentence.startswith(UNANSWERED):
        return None
    gate = gate_of(Route(len(params.canary_steps), entry.champion is not None), params)
    return "canary" if gate is State.CANARY else "promoting"


def _sentence(journal: Journal, entry: Entry, outcome: Outcome, evidence: Evidence) -> str:
    version, lost = entry.challenger[0], f"{evidence.lost} of {evidence.frames:,} frames lost"
    judged = frames_judged(evidence)
    if outcome == "promoted":
        if entry.champion is None:
            return f"version {version} is the first champion"
        return f"version {version} promoted over version {entry.champion[0]} on {judged} frames, {lost}"
    if outcome == "held":
        return f"version {version} held in {entry.position.held_from}: {entry.sentence}"
    left = _left_in(journal, entry.id)
    if outcome == "aborted":
        return f"version {version} {entry.sentence} (in {left})"
    if not evidence.frames:
        return f"version {version} rolled back in {left}: {entry.sentence}"
    return f"version {version} rolled back in {left} after {judged} frames: {entry.sentence}; {lost}"


def _left_in(journal: Journal, promotion: int) -> str:
    """The state in which it was decided to roll back."""
    before = State.IDLE.value
    for position, _, _, _ in journal.transitions(promotion):
        if position.state is State.ROLLING_BACK:
            break
        before = str(position)
    return before


def _states(journal: Journal, promotion: int, end: float) -> Iterable[StatePassed]:
    passed = journal.transitions(promotion)
    ends = [at for _, _, _, at in passed[1:]] + [end]
    for (position, _, reason, at), until in zip(passed, ends, strict=True):
        entered = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
        yield StatePassed(state=str(position), entered_at=entered, seconds=round(until - at, 3), reason=reason)


def frames_judged(evidence: Evidence) -> int:
    """The challenger's frames that were judged: answered, or failed (a burst of failures counts once)."""
    return evidence.latencies.num + evidence.errors.events + evidence.bake_errors.events


def _percentiles(latencies: Latencies) -> Percentiles:
    return Percentiles(p50=latencies.percentile_ms(0.50), p99=latencies.percentile_ms(0.99))

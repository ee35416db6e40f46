"""All that was measured on one model, and which targets it meets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks.loopback import Tally
from benchmarks.report import median
from benchmarks.serving.compare import PeerRound
from benchmarks.serving.ladder import Round
from benchmarks.serving.limits import (
    BEST_PEER,
    COLD_S,
    EACH_DEFAULT,
    EFFICIENCY,
    GOODPUT,
    LARGE_PX,
    MEMORY_MB,
    REFUSED_MS,
    Target,
    least_ratio,
    lone_bound_ms,
)  # fmt: skip
from benchmarks.serving.models import Model
from benchmarks.serving.process import Memory
from benchmarks.serving.trials import Overload


@dataclass
class Outcome:
    """All that was measured on one model; what was left out is empty."""

    model: Model
    rounds: list[Round] = field(default_factory=list)
    benchmark_app: float | None = None
    lone: list[Tally] = field(default_factory=list)
    bare_ms: list[float] = field(default_factory=list)
    paced_ms: list[float] = field(default_factory=list)
    memory: Memory | None = None
    cold_s: list[float] = field(default_factory=list)
    overload: Overload | None = None
    peers: list[PeerRound] = field(default_factory=list)

    @property
    def efficiency(self) -> float | None:
        """Headline by limit, formed within a round."""
        return median(one.climb.rate / one.limit for one in self.rounds) if self.rounds else None

    @property
    def lone_p99_ms(self) -> float | None:
        """Of the lone camera; infinite if a frame was not answered with 200."""
        return median(tally.p(99) if tally.all_good else math.inf for tally in self.lone) if self.lone else None

    def peer_ratios(self, engine: bool) -> dict[str, float | None]:
        """Ours by theirs, formed within a round, of the peers on our engine file or of the others."""
        names = [name for name in peer_names(self.peers) if name.endswith("engine file") == engine]
        return {name: median_or_none(one.ratio_to(name) for one in self.peers if name in one.turns) for name in names}


def targets(outcome: Outcome) -> list[Target]:
    """What was asked for, on one model, of what was measured."""
    label, found = outcome.model.label, []
    if outcome.rounds:
        least = EFFICIENCY["large" if outcome.model.side >= LARGE_PX else "small"]
        found.append(Target(label, "efficiency", least, outcome.efficiency, "at least"))
    if outcome.lone:
        bound_ms = lone_bound_ms(median(outcome.bare_ms))
        found.append(Target(label, "p99 of a lone camera", bound_ms, outcome.lone_p99_ms, "under", " ms"))
        paced_ms = lone_bound_ms(median(outcome.paced_ms))
        found.append(Target(label, "the same, by the loop at its pace", paced_ms, outcome.lone_p99_ms, "under", " ms"))
    if outcome.memory:
        rss = outcome.memory.tree_rss
        found.append(Target(label, "resident memory, all processes", MEMORY_MB, rss, "under", " MB"))
    if outcome.cold_s:
        found.append(Target(label, "cold start", COLD_S, median(outcome.cold_s), "under", " s"))
    if outcome.overload:
        refused_ms = outcome.overload.refused_p99_ms
        found += [
            Target(label, "goodput at 3 x capacity, of the peak", GOODPUT, outcome.overload.goodput, "at least"),
            Target(label, "p99 of a refusal at 3 x capacity", REFUSED_MS, refused_ms, "under", " ms"),
        ]
    if best := least_ratio(outcome.peer_ratios(engine=True)):
        found.append(Target(label, "ours / the best peer on our engine file", BEST_PEER, best, "at least", " x"))
    for name, value in outcome.peer_ratios(engine=False).items():
        found.append(Target(label, f"ours / {name}", EACH_DEFAULT, value, "at least", " x"))
    return found


def sentence(outcomes: Sequence[Outcome], budget_ms: float) -> str:
    """The answer in a sentence, and how many targets were met."""
    parts = []
    for one in outcomes:
        if one.rounds:
            rate, share = median(round_.climb.rate for round_ in one.rounds), one.efficiency or 0.0
            parts.append(
                f"{one.model.label}: {rate:.0f} frames/s with p99 under {budget_ms:.0f} ms, {share:.0%} of the limit"
            )
        if (best := least_ratio(one.peer_ratios(engine=True))) is not None:
            parts.append(f"{one.model.label}: {best:.1f} times the best peer on the same engine file")
    judged = [target for one in outcomes for target in targets(one) if target.is_met is not None]
    met = sum(bool(target.is_met) for target in judged)
    return "; ".join([*parts, f"{met} of {len(judged)} targets met"]) + "."


def peer_names(rounds: Sequence[PeerRound]) -> list[str]:
    """Peers that ran, in their order."""
    return list(dict.fromkeys(name for one in rounds for name in one.turns))


def median_or_none(values: Iterable[float | None]) -> float | None:
    """The median of those that are known."""
    known = [value for value in values if value is not None]
    return median(known) if known else None

"""What is known about a challenger under live traffic, and the e-values that follow from it.

Harm is looked for in five places, and each gets a fifth of alpha (so that all of them together raise a false alarm
with probability at most alpha): errors, latency and agreement on paired frames of shadow and canary, errors and
latency of the new champion while it bakes.

- A frame that both arms failed is an outage, and no trial of anybody.
- Errors and latency on pairs: the lesser of two e-values, one against the fixed limit (F1), one against "no worse than
  the champion on the same frames" (F3). The lesser of two is valid for "either holds", so an outage or a noisy machine
  that hits both arms is never held against the challenger: F3 has nothing to say then.
- Agreement: F4 against "the mean is at least min_agreement". A better model disagrees too, so nothing but agreement
  clearly below that floor counts as harm.
- While it bakes nobody is asked beside it, so the limit is the fixed one or, where the old champion itself exceeded
  it on the paired frames, the upper bound of the old champion's share, settled before the first baked frame.

One process runs over all states of the paired phase; it never starts anew at a step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.params import PromoteParams
from flows.rollout.eprocess import Bets, ln_e_above, ln_e_below, ln_e_discordant, upper_bound
from flows.rollout.latencies import Latencies
from flows.rollout.observations import Reading, Sample

NUM_HARM_TESTS = 5
HIGHEST_LIMIT = 0.999
"""Where nearly every frame of the old champion was an event, nothing can be held against the new one."""
Metric = Literal["errors", "latency", "agreement", "bake errors", "bake latency", "error certificate"]


@dataclass(frozen=True)
class Tally:
    """Trials, and how many of them were events."""

    trials: int = 0
    events: int = 0

    def plus(self, event: bool) -> Tally:
        """One more trial."""
        return Tally(self.trials + 1, self.events + event)

    @property
    def share(self) -> float | None:
        """Events per trial; None without trials."""
        return self.events / self.trials if self.trials else None


@dataclass(frozen=True)
class Discordant:
    """Pairs in which only one arm had the event."""

    worse: int = 0
    better: int = 0

    def plus(self, ours: bool, theirs: bool) -> Discordant:
        """One more pair."""
        return Discordant(self.worse + (ours and not theirs), self.better + (theirs and not ours))


class Evidence(BaseModel):
    """Everything that a verdict rests on; frozen, and complete enough to go on from after a crash."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cursor: int = 0
    frames: int = 0
    fallbacks: int = 0
    lost: int = 0
    dropped: int = 0
    in_state: int = 0
    """Judged frames since the state was entered: pairs, or while baking the new champion's frames."""
    frames_in_state: int = 0
    unusable_in_state: int = 0
    failures_in_row: int = 0
    champion_failures_in_row: int = 0
    errors: Tally = Tally()
    slow: Tally = Tally()
    champion_errors: Tally = Tally()
    champion_slow: Tally = Tally()
    errors_paired: Discordant = Discordant()
    slow_paired: Discordant = Discordant()
    agreement: Bets
    bake_errors: Tally = Tally()
    bake_slow: Tally = Tally()
    latencies: Latencies = Latencies()
    champion_latencies: Latencies = Latencies()


class Figure(BaseModel):
    """One e-value with what it rests on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: Metric = Field(description="what was tested")
    num: int = Field(description="frames it rests on")
    value: float | None = Field(description="share of events, or mean agreement; null before the first frame")
    limit: float = Field(description="the limit from params.yaml, or in the bake what the old champion reached")
    ln_e: float = Field(description="natural logarithm of the e-value")
    needed_ln_e: float = Field(description="from here on it decides")

    @property
    def decides(self) -> bool:
        """Whether the e-value reached what it needs."""
        return self.ln_e >= self.needed_ln_e

    @property
    def e_value(self) -> float:
        """The e-value itself, for people."""
        return math.exp(min(self.ln_e, 300.0))

    def text(self) -> str:
        """For people: `latency: 12.0 % of 200 frames over the limit of 5.0 %, e = 61 (limit 100)`."""
        shown = "none" if self.value is None else f"{self.value:.1%}"
        if self.metric == "agreement":
            shown = "none" if self.value is None else f"{self.value:.3f}"
            return f"agreement: mean {shown} over {self.num} pairs, floor {self.limit:.3f}, {self._e()}"
        return f"{self.metric}: {shown} of {self.num} frames, limit {self.limit:.1%}, {self._e()}"

    def _e(self) -> str:
        return f"e = {self.e_value:.3g} (decides at {math.exp(self.needed_ln_e):.3g})"


def no_evidence(params: PromoteParams) -> Evidence:
    """Where a promotion begins."""
    return Evidence(agreement=Bets(params.min_agreement))


def enter_state(evidence: Evidence) -> Evidence:
    """Begin to count towards the minimum of a state; the e-processes go on."""
    return evidence.model_copy(update={"in_state": 0, "frames_in_state": 0, "unusable_in_state": 0})


def read_in(evidence: Evidence, reading: Reading, mode: str, params: PromoteParams) -> Evidence:
    """Take a reading in; frames of `mode`, the present one, count towards the minimum of the state."""
    changes: dict[str, Any] = {
        "cursor": reading.cursor,
        "frames": evidence.frames + reading.num_frames,
        "fallbacks": evidence.fallbacks + reading.num_fallbacks,
        "lost": evidence.lost + reading.num_lost,
        "dropped": evidence.dropped + reading.num_dropped,
        "frames_in_state": evidence.frames_in_state + reading.num_frames,
        "unusable_in_state": evidence.unusable_in_state + reading.num_unusable,
        "failures_in_row": _run(evidence.failures_in_row, reading.outcomes),
        "champion_failures_in_row": _champion_run(evidence.champion_failures_in_row, reading.outcomes),
    }
    return add_samples(evidence.model_copy(update=changes), reading.samples, mode, params)


def add_samples(evidence: Evidence, samples: Iterable[Sample], mode: str, params: PromoteParams) -> Evidence:
    """Add judged frames, one by one."""
    for sample in samples:
        changes = _baked(evidence, sample, params) if sample.mode == "champion" else _paired(evidence, sample, params)
        if sample.failed and sample.champion_failed:
            continue  # an outage
        counts = sample.mode == mode and (sample.mode == "champion" or sample.champion_failed is not None)
        changes["in_state"] = evidence.in_state + counts
        changes["latencies"] = evidence.latencies.plus(sample.latency_ms)
        changes["champion_latencies"] = evidence.champion_latencies.plus(sample.champion_ms)
        evidence = evidence.model_copy(update=changes)
    return evidence


def harm_figures(evidence: Evidence, params: PromoteParams) -> tuple[Figure, ...]:
    """The five tests for harm."""
    needed = math.log(NUM_HARM_TESTS / params.alpha)
    paired = (
        ("errors", evidence.errors, evidence.errors_paired, params.max_error_share),
        ("latency", evidence.slow, evidence.slow_paired, params.max_slow_share),
    )
    baked = (
        ("bake errors", evidence.bake_errors, bake_limit(evidence.champion_errors, params.max_error_share, params)),
        ("bake latency", evidence.bake_slow, bake_limit(evidence.champion_slow, params.max_slow_share, params)),
    )
    bets = evidence.agreement
    return (
        *(
            _figure(
                name, tally, limit, min(_ln_e_limit(tally, limit), ln_e_discordant(pairs.worse, pairs.better)), needed
            )
            for name, tally, pairs, limit in paired
        ),
        Figure(
            metric="agreement",
            num=bets.num,
            value=bets.mean,
            limit=bets.mean_at_least,
            ln_e=bets.ln_e,
            needed_ln_e=needed,
        ),
        *(_figure(name, tally, limit, _ln_e_limit(tally, limit), needed) for name, tally, limit in baked),
    )


def error_certificate(evidence: Evidence, params: PromoteParams) -> Figure:
    """Evidence that errors are rarer than the limit; nobody is promoted without it."""
    tally, limit = evidence.errors, params.max_error_share
    ln_e = ln_e_below(tally.trials, tally.events, limit)
    return _figure("error certificate", tally, limit, ln_e, math.log(1 / params.alpha))


def bake_limit(champion: Tally, limit: float, params: PromoteParams) -> float:
    """`limit`, or where the old champion exceeded it on the paired frames, the upper bound of its share."""
    if champion.share is None or champion.share <= limit:
        return limit
    return min(HIGHEST_LIMIT, upper_bound(champion.trials, champion.events, params.alpha / NUM_HARM_TESTS))


def _ln_e_limit(tally: Tally, limit: float) -> float:
    return ln_e_above(tally.trials, tally.events, limit)


def _figure(name: Any, tally: Tally, limit: float, ln_e: float, needed: float) -> Figure:
    return Figure(metric=name, num=tally.trials, value=tally.share, limit=limit, ln_e=ln_e, needed_ln_e=needed)


def _paired(evidence: Evidence, sample: Sample, params: PromoteParams) -> dict[str, Any]:
    changes: dict[str, Any] = {"errors": evidence.errors.plus(sample.failed)}
    slow = None if sample.latency_ms is None else sample.latency_ms > params.latency_budget_ms
    champion_slow = None if sample.champion_ms is None else sample.champion_ms > params.latency_budget_ms
    if slow is not None:
        changes["slow"] = evidence.slow.plus(slow)
    if sample.champion_failed is not None:
        changes["champion_errors"] = evidence.champion_errors.plus(sample.champion_failed)
        changes["errors_paired"] = evidence.errors_paired.plus(sample.failed, sample.champion_failed)
    if champion_slow is not None:
        changes["champion_slow"] = evidence.champion_slow.plus(champion_slow)
        if slow is not None:
            changes["slow_paired"] = evidence.slow_paired.plus(slow, champion_slow)
    if sample.agreement is not None:
        changes["agreement"] = evidence.agreement.bet(sample.agreement)
    return changes


def _baked(evidence: Evidence, sample: Sample, params: PromoteParams) -> dict[str, Any]:
    changes: dict[str, Any] = {"bake_errors": evidence.bake_errors.plus(sample.failed)}
    if sample.latency_ms is not None:
        changes["bake_slow"] = evidence.bake_slow.plus(sample.latency_ms > params.latency_budget_ms)
    return changes


def _run(length: int, outcomes: Iterable[tuple[bool | None, bool | None]]) -> int:
    for failed, champion_failed in outcomes:
        if failed is False:
            length = 0
        elif failed and not champion_failed:
            length += 1
    return length


def _champion_run(length: int, outcomes: Iterable[tuple[bool | None, bool | None]]) -> int:
    for _, champion_failed in outcomes:
        if champion_failed is not None:
            length = length + 1 if champion_failed else 0
    return length

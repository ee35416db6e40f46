"""What is known about a challenger under live traffic, and the e-values that follow from it.

Harm is looked for in five places, and each gets a fifth of alpha (so that all of them together raise a false alarm
with probability at most alpha): errors, latency and agreement on paired frames of shadow and canary, errors and
latency of the new champion while it bakes.

- A frame that both arms failed is an outage, and no trial of anybody.
- Errors and latency on pairs: the lesser of two e-values, one against the fixed limit, one against "no worse than the
  champion on the same frames". The lesser of two is valid for "either holds", so what hits both arms is never held
  against the challenger. Both are asked of whole windows of time (F4), because errors and slow frames come in bursts.
- Agreement: F4 against "the mean is at least min_agreement". A better model disagrees too, so nothing but agreement
  clearly below that floor counts as harm.
- While it bakes nobody is asked beside it, so the limit is the fixed one or what the old champion is known to have
  exceeded in the shadow, when all cameras were paired; it is settled before the first baked frame.

One process runs over all states of the paired phase; it never starts anew at a step. A part of it begins to bet ever
later, so that a challenger that goes bad late is found as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.params import PromoteParams
from flows.rollout.eprocess import ShareBets, ln_e_below, upper_bound
from flows.rollout.latencies import Latencies
from flows.rollout.observations import Reading, Sample
from flows.rollout.trials import (
    champion_failures_in_row,
    error_trials,
    failures_in_row,
    is_beside,
    is_complete,
    slow_trials,
)
from flows.rollout.windows import Windows

NUM_HARM_TESTS = 5
HIGHEST_LIMIT = 0.999
"""Where nearly every frame of the old champion was an event, nothing can be held against the new one."""
Metric = Literal["errors", "latency", "agreement", "bake errors", "bake latency", "error certificate"]


@dataclass(frozen=True)
class Tally:
    """Trials, and how many of them were events."""

    trials: int = 0
    events: int = 0

    def plus(self, events: Sequence[bool]) -> Tally:
        """With more trials."""
        return Tally(self.trials + len(events), self.events + sum(events))

    @property
    def share(self) -> float | None:
        """Events per trial; None without trials."""
        return self.events / self.trials if self.trials else None


@dataclass(frozen=True)
class Scores:
    """Agreement of pairs: bets that their disagreement is too high on average, and their sums."""

    bets: ShareBets
    num: int = 0
    total: float = 0.0
    in_state: int = 0
    total_in_state: float = 0.0

    def plus(self, scores: Sequence[float]) -> Scores:
        """With more scores in [0, 1]."""
        more = sum(scores)
        return Scores(
            self.bets.bet(*(1 - score for score in scores)),
            self.num + len(scores),
            self.total + more,
            self.in_state + len(scores),
            self.total_in_state + more,
        )

    @property
    def mean(self) -> float | None:
        """None before the first."""
        return self.total / self.num if self.num else None

    @property
    def mean_in_state(self) -> float | None:
        """Of those since the state was entered."""
        return self.total_in_state / self.in_state if self.in_state else None


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
    """Frames since then on which the challenger was asked, or nobody knows whether it was."""
    unusable_in_state: int = 0
    failures_in_row: int = 0
    champion_failures_in_row: int = 0
    errors: Tally = Tally()
    slow: Tally = Tally()
    champion_errors: Tally = Tally()
    champion_slow: Tally = Tally()
    error_windows: Windows
    slow_windows: Windows
    agreement: Scores
    bake_errors: Tally = Tally()
    bake_slow: Tally = Tally()
    bake_error_windows: Windows | None = None
    """None before the first baked frame; then with the limit that was settled by then."""
    bake_slow_windows: Windows | None = None
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
    return Evidence(
        error_windows=Windows(ShareBets(params.max_error_share)),
        slow_windows=Windows(ShareBets(params.max_slow_share)),
        agreement=Scores(ShareBets(1 - params.min_agreement)),
    )


def enter_state(evidence: Evidence) -> Evidence:
    """Begin to count towards the minimum of a state; the e-processes go on."""
    agreement = replace(evidence.agreement, in_state=0, total_in_state=0.0)
    changes = {"in_state": 0, "frames_in_state": 0, "unusable_in_state": 0, "agreement": agreement}
    return evidence.model_copy(update=changes)


def read_in(evidence: Evidence, reading: Reading, mode: str, params: PromoteParams) -> Evidence:
    """Take a reading in; frames of `mode`, the present one, count towards the minimum of the state."""
    changes: dict[str, Any] = {
        "cursor": reading.cursor,
        "frames": evidence.frames + reading.num_frames,
        "fallbacks": evidence.fallbacks + reading.num_fallbacks,
        "lost": evidence.lost + reading.num_lost,
        "dropped": evidence.dropped + reading.num_dropped,
        "frames_in_state": evidence.frames_in_state + reading.num_asked,
        "unusable_in_state": evidence.unusable_in_state + reading.num_unusable,
        "failures_in_row": failures_in_row(evidence.failures_in_row, reading.outcomes),
        "champion_failures_in_row": champion_failures_in_row(evidence.champion_failures_in_row, reading.outcomes),
    }
    return add_samples(evidence.model_copy(update=changes), reading.samples, mode, params)


def add_samples(evidence: Evidence, samples: Iterable[Sample], mode: str, params: PromoteParams) -> Evidence:
    """Add judged frames, in their order; an outage of both arms is none."""
    judged = [sample for sample in samples if not (sample.failed and sample.champion_failed)]
    if not judged:
        return evidence
    paired = [sample for sample in judged if sample.mode != "champion"]
    changes = {
        "in_state": evidence.in_state + sum(sample.mode == mode and is_complete(sample) for sample in judged),
        "latencies": evidence.latencies.plus(sample.latency_ms for sample in judged),
        "champion_latencies": evidence.champion_latencies.plus(sample.champion_ms for sample in judged),
    }
    if paired:
        changes |= _paired(evidence, paired, params)
    if len(paired) < len(judged):
        baked = [sample for sample in judged if sample.mode == "champion"]
        changes |= _baked(evidence.model_copy(update=changes), baked, params)
    return evidence.model_copy(update=changes)


def harm_figures(evidence: Evidence, params: PromoteParams) -> tuple[Figure, ...]:
    """The five tests for harm."""
    needed = math.log(NUM_HARM_TESTS / params.alpha)
    agreement = evidence.agreement
    return (
        _figure("errors", evidence.errors, params.max_error_share, evidence.error_windows.ln_e, needed),
        _figure("latency", evidence.slow, params.max_slow_share, evidence.slow_windows.ln_e, needed),
        Figure(
            metric="agreement",
            num=agreement.num,
            value=agreement.mean,
            limit=params.min_agreement,
            ln_e=agreement.bets.ln_e,
            needed_ln_e=needed,
        ),
        *_bake_figures(evidence, params, needed),
    )


def _bake_figures(evidence: Evidence, params: PromoteParams, needed: float) -> tuple[Figure, Figure]:
    limit, slow_limit = params.max_error_share, params.max_slow_share
    if evidence.bake_errors.trials:
        limit, slow_limit = bake_error_limit(evidence, params), bake_slow_limit(evidence, params)
    errors, slow = evidence.bake_error_windows, evidence.bake_slow_windows
    return (
        _figure("bake errors", evidence.bake_errors, limit, errors.shares.ln_e if errors else 0.0, needed),
        _figure("bake latency", evidence.bake_slow, slow_limit, slow.shares.ln_e if slow else 0.0, needed),
    )


def error_certificate(evidence: Evidence, params: PromoteParams) -> Figure:
    """Evidence that errors are rarer than the limit; nobody is promoted without it."""
    tally, limit = evidence.errors, params.max_error_share
    ln_e = ln_e_below(tally.trials, tally.events, limit)
    return _figure("error certificate", tally, limit, ln_e, math.log(1 / params.alpha))


def bake_error_limit(evidence: Evidence, params: PromoteParams) -> float:
    """The limit, or where the old champion exceeded it in the shadow, the upper bound of its share."""
    share, limit = evidence.champion_errors.share, params.max_error_share
    return limit if share is None or share <= limit else _upper_bound(evidence.champion_errors, params)


def bake_slow_limit(evidence: Evidence, params: PromoteParams) -> float:
    """The limit, or the upper bound of the old champion's share in the shadow where that is higher.

    Nobody bakes beside the new champion, and how busy the machine is changes from minute to minute.
    """
    champion = evidence.champion_slow
    return max(params.max_slow_share, _upper_bound(champion, params)) if champion.trials else params.max_slow_share


def _upper_bound(champion: Tally, params: PromoteParams) -> float:
    return min(HIGHEST_LIMIT, upper_bound(champion.trials, champion.events, params.alpha / NUM_HARM_TESTS))


def _figure(name: Any, tally: Tally, limit: float, ln_e: float, needed: float) -> Figure:
    return Figure(metric=name, num=tally.trials, value=tally.share, limit=limit, ln_e=ln_e, needed_ln_e=needed)


def _paired(evidence: Evidence, paired: list[Sample], params: PromoteParams) -> dict[str, Any]:
    errors, slow = error_trials(paired), slow_trials(paired, params.latency_budget_ms)
    beside = [sample for sample in paired if is_beside(sample)]
    champion_failed = [sample.champion_failed for sample in beside if sample.champion_failed is not None]
    champion_ms = [sample.champion_ms for sample in beside if sample.champion_ms is not None]
    return {
        "errors": evidence.errors.plus([failed for _, failed, _ in errors]),
        "slow": evidence.slow.plus([late for _, late, _ in slow]),
        "error_windows": evidence.error_windows.plus(errors),
        "slow_windows": evidence.slow_windows.plus(slow),
        "champion_errors": evidence.champion_errors.plus(champion_failed),
        "champion_slow": evidence.champion_slow.plus([ms > params.latency_budget_ms for ms in champion_ms]),
        "agreement": evidence.agreement.plus([sample.agreement for sample in paired if sample.agreement is not None]),
    }


def _baked(evidence: Evidence, baked: list[Sample], params: PromoteParams) -> dict[str, Any]:
    errors, slow = error_trials(baked), slow_trials(baked, params.latency_budget_ms)
    error_windows = evidence.bake_error_windows or Windows(ShareBets(bake_error_limit(evidence, params)))
    slow_windows = evidence.bake_slow_windows or Windows(ShareBets(bake_slow_limit(evidence, params)))
    return {
        "bake_errors": evidence.bake_errors.plus([failed for _, failed, _ in errors]),
        "bake_slow": evidence.bake_slow.plus([late for _, late, _ in slow]),
        "bake_error_windows": error_windows.plus(errors),
        "bake_slow_windows": slow_windows.plus(slow),
    }

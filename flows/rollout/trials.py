"""From judged frames to trials: which frames say something new, about whom, and whether they were good or bad."""

from __future__ import annotations

from collections.abc import Iterable

from flows.rollout.observations import Sample

Trial = tuple[int | None, bool, bool | None]
"""Number of its window; whether the challenger had the event; whether the champion had, None where it was not asked."""


def error_trials(samples: Iterable[Sample]) -> list[Trial]:
    """The event is a failed answer."""
    return [(sample.window, sample.failed, sample.champion_failed) for sample in samples]


def slow_trials(samples: Iterable[Sample], budget_ms: float) -> list[Trial]:
    """Of the frames that the challenger answered; the event is an answer over the budget."""
    return [
        (
            sample.window,
            sample.latency_ms > budget_ms,
            None if sample.champion_ms is None else sample.champion_ms > budget_ms,
        )
        for sample in samples
        if sample.latency_ms is not None
    ]


def is_beside(sample: Sample) -> bool:
    """Whether it tells how the champion fares on all cameras; those of a canary are a choice of them."""
    return sample.mode == "shadow"


def is_complete(sample: Sample) -> bool:
    """Whether it says what its state asks for: a pair, or while baking the new champion's answer."""
    return sample.mode == "champion" or sample.champion_failed is not None


def failures_in_row(length: int, outcomes: Iterable[tuple[bool | None, bool | None]]) -> int:
    """Frames in a row that the challenger failed and the champion did not, `length` of them before these."""
    for failed, champion_failed in outcomes:
        if failed is False:
            length = 0
        elif failed and not champion_failed:
            length += 1
    return length


def champion_failures_in_row(length: int, outcomes: Iterable[tuple[bool | None, bool | None]]) -> int:
    """Frames in a row that the champion failed, `length` of them before these."""
    for _, champion_failed in outcomes:
        if champion_failed is not None:
            length = length + 1 if champion_failed else 0
    return length

"""From judged frames to trials: which frames say something new, about whom, and whether they were good or bad."""

from __future__ import annotations

from collections.abc import Iterable

from flows.rollout.observations import Sample

SlowFrame = tuple[int | None, bool, bool | None]
"""Number of its window; whether it was slow; whether the champion was, beside it."""


def error_trials(judged: Iterable[Sample], last_window: int) -> tuple[list[Sample], int]:
    """The frames that are trials of errors, and the window of the last error.

    Errors come in bursts: after one, the rest of its window says nothing new, neither its errors nor its good frames.
    """
    trials = []
    for sample in judged:
        if sample.window is not None and sample.window == last_window:
            continue
        trials.append(sample)
        if sample.window is not None and sample.failed != bool(sample.champion_failed):
            last_window = sample.window
    return trials, last_window


def failed_pairs(trials: Iterable[Sample]) -> list[tuple[bool, bool]]:
    """Of the trials that both were asked: whether the challenger, whether the champion failed."""
    return [(trial.failed, trial.champion_failed) for trial in trials if trial.champion_failed is not None]


def slow_frames(samples: Iterable[Sample], budget_ms: float) -> list[SlowFrame]:
    """The frames that the challenger answered."""
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

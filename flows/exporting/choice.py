"""Which engine is taken: the fastest that loses little enough, and among equally fast ones the most exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bentos.detector.contract import Precision
from flows.exporting.accuracy import Accuracy, Baseline
from flows.exporting.benchmark import BatchLatency, Speed
from flows.exporting.candidates import Candidate
from flows.exporting.parity import ParityReport

EXACTNESS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True)
class Contender:
    """What the choice rests on."""

    candidate: Candidate
    images_per_s: float
    in_budget: bool
    refusal: str | None  # why it may not be taken


def find_refusal(
    candidate: Candidate, parity: ParityReport, accuracy: Accuracy, baseline: Baseline, max_loss: float
) -> str | None:
    """Why this engine may not be taken, in a sentence with its figures; None where it may."""
    if not parity.passed:
        return f"{candidate.name} refused: it {parity.sentence}"
    if accuracy.loss.upper is None:
        if candidate.precision == "fp32":
            return None
        return (
            f"{candidate.name} refused: {baseline.split} has {baseline.num_units} {baseline.unit}s with "
            f"{baseline.num_objects} objects, too few to bound what it loses (needed: {baseline.min_units} units); "
            "without a bound only fp32 may be chosen"
        )
    if accuracy.loss.upper > max_loss:
        return f"{candidate.name} refused: loses {accuracy.loss.text()} mAP50-95, allowed {max_loss:g} at the upper end"
    return None


def best_batch(speed: Speed, budget_ms: float) -> tuple[BatchLatency, bool]:
    """The batch size of most images a second whose p99 is in the budget, and True; a single image and False if none."""
    inside = [row for row in speed.latency if row.p99_ms <= budget_ms]
    if not inside:
        return speed.latency[0], False
    return max(inside, key=lambda row: row.images_per_s), True


def choose(contenders: Sequence[Contender], min_speedup: float) -> int | None:
    """Index of the contender to take, None where all are refused.

    Those that answer in the budget come before those that do not. Of the fastest, and all that are at most
    `min_speedup` times slower, the most exact is taken, then the faster: a busy moment shall not decide.
    """
    admitted = [(index, one) for index, one in enumerate(contenders) if one.refusal is None]
    punctual = [(index, one) for index, one in admitted if one.in_budget] or admitted
    if not punctual:
        return None
    fastest = max(one.images_per_s for _, one in punctual)
    equal = [pair for pair in punctual if pair[1].images_per_s >= fastest / min_speedup]
    index, _ = min(equal, key=lambda pair: (EXACTNESS.index(pair[1].candidate.precision), -pair[1].images_per_s))
    return index

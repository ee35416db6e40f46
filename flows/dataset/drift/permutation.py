"""Have two samples moved apart in any of many columns? One error rate for all, however the columns hang together.

Units (clips, say) are dealt to the two samples anew at random; what the most extreme of all columns reaches then says
what chance alone can do: the single-step maxT procedure of Westfall & Young (1993, algorithm 2.8). It keeps the
probability of any false alarm at `alpha` for dependent columns too, and assumes no distribution: only that under
"nothing has changed" the units could as well have come in the other order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MIN_SIDE = 3
"""Units that either side of a column needs; fewer say nothing about how much units differ anyway."""


@dataclass(frozen=True)
class Comparison:
    """One column: its Wasserstein distance, the one that chance stays below, and the probability of reaching it.

    `p_value` is adjusted for all columns that were tested together. All are None where a side has too few units.
    """

    distance: float | None
    limit: float | None
    p_value: float | None


def compare_columns(
    columns: Sequence[Floats], is_current: Bools, alpha: float, num_shuffles: int = 999, seed: int = 0
) -> list[Comparison]:
    """Test all columns together, so that `alpha` is the probability of a false alarm in any of them.

    The statistic of a column is the Wasserstein distance between both samples, scaled for their sizes and then by mean
    and standard deviation over the shuffles, so that columns of any unit and subsets of any size can be compared.

    Args:
        columns: (num_units,) values each; NaN where a unit has none, or belongs to another group.
        is_current: (num_units,) which sample a unit belongs to.
        alpha: Error rate over all columns; `limit` is the distance above which `p_value` is at most that.
        num_shuffles: Random deals; 1 / (num_shuffles + 1) is the smallest possible p-value.
        seed: Of the shuffles.
    """
    deals = _deals(is_current, num_shuffles, np.random.default_rng(seed))
    scaled = [_statistics(column, deals) for column in columns]
    scores = [_standardised(statistics) for statistics, _ in scaled]
    largest = np.max([score for score in scores if score is not None] or [np.zeros(len(deals))], axis=0)
    critical = _critical(largest, alpha)
    return [
        _comparison(statistics, scale, score, largest, critical)
        for (statistics, scale), score in zip(scaled, scores, strict=True)
    ]


def _deals(is_current: Bools, num_shuffles: int, generator: np.random.Generator) -> npt.NDArray[np.float32]:
    """(1 + num_shuffles, num_units): 1 for the current sample; the first row is the truth."""
    deals = np.tile(is_current.astype(np.float32), (1 + num_shuffles, 1))
    deals[1:] = generator.permuted(deals[1:], axis=1)
    return deals


def _statistics(values: Floats, deals: npt.NDArray[np.float32]) -> tuple[Floats, float]:
    """Scaled Wasserstein distance in every deal, NaN where a side is too small; and the scale in the first deal."""
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    ours = deals[:, order]  # (deals, n), in the order of the values
    num_current = ours.sum(axis=1, dtype=np.float64)
    num_reference = len(order) - num_current
    enough = np.minimum(num_current, num_reference) >= MIN_SIDE
    if not enough.any():
        return np.full(len(deals), np.nan), 0.0
    below = np.cumsum(ours, axis=1, dtype=np.float32)[:, :-1]  # whole numbers, exact up to 2^24
    ranks = np.arange(1, len(order), dtype=np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        current_share = below / num_current[:, None].astype(np.float32)
        reference_share = (ranks - below) / num_reference[:, None].astype(np.float32)
        distances = np.abs(current_share - reference_share) @ np.diff(values[order])  # area between both step functions
    scales = np.sqrt(num_current * num_reference / max(len(order), 1))
    return np.where(enough, distances * scales, np.nan), float(scales[0])


def _standardised(statistics: Floats) -> Floats | None:
    """In standard deviations above the mean of all deals; None for a column that no deal can test.

    A column that only the true deal cannot test still takes part: which columns count must not hang on the truth.
    """
    known = statistics[np.isfinite(statistics)]
    if not len(known):
        return None
    spread = float(known.std())
    if spread <= 1e-12 * max(float(known.mean()), 1e-12):
        return np.zeros(len(statistics))
    return np.where(np.isfinite(statistics), (statistics - known.mean()) / spread, -np.inf)


def _critical(largest: Floats, alpha: float) -> float:
    """The score above which at most `alpha` of the deals, the true one included, have their largest."""
    allowed = int(np.floor(alpha * len(largest) + 1e-9))
    return float(np.sort(largest)[::-1][allowed]) if allowed < len(largest) else -np.inf


def _comparison(statistics: Floats, scale: float, score: Floats | None, largest: Floats, critical: float) -> Comparison:
    if score is None or not np.isfinite(statistics[0]):
        return Comparison(None, None, None)
    known = statistics[np.isfinite(statistics)]
    return Comparison(
        distance=float(statistics[0] / scale),
        limit=float(max(known.mean() + critical * known.std(), 0.0) / scale),
        p_value=float((largest >= score[0]).mean()),
    )

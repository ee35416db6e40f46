"""Uncertainty of a figure and of a paired difference, with the camera, the clip or a block of time as the unit.

Frames of one camera resemble each other, so frames are never resampled one by one. A resample is a weight per
image, the same for both models.

Sources: Quenouille 1956, Tukey 1958 (jackknife and its t interval); Efron 1979 (bootstrap); Holm 1979.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import stdtr, stdtrit

from flows.comparison.average_precision import average_precisions, mean_average_precision, rank
from flows.comparison.matching import Matches
from flows.comparison.predictions import Floats, GroundTruth, Ints
from flows.progress import Progress, silent

Unit = Literal["camera", "clip", "block"]
UNITS: tuple[Unit, ...] = ("camera", "clip", "block")
BLOCK_S = 60.0
"""Length of a block of time where nothing else is asked for, seconds."""
_AT_ONCE = 256  # replicates whose weights are held in memory together


class Estimate(BaseModel):
    """A figure with its interval; without one where the units are too few to tell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float | None = Field(description="the figure over all frames; null where it is not defined")
    lower: float | None = Field(description="one-sided 1 - alpha lower bound, jackknife t; null: insufficient clusters")
    upper: float | None = Field(description="one-sided 1 - alpha upper bound, jackknife t; null: insufficient clusters")
    standard_error: float | None = Field(description="jackknife standard error; null: insufficient clusters")
    num_units: int = Field(description="resampling units the interval rests on")

    def text(self, signed: bool = False) -> str:
        """Like `.563 [.541, .584]`, or `+.081 [+.052, +.110]` if `signed`."""
        if self.value is None:
            return "not defined"
        if self.lower is None or self.upper is None:
            return f"{short(self.value, signed)} (insufficient clusters)"
        return f"{short(self.value, signed)} [{short(self.lower, signed)}, {short(self.upper, signed)}]"


def short(value: float | None, signed: bool = False) -> str:
    """Three decimals without the leading zero, as papers print them; a dash for nothing."""
    if value is None or not np.isfinite(value):
        return "–"
    text = f"{value:+.3f}" if signed else f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(round(value, 3)) < 1 else text


def unit_of_image(
    truth: GroundTruth, unit: Unit, members: npt.NDArray[np.bool_], min_units: int, block_s: float = BLOCK_S
) -> Ints:
    """Find the unit number of each member image, -1 for the other images: (num_images,).

    A block is what a camera recorded within the same `block_s` seconds. A clip with frames whose time is not known is
    cut evenly instead, so that there are at least twice `min_units` pieces; those may resemble one another.
    """
    chosen = np.flatnonzero(members)
    if unit == "camera":
        keys: list[tuple[object, ...]] = [(truth.cameras[i],) for i in chosen]
    else:
        keys = [(truth.cameras[i], truth.clips[i]) for i in chosen]
    if unit == "block":
        times = [truth.times[i] if truth.times else "" for i in chosen]
        keys = _blocks(keys, times, min_units, block_s)
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    units = np.full(len(truth.images), -1, dtype=np.int64)
    units[chosen] = [numbers[key] for key in keys]
    return units


def _blocks(
    clips: list[tuple[object, ...]], times: Sequence[str], min_units: int, block_s: float
) -> list[tuple[object, ...]]:
    numbers = [_block_number(time, block_s) for time in times]
    untimed = {clip for clip, number in zip(clips, numbers, strict=True) if number is None}
    pieces = _pieces(clips, min_units)
    return [
        piece if clip in untimed else (clip[0], "block", number)
        for clip, piece, number in zip(clips, pieces, numbers, strict=True)
    ]


def _block_number(time: str, block_s: float) -> int | None:
    """Which of the blocks since 1970 an ISO 8601 time lies in; None where it is none (the data check warns of it)."""
    try:
        taken = datetime.fromisoformat(time)
    except ValueError:
        return None
    return int((taken if taken.tzinfo else taken.replace(tzinfo=UTC)).timestamp() // block_s)


def _pieces(clips: list[tuple[object, ...]], min_units: int) -> list[tuple[object, ...]]:
    lengths = Counter(clips)
    per_clip = -(-2 * min_units // max(len(lengths), 1))
    position = dict.fromkeys(lengths, -1)
    keys: list[tuple[object, ...]] = []
    for clip in clips:
        position[clip] += 1
        keys.append((*clip, position[clip] * per_clip // lengths[clip]))
    return keys


def jackknife_weights(units: Ints) -> npt.NDArray[np.int32]:
    """All members, then all but one unit at a time: (1 + num_units, num_images)."""
    left_out = np.arange(-1, int(units.max(initial=-1)) + 1)[:, None]
    kept: npt.NDArray[np.bool_] = (units >= 0) & ((units != left_out) | (left_out < 0))
    return kept.astype(np.int32)


def bootstrap_weights(units: Ints, replicates: int, seed: int) -> npt.NDArray[np.int32]:
    """How often each image counts when units are drawn with replacement: (replicates, num_images)."""
    return np.concatenate(list(bootstrap_blocks(units, replicates, seed)))


def bootstrap_blocks(units: Ints, replicates: int, seed: int) -> Iterator[npt.NDArray[np.int32]]:
    """Draw the same in blocks of few replicates, so that memory does not grow with their number."""
    num_units = int(units.max(initial=-1)) + 1
    rng = np.random.default_rng(seed)
    for start in range(0, replicates, _AT_ONCE):
        num = min(_AT_ONCE, replicates - start)
        drawn = rng.multinomial(num_units, np.full(num_units, 1 / num_units), size=num)
        yield np.where(units >= 0, drawn[:, units], 0).astype(np.int32)


def jackknife(samples: Floats, alpha: float, min_units: int) -> Estimate:
    """Give the figure of all units, `samples[0]`, a t interval from those without one unit each, `samples[1:]`."""
    num_units = len(samples) - 1
    value = float(samples[0]) if np.isfinite(samples[0]) else None
    if num_units < max(min_units, 2) or not np.isfinite(samples).all():
        return Estimate(value=value, lower=None, upper=None, standard_error=None, num_units=num_units)
    spread = samples[1:] - samples[1:].mean()
    error = float(np.sqrt((num_units - 1) / num_units * (spread**2).sum()))
    reach = float(stdtrit(num_units - 1, 1 - alpha)) * error
    return Estimate(
        value=value, lower=samples[0] - reach, upper=samples[0] + reach, standard_error=error, num_units=num_units
    )


def p_worse(difference: Estimate) -> float | None:
    """One-sided p value of "not worse": small means the difference is below zero; None without an interval."""
    if difference.standard_error is None or difference.value is None:
        return None
    if difference.standard_error < 1e-12:
        return 0.0 if difference.value < -1e-12 else 1.0
    return float(stdtr(difference.num_units - 1, difference.value / difference.standard_error))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values after Holm, in the order given: alpha then holds for all claims below it together."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    scaled = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(p_values), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(scaled) else scaled
    return [float(p) for p in adjusted]


def percentile_interval(replicates: Floats, alpha: float) -> tuple[float, float] | None:
    """Take the alpha and 1 - alpha quantiles; None if fewer than half of the replicates are defined."""
    defined = replicates[np.isfinite(replicates)]
    if 2 * len(defined) < len(replicates) or not len(defined):
        return None
    lower, upper = np.quantile(defined, [alpha, 1 - alpha])
    return float(lower), float(upper)


def label_swap_p_value(
    challenger: Matches,
    champion: Matches,
    units: Ints,
    *,
    permutations: int,
    seed: int,
    statistic: Callable[[Floats], Floats] = mean_average_precision,
    progress: Progress = silent,
) -> float:
    """Two-sided p value of "the two models are interchangeable": models trade places in random units.

    All swaps are enumerated where there are at most `permutations` of them. `statistic` takes the average
    precisions (R, num_classes, 10) to (R,).
    """
    num_units = int(units.max(initial=-1)) + 1
    swaps = _swaps(num_units, permutations, seed)  # (R, num_units), the first is no swap
    both = rank(_side_by_side(challenger, champion))
    gaps = np.empty(0)
    for start in range(0, len(swaps), _AT_ONCE):
        block = swaps[start : start + _AT_ONCE, units]
        swapped, kept = (np.where(units >= 0, one, 0).astype(np.int32) for one in (block, 1 - block))
        first = statistic(average_precisions(both, np.hstack([kept, swapped])))
        second = statistic(average_precisions(both, np.hstack([swapped, kept])))
        gaps = np.append(gaps, np.abs(first - second))
        progress(len(gaps), len(swaps), "permutations")
    return float((gaps >= gaps[0] - 1e-12).mean())


def _swaps(num_units: int, permutations: int, seed: int) -> Ints:
    if 2**num_units <= permutations:
        return (np.arange(2**num_units)[:, None] >> np.arange(num_units)) & 1
    drawn = np.random.default_rng(seed).integers(0, 2, size=(permutations, num_units))
    drawn[0] = 0
    return drawn


def _side_by_side(left: Matches, right: Matches) -> Matches:
    """One table over the images of `left` followed by those of `right`."""
    class_ids = np.concatenate([left.class_ids, right.class_ids])
    scores = np.concatenate([left.scores, right.scores])
    order = np.lexsort((-scores, class_ids))
    return Matches(
        num_images=left.num_images + right.num_images,
        image_index=np.concatenate([left.image_index, right.image_index + left.num_images])[order],
        class_ids=class_ids[order],
        scores=scores[order],
        hit=np.concatenate([left.hit, right.hit], axis=1)[:, order],
        ignored=np.concatenate([left.ignored, right.ignored], axis=1)[:, order],
        num_objects=np.concatenate([left.num_objects, right.num_objects], axis=1),
    )

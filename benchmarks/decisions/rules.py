"""The rules of others, on the same streams: a fixed threshold, and a Mann-Whitney test looked at again and again.

Neither knows pairs: the challenger is judged on the frames of its own cameras, the champion on those of the others.
Both look every 10 s while 10 % and then 50 % of the cameras are the challenger's, a minute each.

- *threshold*: a look at the last 10 s fails when the share of errors or of frames over the budget exceeds its limit.
  Flagger rolls back at the fifth failed look (`threshold: 5` of its examples), Argo Rollouts at the first
  (`failureLimit` is 0 unless one says otherwise).
- *Mann-Whitney*: at each look all values so far of latency, errors and number of boxes, at 98 % as Kayenta's judge
  has it, in the direction that is harm. One that is significant rolls back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from benchmarks.decisions.streams import EMPTY, FPS, NUM_BOXES, PIECE, Stream
from flows.params import PromoteParams

LOOK_S = 10.0
STEPS = (0.1, 0.5)
LOOKS_PER_STEP = 6
FLAGGER_LOOKS = 5
MANN_WHITNEY_Z = NormalDist().inv_cdf(0.99)
"""Of a two-sided interval of 98 %."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """What was seen since the look before: latencies, ms (failed frames have none), failures and boxes of each arm."""

    canary_ms: Floats
    others_ms: Floats
    canary_failed: Floats
    others_failed: Floats
    canary_boxes: Floats
    others_boxes: Floats


def looks(stream: Stream) -> Iterator[Look]:
    """The looks of a rollout, in order."""
    per_look = round(LOOK_S * FPS * stream.num_cameras)
    for number in range(len(STEPS) * LOOKS_PER_STEP):
        num_canary = max(1, int(STEPS[number // LOOKS_PER_STEP] * stream.num_cameras))
        yield _look(stream, number * per_look, per_look, num_canary)


def threshold_rolls_back(stream: Stream, params: PromoteParams, num_failed: int) -> bool:
    """Whether `num_failed` looks fail."""
    failed = 0
    for look in looks(stream):
        slow = np.mean(look.canary_ms > params.latency_budget_ms) if len(look.canary_ms) else 0.0
        failed += bool(slow > params.max_slow_share or look.canary_failed.mean() > params.max_error_share)
        if failed >= num_failed:
            return True
    return False


def mann_whitney_rolls_back(stream: Stream) -> bool:
    """Whether any look finds a significant difference."""
    seen: list[Look] = []
    for look in looks(stream):
        seen.append(look)
        for name, sign in (("ms", 1), ("failed", 1), ("boxes", -1)):
            canary, others = (
                np.concatenate([getattr(one, f"{arm}_{name}") for one in seen]) for arm in ("canary", "others")
            )
            if sign * mann_whitney_z(canary, others) > MANN_WHITNEY_Z:
                return True
    return False


def mann_whitney_z(first: Floats, second: Floats) -> float:
    """Standard normal deviate of the Mann-Whitney U of `first`, with ties; positive where its values are larger."""
    num = len(first) + len(second)
    if not len(first) or not len(second):
        return 0.0
    ordered = np.sort(second)
    wins = (np.searchsorted(ordered, first, "left") + np.searchsorted(ordered, first, "right")).sum() / 2
    pooled = np.sort(np.concatenate([first, second]))
    ends = np.flatnonzero(np.append(pooled[1:] != pooled[:-1], True)) + 1
    ties = np.diff(ends, prepend=0).astype(np.float64)
    variance = len(first) * len(second) / 12 * (num + 1 - float((ties**3 - ties).sum()) / (num * (num - 1)))
    return 0.0 if variance <= 0 else float((wins - len(first) * len(second) / 2) / np.sqrt(variance))


def _look(stream: Stream, first: int, num: int, num_canary: int) -> Look:
    numbers = np.arange(first, first + num)
    in_canary = (numbers % stream.num_cameras + 1) % stream.num_cameras < num_canary  # as the router's, promotion 1
    columns = {name: _column(stream, name, first, num) for name in _COLUMNS}
    canary_failed, others_failed = columns["challenger_failed"][in_canary], columns["champion_failed"][~in_canary]
    return Look(
        canary_ms=columns["challenger_ms"][in_canary][canary_failed == 0],
        others_ms=columns["champion_ms"][~in_canary][others_failed == 0],
        canary_failed=canary_failed,
        others_failed=others_failed,
        canary_boxes=np.where(columns["matched"][in_canary] == EMPTY, 0.0, float(NUM_BOXES)),
        others_boxes=np.full(int((~in_canary).sum()), float(NUM_BOXES)),
    )


_COLUMNS = ("champion_ms", "challenger_ms", "champion_failed", "challenger_failed", "matched")


def _column(stream: Stream, name: str, first: int, num: int) -> Floats:
    pieces = range(first // PIECE, (first + num - 1) // PIECE + 1)
    values = np.concatenate([getattr(stream.piece(piece), name) for piece in pieces]).astype(np.float64)
    offset = first - pieces[0] * PIECE
    part: Floats = values[offset : offset + num]
    return part

"""Latencies in logarithmic buckets: percentiles to two percent, in a size that does not grow with the traffic."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from flows.rollout.eprocess import ln_e_share

_LN_STEP = math.log(1.02)


@dataclass(frozen=True)
class Latencies:
    """How many latencies fell into each bucket; a bucket is 2 % wide."""

    buckets: dict[int, int] = field(default_factory=dict)

    def plus(self, latencies_ms: Iterable[float | None]) -> Latencies:
        """With more latencies; None is nothing."""
        found = [math.floor(math.log(ms) / _LN_STEP) for ms in latencies_ms if ms is not None]
        if not found:
            return self
        buckets = dict(self.buckets)
        for bucket in found:
            buckets[bucket] = buckets.get(bucket, 0) + 1
        return Latencies(buckets)

    @property
    def num(self) -> int:
        """Latencies so far."""
        return sum(self.buckets.values())

    def percentile_ms(self, share: float) -> float | None:
        """The latency that `share` of the frames do not exceed; None before the first."""
        left = math.ceil(share * self.num)
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 0:
                return round(math.exp((bucket + 0.5) * _LN_STEP), 2)
        return None

    def interval_ms(self, share: float, alpha: float) -> tuple[float | None, float | None]:
        """Bounds of the percentile that hold at all looks together with probability 1 - alpha (F5).

        A latency stays between the bounds while its share of smaller ones is believable; None: no bound yet. The
        bounds are upper edges of buckets.
        """
        num, ln_needed, below = self.num, math.log(1 / alpha), 0
        low: float | None = None
        for bucket in sorted(self.buckets):
            below += self.buckets[bucket]
            if ln_e_share(num, below, share) >= ln_needed:
                edge_ms = math.exp((bucket + 1) * _LN_STEP)
                if below > share * num:
                    return low, edge_ms
                low = edge_ms
        return low, None

"""Latencies in logarithmic buckets: percentiles to two percent, in a size that does not grow with the traffic."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

_LN_STEP = math.log(1.02)


@dataclass(frozen=True)
class Latencies:
    """How many latencies fell into each bucket; a bucket is 2 % wide."""

    buckets: dict[int, int] = field(default_factory=dict)

    def plus(self, latency_ms: float | None) -> Latencies:
        """With one more latency; None leaves everything as it is."""
        if latency_ms is None:
            return self
        bucket = math.floor(math.log(latency_ms) / _LN_STEP)
        return Latencies({**self.buckets, bucket: self.buckets.get(bucket, 0) + 1})

    def percentile_ms(self, share: float) -> float | None:
        """The latency that `share` of the frames do not exceed; None before the first."""
        left = math.ceil(share * sum(self.buckets.values()))
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 0:
                return round(math.exp((bucket + 0.5) * _LN_STEP), 2)
        return None

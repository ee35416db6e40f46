"""How often a client may ask: a token bucket, kept as the one number by which it is exact.

The bucket holds `burst` tokens and gains `rate_per_s` of them; a request takes one. Instead of tokens the time is kept
at which the bucket would be full again (the generic cell rate algorithm of ATM Forum TM 4.0), in whole nanoseconds, so
that nothing is rounded: who waits as long as he is told is let in, and never earlier.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

MAX_CLIENTS = 10_000
_NS = 1_000_000_000


@dataclass(frozen=True)
class Limit:
    """Requests a second, and how many may come at once; by default one second's worth."""

    rate_per_s: float
    burst: int | None = None

    @property
    def depth(self) -> int:
        """Tokens of a full bucket."""
        return self.burst or max(1, math.ceil(self.rate_per_s))


class TokenBucket:
    """One client's bucket. The caller gives the time, of any monotonic clock."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._interval_ns = max(1, math.ceil(_NS / limit.rate_per_s))
        self._slack_ns = (limit.depth - 1) * self._interval_ns
        self._full_ns = 0

    def take(self, now_ns: int) -> int:
        """Take a token: 0 when there was one, else the time until there is one, ns."""
        full_ns = max(self._full_ns, now_ns)
        wait_ns = full_ns - now_ns - self._slack_ns
        if wait_ns > 0:
            return wait_ns
        self._full_ns = full_ns + self._interval_ns
        return 0


class AddressBuckets:
    """A bucket a client address. Of more than `max_clients` the one that was longest not heard of is forgotten."""

    def __init__(self, limit: Limit, max_clients: int = MAX_CLIENTS) -> None:
        self._limit = limit
        self._max_clients = max_clients
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, address: str, now_ns: int) -> int:
        """See `TokenBucket.take`."""
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = TokenBucket(self._limit)
            if len(self._buckets) > self._max_clients:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(address)
        return bucket.take(now_ns)

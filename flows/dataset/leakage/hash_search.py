"""Pairs of 64-bit hashes that differ in few bits, without comparing all with all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]
_BITS = 64
_COMPARISON = 8.0  # what comparing two hashes costs, in looks into a table; more also keeps crowds from forming
_WIDEST_BAND = 22  # bits; the table of a band has an entry per value


@dataclass(frozen=True)
class HashPairs:
    """Pairs of positions (first < second) whose hashes are alike; `mask` says after which change of the first one.

    `crowded` marks the hashes that have so many candidates that pairs of two such hashes were not looked at.
    """

    first: Positions  # (P,)
    second: Positions  # (P,)
    mask: Positions  # (P,) index into the masks that were asked for
    crowded: npt.NDArray[np.bool_]  # (N,)
    num_compared: int


@dataclass(frozen=True)
class _Band:
    """Some neighbouring bits of all hashes, and where in `order` the hashes with a given value of them lie."""

    shift: int
    width: int
    order: Positions  # (N,)
    starts: Positions  # (2 ** width + 1,)

    def values(self, hashes: Hashes) -> Positions:
        return ((hashes >> np.uint64(self.shift)) & np.uint64(2**self.width - 1)).astype(np.int64)


def near_hashes(hashes: Hashes, max_bits: int, masks: Sequence[int] = (0,), crowd: int | None = None) -> HashPairs:
    """All pairs of hashes that differ in at most `max_bits` bits after an exclusive or of one of them with a mask.

    Multi-index hashing (Norouzi, Punjani and Fleet 2012): of m bands, one differs in at most max_bits / m bits, so it
    is enough to look among the hashes that nearly share a band. The number of bands is that with the least expected
    work for as many random hashes.

    Args:
        hashes: (N,) unsigned 64-bit.
        max_bits: Largest distance, 0 to 63.
        masks: Changes that leave a frame the same, such as the bits that mirroring flips.
        crowd: A hash with more candidates than this is crowded; pairs of two crowded hashes are left out, so that at
            most N * crowd hashes are compared. None: nothing is left out.
    """
    num_bands = _cheapest_number_of_bands(len(hashes), max_bits)
    radius = max_bits // num_bands
    bands = [_band(hashes, *place) for place in _places(num_bands)]
    num_candidates = np.zeros(len(hashes), dtype=np.int64)
    if crowd is not None:
        for _, _, low, high in _probes(hashes, bands, radius, masks):
            num_candidates += high - low
    crowded = num_candidates > (crowd if crowd is not None else 0)
    asking = np.flatnonzero(~crowded)
    found: list[Positions] = []
    num_compared = 0
    for mask, band, low, high in _probes(hashes[asking], bands, radius, masks):
        rows, partners = _expanded(low, high, band.order)
        first, second = asking[rows], partners
        num_compared += len(first)
        distance = np.bitwise_count(hashes[first] ^ hashes[second] ^ np.uint64(masks[mask]))
        near = (distance <= max_bits) & (first != second)
        low_end, high_end = np.minimum(first[near], second[near]), np.maximum(first[near], second[near])
        found.append((low_end * len(hashes) + high_end) * len(masks) + mask)
    codes = np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)
    pairs, which = np.divmod(codes, len(masks))
    first, second = np.divmod(pairs, max(len(hashes), 1))
    return HashPairs(first, second, which, crowded, num_compared)


def _probes(
    hashes: Hashes, bands: Sequence[_Band], radius: int, masks: Sequence[int]
) -> Iterator[tuple[int, _Band, Positions, Positions]]:
    """For each mask, band and way to differ in it: from where to where in `band.order` the candidates of each lie."""
    for index, mask in enumerate(masks):
        for band in bands:
            values = band.values(hashes ^ np.uint64(mask))
            for pattern in _patterns(band.width, radius):
                bucket = values ^ pattern
                yield index, band, band.starts[bucket], band.starts[bucket + 1]


def _patterns(width: int, radius: int) -> Iterator[int]:
    """Numbers of `width` bits of which at most `radius` are set."""
    for count in range(min(radius, width) + 1):
        for places in combinations(range(width), count):
            yield sum(1 << place for place in places)


def _expanded(low: Positions, high: Positions, order: Positions) -> tuple[Positions, Positions]:
    """Each row with each entry of its stretch of `order`."""
    lengths = high - low
    rows = np.repeat(np.arange(len(low)), lengths)
    offsets = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return rows, order[low[rows] + offsets]


def _band(hashes: Hashes, shift: int, width: int) -> _Band:
    values = ((hashes >> np.uint64(shift)) & np.uint64(2**width - 1)).astype(np.int64)
    counts = np.bincount(values, minlength=2**width)
    starts = np.concatenate([[0], np.cumsum(counts)])
    return _Band(shift, width, np.argsort(values, kind="stable"), starts)


def _places(num_bands: int) -> list[tuple[int, int]]:
    """Shift and width of each band; together they are the 64 bits."""
    ends = [_BITS * index // num_bands for index in range(num_bands + 1)]
    return [(start, end - start) for start, end in pairwise(ends)]


def _cheapest_number_of_bands(num_hashes: int, max_bits: int) -> int:
    def cost(num_bands: int) -> float:
        width = math.ceil(_BITS / num_bands)
        ways = sum(math.comb(width, count) for count in range(min(max_bits // num_bands, width) + 1))
        return num_bands * ways * (1 + _COMPARISON * num_hashes / (1 << width))

    return min(range(math.ceil(_BITS / _WIDEST_BAND), max(max_bits + 1, 3) + 1), key=cost)

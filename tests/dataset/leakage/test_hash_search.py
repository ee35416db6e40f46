from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.dataset.leakage.hash_search import near_hashes

BITS = st.integers(0, 2**64 - 1)


@st.composite
def hashes_in_families(draw: st.DrawFn) -> list[int]:
    """Hashes of which many differ in few bits."""
    found = []
    for base in draw(st.lists(BITS, min_size=1, max_size=5)):
        for flips in draw(st.lists(st.sets(st.integers(0, 63), max_size=20), max_size=8)):
            found.append(base ^ sum(1 << flip for flip in flips))
    return found


def brute_force(hashes: list[int], max_bits: int, masks: tuple[int, ...]) -> set[tuple[int, int, int]]:
    return {
        (first, second, index)
        for first in range(len(hashes))
        for second in range(first + 1, len(hashes))
        for index, mask in enumerate(masks)
        if (hashes[first] ^ hashes[second] ^ mask).bit_count() <= max_bits
    }


def found(hashes: list[int], max_bits: int, masks: tuple[int, ...]) -> set[tuple[int, int, int]]:
    pairs = near_hashes(np.array(hashes, dtype=np.uint64), max_bits, masks)
    return set(zip(pairs.first.tolist(), pairs.second.tolist(), pairs.mask.tolist(), strict=True))


@given(hashes_in_families(), st.integers(0, 16), st.lists(BITS, min_size=1, max_size=3, unique=True).map(tuple))
@settings(max_examples=80, deadline=None)
def test_the_search_finds_what_brute_force_finds(hashes: list[int], max_bits: int, masks: tuple[int, ...]) -> None:
    assert found(hashes, max_bits, masks) == brute_force(hashes, max_bits, masks)


@pytest.mark.parametrize("max_bits", range(17))
def test_every_distance_up_to_the_limit_is_found_and_none_beyond(max_bits: int) -> None:
    rng = np.random.default_rng(max_bits)
    hashes = [0]
    for distance in range(20):
        for _ in range(5):
            hashes.append(sum(1 << int(place) for place in rng.choice(64, distance, replace=False)))
    assert found(hashes, max_bits, (0,)) == brute_force(hashes, max_bits, (0,))


@pytest.mark.parametrize("hashes", [[], [7]])
def test_few_hashes_have_no_pairs(hashes: list[int]) -> None:
    assert found(hashes, 8, (0,)) == set()


def test_comparisons_of_random_hashes_grow_far_slower_than_pairs() -> None:
    rng = np.random.default_rng(1)
    few, many = (near_hashes(rng.integers(0, 2**64, n, dtype=np.uint64), 8).num_compared for n in (1_000, 32_000))
    assert many / few < 32**1.5  # pairs grow with 32 ** 2
    assert many < 32_000**2 / 2 / 500


def test_a_crowd_costs_no_more_than_its_limit_and_loses_only_pairs_within_the_crowd() -> None:
    rng = np.random.default_rng(2)
    crowd = (rng.integers(0, 2**6, 600, dtype=np.uint64) << np.uint64(29)).tolist()  # one camera: six bits that change
    alone = rng.integers(0, 2**64, 100, dtype=np.uint64).tolist()
    alone += [hash_ ^ 0b111 for hash_ in alone]
    hashes = np.array(crowd + alone, dtype=np.uint64)
    pairs = near_hashes(hashes, 8, crowd=50)
    assert pairs.crowded[:600].all() and pairs.crowded[600:].sum() < 10  # some share a band with the crowd by chance
    assert pairs.num_compared <= 50 * len(hashes)
    crowded = pairs.crowded.tolist()
    near = brute_force(hashes.tolist(), 8, (0,))
    kept = {(first, second) for first, second, _ in near if not (crowded[first] and crowded[second])}
    assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == kept
    assert len(kept) >= 90

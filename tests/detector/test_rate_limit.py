"""The bucket holds its promise exactly, whatever the arrivals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.detector.rate_limit import AddressBuckets, Limit, TokenBucket

S = 1_000_000_000
limits = st.builds(Limit, st.floats(0.01, 10_000), st.one_of(st.none(), st.integers(1, 50)))
steps_ns = st.lists(st.integers(0, 5 * S), min_size=1, max_size=60)


@pytest.mark.parametrize(("rate", "burst", "depth"), [(50.0, None, 50), (0.2, None, 1), (2.5, None, 3), (1.0, 7, 7)])
def test_the_depth_is_one_seconds_worth_unless_given(rate, burst, depth) -> None:
    assert Limit(rate, burst).depth == depth


def test_a_burst_then_the_rate() -> None:
    bucket = TokenBucket(Limit(10.0, 3))
    assert [bucket.take(S) for _ in range(4)] == [0, 0, 0, S // 10]
    assert bucket.take(S + S // 10) == 0
    assert bucket.take(S + S // 10) == S // 10


@given(limits, steps_ns)
def test_no_window_holds_more_than_the_burst_and_what_flows_in(limit: Limit, steps: list[int]) -> None:
    bucket, now, granted = TokenBucket(limit), 0, []
    for step in steps:
        now += step
        if bucket.take(now) == 0:
            granted.append(now)
    for first, start in enumerate(granted):
        for last in range(first, len(granted)):
            flowed_in = (granted[last] - start) / S * limit.rate_per_s
            assert last - first + 1 <= limit.depth + flowed_in + 1e-6


@given(limits, steps_ns)
def test_the_told_wait_is_enough_and_no_shorter_one_is(limit: Limit, steps: list[int]) -> None:
    bucket, now = TokenBucket(limit), 0
    for step in steps:
        now += step
        wait = bucket.take(now)
        if wait:
            assert bucket.take(now + wait - 1) == 1
            now += wait
            assert bucket.take(now) == 0


@given(limits, steps_ns)
def test_a_refusal_costs_nothing(limit: Limit, steps: list[int]) -> None:
    one, other, now = TokenBucket(limit), TokenBucket(limit), 0
    for step in steps:
        now += step
        wait = one.take(now)
        assert wait == other.take(now)
        if wait:
            assert one.take(now) == wait


@given(limits, st.integers(0, 100))
def test_who_keeps_to_the_rate_is_never_refused(limit: Limit, start: int) -> None:
    bucket = TokenBucket(limit)
    interval = -(-S // limit.rate_per_s)
    assert all(bucket.take(start + int(index * interval) + index) == 0 for index in range(40))


def test_addresses_do_not_concern_each_other_and_are_bounded() -> None:
    buckets = AddressBuckets(Limit(1.0, 1), max_clients=2)
    assert [buckets.take(address, 0) for address in ("a", "b", "a")] == [0, 0, S]
    assert buckets.take("c", 0) == 0  # b, not a, was longest not heard of
    assert len(buckets) == 2
    assert buckets.take("a", 0) == S
    assert buckets.take("b", 0) == 0

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.loopback import Tally
from benchmarks.serving.climb import Step, climb, judge


class FakeService:
    """Stands rates up to `capacity`, with p99 that jumps beyond; remembers what it was asked."""

    def __init__(self, capacity: float, *, status: int = 200, bad_luck: frozenset[int] = frozenset()) -> None:
        self.capacity, self.status, self.bad_luck = capacity, status, bad_luck
        self.asked: list[tuple[float, float]] = []

    def __call__(self, rate: float, seconds: float) -> Step:
        self.asked.append((rate, seconds))
        unlucky = len(self.asked) - 1 in self.bad_luck
        latency_ms = 50.0 if rate <= self.capacity and not unlucky else 150.0 if unlucky else 500.0
        tally = Tally(seconds=seconds)
        for _ in range(100):
            tally.count(self.status, latency_ms)
        return judge(rate, tally, 100.0)


@given(capacity=st.floats(5.0, 500.0), first=st.floats(5.0, 500.0))
def test_finds_the_capacity_within_the_resolution_wherever_it_begins(capacity: float, first: float) -> None:
    found = climb(FakeService(capacity), first)
    if capacity < 0.2 * first:
        assert found.rate <= capacity
    else:
        assert capacity * (1 - 0.026) <= found.rate <= capacity


def test_a_rate_has_to_stand_for_longer_in_the_end() -> None:
    service = FakeService(100.0)
    found = climb(service, 50.0, step_s=4.0, confirm_s=8.0)
    assert service.asked[-1] == (found.rate, 8.0)
    assert [seconds for _, seconds in service.asked[:-1]] == [4.0] * (len(service.asked) - 1)


def test_a_narrow_failure_gets_a_second_try() -> None:
    lucky, unlucky = climb(FakeService(100.0), 50.0), climb(FakeService(100.0, bad_luck=frozenset({0})), 50.0)
    assert unlucky.rate == lucky.rate
    assert [step.passed for step in unlucky.steps[:2]] == [False, True]


def test_gives_way_when_the_confirmation_fails() -> None:
    plain = climb(FakeService(100.0), 50.0)
    last = len(plain.steps) - 1
    found = climb(FakeService(100.0, bad_luck=frozenset({last, last + 1})), 50.0)
    assert found.rate == pytest.approx(plain.rate * 0.975)


def test_errors_make_a_rate_hopeless_and_end_in_no_rate() -> None:
    service = FakeService(100.0, status=500)
    found = climb(service, 50.0)
    assert found.headline is None
    assert found.rate == 0
    assert all(step.is_hopeless for step in found.steps)
    assert len(service.asked) < 8


def test_judges_by_p99_and_by_every_answer() -> None:
    tally = Tally(seconds=1.0)
    for number in range(100):
        tally.count(200, 99.0 if number < 99 else 1000.0)
    assert judge(100.0, tally, 100.0).passed
    tally.count(200, 1000.0)
    assert not judge(100.0, tally, 100.0).passed
    one_error = Tally(seconds=1.0)
    for status in (200, 200, 429):
        one_error.count(status, 5.0)
    assert not judge(3.0, one_error, 100.0).passed

"""Progress over weighted steps: it never runs backwards while nothing is added, and ends at the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flows.exporting.steps import Steps


@given(st.lists(st.integers(1, 50), min_size=1, max_size=10))
def test_it_rises_to_the_end(weights: list[int]) -> None:
    told: list[tuple[int, int, str]] = []
    steps = Steps(lambda *one: told.append(one))
    steps.expect(sum(weights))
    for number, weight in enumerate(weights):
        steps.begin(weight, f"step {number}")
        steps.within(1, 2, "inside")
    steps.finish()
    done = [one[0] for one in told]
    assert done == sorted(done)
    assert {one[1] for one in told} == {10 * sum(weights)}
    assert told[-1] == (10 * sum(weights), 10 * sum(weights), "done")
    assert told[1][2] == "step 0"  # what happens inside is shown under the step's own name


def test_more_to_come_makes_the_way_longer() -> None:
    told: list[tuple[int, int, str]] = []
    steps = Steps(lambda *one: told.append(one))
    steps.expect(2)
    steps.begin(2, "first")
    steps.expect(3)
    steps.begin(3, "second")
    steps.finish()
    assert [one[:2] for one in told] == [(0, 20), (20, 50), (50, 50)]

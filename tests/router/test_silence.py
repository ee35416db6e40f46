from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.router.silence import ANSWERS_TO_RETURN, RETRY_AFTER_S, Silence


def hung(at_s: float = 1.0) -> Silence:
    silence = Silence(limit_s=1.0)
    silence.miss(at_s - 1.0, at_s)
    return silence


@pytest.mark.parametrize(
    ("waits", "expected"),
    [
        ([], False),
        ([(0.0, 0.5)], False),
        ([(0.0, 1.0)], True),
        ([(0.0, 0.999)], True),  # a timer of the loop may be a millisecond early
        ([(0.0, 0.5), (0.0, 0.5), (0.0, 0.5)], False),  # together, not one after the other
        ([(0.0, 0.5), (0.5, 1.0)], True),  # clients that leave before the budget is over
        ([(0.0, 0.5), (2.0, 2.4)], False),  # between them nobody waited
        ([(number / 10, number / 10 + 0.0001) for number in range(50)], False),  # refused at once
    ],
)
def test_only_time_in_which_somebody_waited_counts(waits: list[tuple[float, float]], expected: bool) -> None:
    silence = Silence(limit_s=1.0)
    for began_s, ended_s in waits:
        silence.miss(began_s, ended_s)
    assert silence.lasts(waits[-1][1] if waits else 0.0) is expected


def test_a_long_request_among_answered_ones_is_no_silence() -> None:
    silence = Silence(limit_s=1.0)
    silence.hear(0.8)
    silence.miss(0.0, 1.5)
    assert not silence.lasts(1.5)


def test_who_comes_back_answers_some_first() -> None:
    silence = hung()
    for number in range(ANSWERS_TO_RETURN):
        assert silence.lasts(2.0 + number / 10)
        silence.hear(2.0 + number / 10)
    assert not silence.lasts(3.0)


def test_a_relapse_starts_the_count_anew() -> None:
    silence = hung()
    for _ in range(ANSWERS_TO_RETURN - 1):
        silence.hear(2.0)
    silence.miss(2.0, 2.1)
    silence.hear(2.2)
    assert silence.lasts(2.2)


def test_who_was_not_asked_for_long_gets_another_chance_and_only_one() -> None:
    silence = hung(at_s=1.0)
    later_s = 1.0 + RETRY_AFTER_S
    assert not silence.lasts(later_s)
    silence.miss(later_s, later_s + 0.1)
    assert silence.lasts(later_s + 0.1)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3), st.floats(0, 3)), max_size=40))
def test_nobody_hangs_who_never_let_wait_for_the_limit_since_its_last_answer(
    steps: list[tuple[bool, float, float]],
) -> None:
    """The time unheard is never more than what passed since the last answer."""
    silence, now_s, last_heard_s = Silence(limit_s=1.0), 0.0, 0.0
    for answered, pause_s, wait_s in steps:
        began_s = now_s + pause_s
        now_s = began_s + wait_s
        if answered:
            was_silent = silence.lasts(now_s)
            silence.hear(now_s)
            last_heard_s = last_heard_s if was_silent else now_s
        else:
            silence.miss(began_s, now_s)
        if silence.lasts(now_s):
            assert now_s - last_heard_s >= 0.99 - 1e-9

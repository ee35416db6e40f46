from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.comparison.gate import Gate, GateState, decide

STATES: tuple[GateState, ...] = ("passed", "failed", "inconclusive", "insufficient", "not judged")
NAMES = ("accuracy", "slices", "precision", "recall", "calibration", "latency")


def gates(*states: GateState) -> list[Gate]:
    return [Gate(name=name, state=state, reason=f"{name} {state}") for name, state in zip(NAMES, states, strict=False)]


@pytest.mark.parametrize(("first", "second"), product(STATES, STATES))
def test_two_gates(first: GateState, second: GateState) -> None:
    if first == second == "not judged":
        with pytest.raises(ValueError, match="no gate was judged"):
            decide(gates(first, second))
        return
    verdict = decide(gates(first, second))
    if "failed" in (first, second):
        assert verdict.outcome == "reject"
    elif {first, second} & {"inconclusive", "insufficient"}:
        assert verdict.outcome == "inconclusive"
    else:
        assert verdict.outcome == "promote"


@given(st.lists(st.sampled_from(STATES), min_size=6, max_size=6))
def test_only_gates_that_passed_promote_and_all_are_named(states: list[GateState]) -> None:
    if set(states) == {"not judged"}:
        return
    verdict = decide(gates(*states))
    assert (verdict.outcome == "promote") == (set(states) <= {"passed", "not judged"})
    told = " ".join(verdict.reasons)
    assert all(name in told for name in NAMES)


def test_worst_news_come_first_and_the_order_of_the_gates_stays() -> None:
    verdict = decide(gates("passed", "inconclusive", "failed", "insufficient", "failed", "not judged"))
    assert verdict.reasons == (
        "precision failed",
        "calibration failed",
        "recall insufficient",
        "slices inconclusive",
        "accuracy passed",
        "not judged: latency (latency not judged)",
    )


def test_what_is_not_judged_for_one_reason_is_named_together() -> None:
    quiet = [Gate(name=name, state="not judged", reason="there is no champion") for name in ("slices", "recall")]
    verdict = decide([*gates("passed"), *quiet])
    assert verdict.reasons[1:] == ("not judged: slices, recall (there is no champion)",)

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.rollout.evidence import add_samples, enter_state, no_evidence
from flows.rollout.judge import Situation, judge
from flows.rollout.observations import Sample
from flows.rollout.states import Position, State

SHADOW, BAKE = Position(State.SHADOW), Position(State.BAKE)
FIRST, LAST = Position(State.CANARY, 0), Position(State.CANARY, 1)
FINE = Situation(challenger_alive=True, champion_alive=True, waited_s=1.0)
LATE = Situation(challenger_alive=True, champion_alive=True, waited_s=31.0)
GOOD = Sample(1, "shadow", False, 30.0, False, 30.0, 0.9)
MODES = {State.SHADOW: "shadow", State.CANARY: "canary", State.BAKE: "champion"}


def judged(params, position, samples, situation=FINE, **counts):
    evidence = add_samples(no_evidence(params), samples, MODES[position.state], params)
    return judge(evidence.model_copy(update=counts), params, position, situation)


def frames(position: Position, num: int, **changes) -> list[Sample]:
    values = {"failed": False, "latency_ms": 30.0, "champion_failed": False, "champion_ms": 30.0, "agreement": 0.9}
    if position == BAKE:
        values |= {"champion_failed": None, "champion_ms": None, "agreement": None}
    return [Sample(number, MODES[position.state], **(values | changes)) for number in range(1, num + 1)]


@pytest.mark.parametrize("position", [SHADOW, FIRST, LAST, BAKE], ids=str)
def test_no_data_waits_and_then_holds(params, position) -> None:
    waiting, held = judged(params, position, []), judged(params, position, [], LATE)
    assert (waiting.decision, held.decision) == ("wait", "hold")
    assert held.reasons[0].startswith("no verdict within 30 s: 0 of")


@pytest.mark.parametrize(("position", "needed"), [(SHADOW, 20), (FIRST, 8), (BAKE, 12)], ids=str)
def test_enough_good_frames_advance_and_one_less_does_not(params, position, needed: int) -> None:
    before, enough = (judged(params, position, frames(position, num)) for num in (needed - 1, needed))
    assert (before.decision, enough.decision) == ("wait", "advance")
    assert (enough.num, enough.num_needed) == (needed, needed)


def test_the_last_step_wants_errors_certified_rare(params) -> None:
    few, many = (judged(params, LAST, frames(LAST, num)) for num in (20, 40))
    assert few.decision == "wait"
    assert few.reasons == (few.figures[-1].text(),)
    assert many.decision == "advance"


@pytest.mark.parametrize(
    ("changes", "counts", "situation", "decision", "reason"),
    [
        ({}, {}, Situation(False, True, 1.0), "rollback", "the challenger's process is gone"),
        ({}, {}, Situation(False, False, 99.0), "rollback", "the challenger's process is gone"),
        ({}, {"failures_in_row": 5}, FINE, "rollback", "failed 5 frames in a row"),
        ({}, {}, Situation(True, False, 1.0), "hold", "the champion's process is gone"),
        ({}, {"champion_failures_in_row": 5}, FINE, "hold", "the champion failed 5 frames in a row"),
        ({"latency_ms": 200.0}, {}, FINE, "rollback", "latency: 100.0% of 30 frames"),
        ({"latency_ms": 200.0}, {}, Situation(True, False, 99.0), "rollback", "latency: 100.0%"),
        ({"agreement": 0.0}, {}, FINE, "rollback", "agreement: mean 0.000 over 30 pairs"),
        ({"agreement": 0.4}, {}, FINE, "wait", "agreement: mean 0.400"),
        ({"agreement": 0.4}, {}, LATE, "hold", "agreement: mean 0.400"),
        ({"latency_ms": 200.0, "champion_ms": 200.0}, {}, FINE, "advance", "30 frames judged"),
        ({"failed": True, "champion_failed": True, "agreement": None}, {}, LATE, "hold", "0 of 20 frames judged"),
        ({}, {"frames_in_state": 30, "unusable_in_state": 4}, LATE, "hold", "4 of 30 observations are incomplete"),
    ],
)
def test_verdicts(params, changes, counts, situation, decision: str, reason: str) -> None:
    verdict = judged(params, SHADOW, frames(SHADOW, 30, **changes), situation, **counts)
    assert verdict.decision == decision
    assert reason in " ".join(verdict.reasons)


def test_an_occasional_slow_frame_too_many_in_the_bake_waits(params) -> None:
    slow = [replace(one, seq=100) for one in frames(BAKE, 1, latency_ms=200.0)]
    assert judged(params, BAKE, frames(BAKE, 11) + slow).decision == "wait"
    assert judged(params, BAKE, frames(BAKE, 19) + slow).decision == "advance"


def test_nobody_advances_while_the_frames_so_far_speak_for_harm(params) -> None:
    slow = [replace(one, latency_ms=200.0) if one.seq % 6 == 1 else one for one in frames(SHADOW, 24)]
    verdict = judged(params, SHADOW, slow)
    assert verdict.decision == "wait"
    assert verdict.reasons[0].startswith("it leans to harm: latency: 16.7% of 24 frames")
    assert judged(params, SHADOW, slow, LATE).decision == "hold"


def test_boxes_found_in_the_shadow_are_no_excuse_for_none_in_the_canary(params) -> None:
    shadow = enter_state(add_samples(no_evidence(params), frames(SHADOW, 400, agreement=1.0), "shadow", params))
    evidence = add_samples(shadow, frames(FIRST, 8, agreement=0.0), "canary", params)
    verdict = judge(evidence, params, FIRST, FINE)
    assert verdict.decision == "wait"
    assert "agreement: mean 0.000 over 8 pairs" in verdict.reasons[0]


def test_evidence_of_earlier_states_still_counts_against(params) -> None:
    evidence = enter_state(add_samples(no_evidence(params), frames(SHADOW, 30, latency_ms=200.0), "shadow", params))
    assert judge(evidence, params, FIRST, FINE).decision == "rollback"


def test_the_same_input_gives_the_same_verdict(params) -> None:
    assert judged(params, SHADOW, [GOOD] * 25) == judged(params, SHADOW, [GOOD] * 25)

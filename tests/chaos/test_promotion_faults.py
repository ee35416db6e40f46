"""Detectors, telemetry and people that misbehave in the middle of a promotion."""

from __future__ import annotations

import os
import signal
import time

import pytest

from flows.adapters.processes import is_alive
from flows.rollout.record import read_record, verify_record
from tests.promotion.stack import Stack
from tests.promotion.street import wait_until

pytestmark = pytest.mark.chaos

IN_SHADOW, IN_CANARY = 5, 30
"""Frames after which the challenger's fault begins."""


@pytest.mark.parametrize("from_answer", [IN_SHADOW, IN_CANARY, 60], ids=["shadow", "canary", "later"])
@pytest.mark.parametrize("kind", ["die", "hang", "refuse", "garbled"])
def test_a_challenger_that_breaks_is_rolled_back(stack: Stack, kind: str, from_answer: int) -> None:
    stack.fault("2", kind, from_answer=from_answer)
    with stack.street() as street:
        report = stack.promote(params={"bake_frames": 60})
        assert report["outcome"] == "rolled_back", report["sentence"]
        since = time.time()
        street.wait_for_more(30)
        street.assert_none_lost()
    assert set(street.served_versions(since)) == {"1"}
    assert report["lost"] == 0
    stack.assert_settled_on("1")


def test_a_challenger_that_is_stopped_is_rolled_back(stack: Stack) -> None:
    """SIGSTOP: the kernel still takes connections for it."""
    with stack.street() as street:
        controller = stack.control()
        controller.wait_for("CANARY step 1")
        process = stack.detector("2")
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        assert controller.wait() == 0
        assert controller.last("report")["outcome"] == "rolled_back"
        street.assert_none_lost()
    wait_until(lambda: not is_alive(process), 20)
    stack.assert_settled_on("1")


def test_a_challenger_that_is_never_ready_sees_no_frame(stack: Stack) -> None:
    """It is given two minutes; an abort ends the wait at once."""
    stack.fault("2", "unready")
    with stack.street() as street:
        controller = stack.control()
        controller.wait_for("STAGING")
        street.wait_for_more(20)
        asked = stack.control("abort", reason="it does not start")
        assert asked.wait() == 0
        assert asked.last("asked")
        assert controller.wait() == 0
        assert controller.last("report")["outcome"] == "aborted"
        street.assert_none_lost()
    assert set(street.served_versions()) == {"1"}
    stack.assert_settled_on("1")


def test_a_challenger_that_is_not_ready_in_time_is_rolled_back(stack: Stack) -> None:
    stack.fault("2", "unready")
    with stack.street() as street:
        report = stack.promote(ready_limit_s=2.0)
        assert report["outcome"] == "rolled_back"
        assert "did not become ready" in report["sentence"]
        street.assert_none_lost()
    assert set(street.served_versions()) == {"1"}
    stack.assert_settled_on("1")


@pytest.mark.parametrize("from_answer", [0, IN_CANARY], ids=["from the start", "in the canary"])
def test_valid_but_empty_answers_are_found_by_their_agreement(stack: Stack, from_answer: int) -> None:
    stack.fault("2", "empty", from_answer=from_answer)
    with stack.street() as street:
        report = stack.promote(params={"canary_frames": 40})
        assert report["outcome"] == "rolled_back", report["sentence"]
        assert "agreement" in report["sentence"]
        assert report["frames_judged"] <= 400
        street.assert_none_lost()
    stack.assert_settled_on("1")


@pytest.mark.parametrize("from_answer", [0, IN_CANARY], ids=["from the start", "in the canary"])
def test_thirty_percent_slower_is_found_by_latency(stack: Stack, from_answer: int) -> None:
    """200 ms against 260 ms, and a budget between them."""
    stack.fault("1", "slower", value=196)
    stack.fault("2", "slower", value=196)
    with stack.street() as street:
        controller = stack.control(params={"latency_budget_ms": 232.0, "canary_frames": 40, "max_slow_share": 0.25})
        controller.wait_for("SHADOW")
        if from_answer:
            controller.wait_for("CANARY step 1")
        stack.fault("2", "slower", value=256)
        assert controller.wait() == 0
        report = controller.last("report")
        assert report["outcome"] == "rolled_back", report["sentence"]
        assert "latency" in report["sentence"]
        assert report["frames_judged"] <= 400
        street.assert_none_lost()
    stack.assert_settled_on("1")


def test_an_outage_of_both_rolls_nobody_back(stack: Stack) -> None:
    outage = stack.home / "outage"
    with stack.street() as street:
        controller = stack.control(params={"canary_frames": 60})
        controller.wait_for("CANARY step 1")
        outage.touch()
        assert controller.wait() == 0
        report = controller.last("report")
        assert report["outcome"] == "held", report["sentence"]
        assert "the champion failed" in report["sentence"]
        assert stack.registry.champion() == stack.registry.pointer()
        assert stack.running() == {"1", "2"}
        outage.unlink()
        over = time.time()
        street.wait_for_more(40)
        again = stack.promote()
        assert again["outcome"] == "promoted", again["sentence"]
        street.close()
    assert all(one.good for one in street.sent if one.at > over)
    stack.assert_settled_on("2")


@pytest.mark.parametrize("garble", ["lost", "missing", "nan", "misnamed"])
def test_telemetry_that_says_nothing_promotes_nobody(stack: Stack, garble: str) -> None:
    with stack.street() as street:
        report = stack.promote(garble=garble, params={"state_deadline_s": 4.0})
        assert report["outcome"] == "held"
        assert report["sentence"].startswith("version 2 held in SHADOW: no verdict within 4 s")
        assert stack.routed() == ("1", "2", "champion")
        street.wait_for_more(20)
        again = stack.promote()  # mended: it goes on where it was
        assert again["outcome"] == "promoted", again["sentence"]
        street.assert_none_lost()
    stack.assert_settled_on("2")


def test_telemetry_that_cannot_be_read_is_refused_before_the_start(stack: Stack) -> None:
    controller = stack.control(garble="misnamed page")
    assert controller.wait() == 3
    assert "observations lack" in controller.last("error")["message"]
    assert stack.running() == {"1"}
    assert stack.routed() == ("1", None, "champion")


def test_without_traffic_it_holds(stack: Stack) -> None:
    report = stack.promote(params={"state_deadline_s": 3.0})
    assert report["outcome"] == "held"
    assert "0 of 20 frames judged" in report["sentence"]
    assert stack.routed() == ("1", "2", "champion")
    assert stack.registry.history() == ["1"]


def test_traffic_that_stops_in_the_canary_holds(stack: Stack) -> None:
    with stack.street() as street:
        controller = stack.control(params={"canary_frames": 200, "state_deadline_s": 4.0})
        controller.wait_for("CANARY step 1")
        street.assert_none_lost()
    assert controller.wait() == 0
    assert controller.last("report")["outcome"] == "held"
    assert stack.routed() == ("1", "2", "champion")


@pytest.mark.parametrize("state", ["SHADOW", "CANARY step 1", "CANARY step 2"])
def test_the_champion_dies_and_the_challenger_answers_everybody(stack: Stack, state: str) -> None:
    with stack.street() as street:
        controller = stack.control(params={"shadow_frames": 60, "canary_frames": 60})
        controller.wait_for(state)
        street.wait_for_more(8)
        stack.kill("1")
        assert controller.wait() == 0
        report = controller.last("report")
        assert report["outcome"] == "held", report["sentence"]
        assert "the champion's process is gone" in report["sentence"]
        assert stack.running() == {"2"}
        assert stack.registry.history() == ["1"]
        since = time.time()
        street.wait_for_more(40)
        assert set(street.served_versions(since)) == {"2"}
        again = stack.promote()  # the champion is started again, and the comparison goes on
        assert again["outcome"] == "promoted", again["sentence"]
        street.assert_none_lost()
    stack.assert_settled_on("2")


def test_the_old_champion_dies_in_the_bake(stack: Stack) -> None:
    with stack.street() as street:
        controller = stack.control(params={"bake_frames": 500})
        controller.wait_for("BAKE")
        stack.kill("1")
        assert controller.wait() == 0
        report = controller.last("report")
        assert report["outcome"] == "held", report["sentence"]
        assert stack.routed()[0] == "2"
        street.wait_for_more(20)
        street.assert_none_lost()
    assert stack.registry.history() == ["1", "2"]


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_detector_dies_while_nobody_controls(stack: Stack, version: str) -> None:
    """The router falls back by itself; the next controller rolls back, or starts the champion again."""
    with stack.street() as street:
        controller = stack.control(params={"canary_frames": 300, "state_deadline_s": 60.0})
        controller.wait_for("CANARY step 1")
        controller.send(signal.SIGKILL)
        controller.wait()
        stack.kill(version)
        since = time.time()
        street.wait_for_more(60)
        assert set(street.served_versions(since)) == {"2" if version == "1" else "1"}
        report = stack.promote()
        if version == "1":
            assert report["outcome"] == "held", report["sentence"]
            assert stack.control("abort", reason="it is enough").wait() == 0
        else:
            assert report["outcome"] == "rolled_back", report["sentence"]
        street.assert_none_lost()
    stack.assert_settled_on("1")


def test_the_router_is_killed_and_comes_back(stack: Stack) -> None:
    """It goes on with the routing that it had written down; nobody is blamed for the gap."""
    with stack.street() as street:
        controller = stack.control(params={"canary_frames": 60, "state_deadline_s": 60.0})
        controller.wait_for("CANARY step 1")
        before = stack.routing()
        os.kill(stack.router.pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(stack.router))
        stack.start_router()
        back = time.time()
        assert stack.routing().champion == before.champion
        assert controller.wait() == 0, controller.said[-1:]
        report = controller.last("report")
        assert report["outcome"] == "promoted", report["sentence"]
        street.close()
    assert all(one.good for one in street.sent if one.at > back)
    stack.assert_settled_on("2")


def test_another_candidate_in_the_middle_of_a_canary_is_refused(stack: Stack) -> None:
    """While a controller lives, and when it was killed; and what was given up leaves no evidence behind."""
    with stack.street() as street:
        first = stack.control(params={"canary_frames": 300, "state_deadline_s": 60.0})
        first.wait_for("CANARY step 1")
        second = stack.control(challenger="3")
        assert second.wait() == 3
        first.send(signal.SIGKILL)
        first.wait()
        second = stack.control(challenger="3")
        assert second.wait() == 3
        assert "promotion 1 of version 2 is still open" in second.last("error")["message"]
        assert stack.running() == {"1", "2"}
        assert stack.control("abort", reason="another one is better").wait() == 0
        stack.assert_settled_on("1")
        report = stack.promote(challenger="3")
        assert (report["outcome"], report["promotion"]) == ("promoted", 2)
        street.assert_none_lost()
    stack.assert_settled_on("3", promotion=2)
    lines = read_record(stack.records / "2.jsonl")
    counted = [line["counts"] for line in lines if line["kind"] == "evidence" and line["samples"]]
    assert counted[0]["frames"] < 60, "evidence of another promotion was taken over"


@pytest.mark.parametrize("state", ["SHADOW", "CANARY step 1", "PROMOTING", "BAKE"])
def test_an_abort_wins(stack: Stack, state: str) -> None:
    """The controller is stopped as it enters the state, so that the request comes in the middle of it."""
    name, _, step = state.partition(" step ")
    match = f"<State.{name}: '{name}'>" + (f", step={int(step) - 1}" if step else "")
    with stack.street() as street:
        controller = stack.control(kill={"call": "move", "when": "after", "match": match, "signal": "SIGSTOP"})
        controller.wait_until_stopped()
        asked = stack.control("abort", reason="wrong weather")
        assert asked.wait() == 0
        assert asked.last("asked"), "a live controller holds the lease"
        controller.send(signal.SIGCONT)
        assert controller.wait() == 0
        assert controller.last("report")["outcome"] == "aborted"
        assert "wrong weather" in controller.last("report")["sentence"]
        street.assert_none_lost()
    stack.assert_settled_on("1")


def test_an_abort_wins_against_the_last_step_forward(stack: Stack) -> None:
    """Asked for after the verdict and before the point of no return."""
    with stack.street() as street:
        controller = stack.control(kill={"call": "move", "when": "before", "match": "DRAIN_OLD", "signal": "SIGSTOP"})
        controller.wait_until_stopped()
        assert stack.control("abort", reason="at the last moment").wait() == 0
        controller.send(signal.SIGCONT)
        assert controller.wait() == 0, controller.said[-1:]
        assert controller.last("report")["outcome"] == "aborted"
        street.assert_none_lost()
    stack.assert_settled_on("1")
    assert stack.registry.history() == ["1", "2", "1"]


def test_an_abort_that_comes_while_it_goes_into_a_hold(stack: Stack) -> None:
    controller = stack.control(
        kill={"call": "move", "when": "after", "match": "HOLD", "signal": "SIGSTOP"}, params={"state_deadline_s": 2.0}
    )
    controller.wait_until_stopped()
    asked = stack.control("abort", reason="nobody drives")
    assert asked.wait() == 0
    assert asked.last("asked")
    controller.send(signal.SIGCONT)
    assert controller.wait() == 0
    assert controller.last("report")["outcome"] == "aborted"
    stack.assert_settled_on("1")


def test_an_abort_after_the_alias_moved_takes_it_back(stack: Stack) -> None:
    with stack.street() as street:
        killed = stack.control(kill={"call": "complete", "when": "before", "match": "enthrone version 2"})
        assert killed.wait() == -signal.SIGKILL
        assert stack.registry.history() == ["1", "2"]
        aborted = stack.control("abort", reason="a second thought")
        assert aborted.wait() == 0
        assert aborted.last("report")["outcome"] == "aborted"
        street.assert_none_lost()
    stack.assert_settled_on("1")


def test_an_abort_past_the_point_of_no_return_is_refused(stack: Stack) -> None:
    with stack.street() as street:
        controller = stack.control(kill={"call": "move", "when": "after", "match": "DRAIN_OLD", "signal": "SIGSTOP"})
        controller.wait_until_stopped()
        late = stack.control("abort", reason="too late")
        assert late.wait() == 2
        assert "tca rollback" in late.last("error")["message"]
        controller.send(signal.SIGCONT)
        assert controller.wait() == 0
        assert controller.last("report")["outcome"] == "promoted"
        street.assert_none_lost()
    stack.assert_settled_on("2")


@pytest.mark.parametrize("hold_s", [3.0, 20.0], ids=["within the deadline", "longer than the deadline"])
def test_a_long_request_at_the_drain_deadline_is_answered(stack: Stack, hold_s: float) -> None:
    """By the old champion if it can within the deadline; else the new one is asked in its place."""
    with stack.street() as street:
        controller = stack.control(kill={"call": "move", "when": "after", "match": "PROMOTING", "signal": "SIGSTOP"})
        controller.wait_until_stopped()
        with stack.street(num_cameras=4, fps=2.0, hold_s=hold_s) as slow:
            wait_until(lambda: len(slow.sent) >= 4)
            wait_until(lambda: stack.traffic.stats()["in_flight"]["champion"] >= 2)
            slow._stop.set()
            controller.send(signal.SIGCONT)
            assert controller.wait() == 0
            assert controller.last("report")["outcome"] == "promoted"
            slow.assert_none_lost()
        street.assert_none_lost()
    stack.assert_settled_on("2")
    assert verify_record(stack.records / "1.jsonl").passed

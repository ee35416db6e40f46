"""Promotions between real processes while cameras send: the ones that every change must pass."""

from __future__ import annotations

from tests.promotion.stack import Stack

FORWARD = [
    *("OFFLINE_GATE", "STAGING", "SHADOW", "CANARY step 1", "CANARY step 2"),
    *("PROMOTING", "BAKE", "DRAIN_OLD", "DONE"),
]


def test_a_good_challenger_comes_to_the_throne_and_no_frame_is_lost(stack: Stack) -> None:
    with stack.street() as street:
        report = stack.promote()
        assert report["outcome"] == "promoted", report["sentence"]
        assert stack.transitions() == FORWARD
        street.wait_for_more(20)
        street.assert_none_lost()
    assert set(street.served_versions()) == {"1", "2"}
    stack.assert_settled_on("2")


def test_a_controller_killed_in_the_middle_of_an_effect_is_replaced(stack: Stack) -> None:
    with stack.street() as street:
        killed = stack.control(kill={"call": "route", "when": "after", "match": "canary"})
        assert killed.wait() == -9
        assert stack.entry().position.state == "CANARY"
        assert stack.effects()["route canary 25%, champion 1"] == "INTENT"
        assert stack.routed() == ("1", "2", "canary")
        report = stack.promote()
        assert report["outcome"] == "promoted", report["sentence"]
        street.assert_none_lost()
    assert stack.effects()["route canary 25%, champion 1"] == "DONE"
    stack.assert_settled_on("2")


def test_a_challenger_that_dies_under_load_is_rolled_back_and_no_frame_is_lost(stack: Stack) -> None:
    stack.fault("2", "die", from_answer=30)
    with stack.street() as street:
        report = stack.promote()
        assert report["outcome"] == "rolled_back", report["sentence"]
        street.wait_for_more(20)
        street.assert_none_lost()
    stack.assert_settled_on("1")

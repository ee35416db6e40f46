"""People in a promotion: agreeing, refusing, not answering, holding, resuming."""

from __future__ import annotations

import pytest

from flows.adapters.fake_traffic import Behaviour
from flows.errors import ProjectError
from flows.rollout.approvals import answer_at, gate_before, gate_of
from flows.rollout.journal import Approval, Journal, open_journal
from flows.rollout.record import read_record, verify_record
from flows.rollout.states import Position, Route, State

SLOW = Behaviour(latency_ms=400.0, sigma=0.01)


class Killed(BaseException):
    """What SIGKILL looks like from inside: nothing more runs."""


@pytest.mark.parametrize(
    ("approval", "has_champion", "gate"),
    [
        ("none", True, None),
        ("canary", True, State.CANARY),
        ("promoting", True, State.PROMOTING),
        ("canary", False, State.PROMOTING),
        ("promoting", False, State.PROMOTING),
    ],
)
def test_where_somebody_must_agree(make_params, approval: str, has_champion: bool, gate: State | None) -> None:
    params, way = make_params(approval=approval), Route(2, has_champion)
    assert gate_of(way, params) is gate
    positions = [Position(state) for state in State] + [Position(State.CANARY, 1)]
    assert [one for one in positions if gate_before(one, way, params)] == ([Position(gate)] if gate else [])
    assert gate_before(None, way, params) is None


def test_a_refusal_outweighs_any_agreement() -> None:
    yes, no = (Approval("CANARY", agreed, "anna", "cli", None, 1.0) for agreed in (True, False))
    assert answer_at(State.CANARY, [yes, no]) is no
    assert answer_at(State.CANARY, [yes]) is yes
    assert answer_at(State.PROMOTING, [yes, no]) is None


def asked_at(one, gate: str, then, after: int = 1):
    """Do something the `after`-th time that somebody is asked there."""
    seen = []

    def watch(event) -> None:
        one.events.append(event)
        if event.awaits == gate:
            seen.append(event)
            if len(seen) == after:
                then()

    return watch


@pytest.mark.parametrize(
    ("approval", "gate", "state"), [("canary", "CANARY", "SHADOW"), ("promoting", "PROMOTING", "CANARY step 2")]
)
def test_it_waits_for_an_agreement_and_goes_on_watching(rollout, make_params, approval, gate, state) -> None:
    one = rollout(params=make_params(approval=approval))
    report = one.run(on_event=asked_at(one, gate, lambda: one.answer(gate), after=200))
    assert report.outcome == "promoted"
    asked = [event for event in one.events if event.awaits]
    assert {event.state for event in asked} == {state}
    assert asked[-1].num > asked[0].num + 500, "evidence is gathered while it waits"
    told = [line for line in read_record(one.record) if line["kind"] in ("asked", "approval")]
    assert [line["kind"] for line in told] == ["asked", "approval"]
    assert told[1]["sentence"] == f"anna agreed to {gate} (cli)"
    checked = verify_record(one.record, one.view())
    assert checked.passed, checked.problem
    assert (checked.num_approvals, checked.unchecked) == (1, ())


def test_a_wait_of_hours_stays_small_in_the_record(rollout, make_params) -> None:
    one = rollout(params=make_params(approval="canary"), num_cameras=2, fps=0.5)
    one.run(on_event=asked_at(one, "CANARY", lambda: one.answer("CANARY"), after=2000))
    verdicts = [line for line in read_record(one.record) if line["kind"] == "verdict" and line["state"] == "SHADOW"]
    assert len(verdicts) < 60


def test_harm_rolls_back_while_somebody_thinks(rollout, make_params) -> None:
    one = rollout(Behaviour(from_answer=60, then=SLOW), params=make_params(approval="canary"))
    report = one.run()
    assert (report.outcome, report.lost) == ("rolled_back", 0)
    assert any(event.awaits for event in one.events)
    one.assert_settled_on("1")


def test_a_refusal_gives_the_promotion_up(rollout, make_params) -> None:
    one = rollout(params=make_params(approval="promoting"))
    report = one.run(on_event=asked_at(one, "PROMOTING", lambda: one.answer("PROMOTING", agreed=False)))
    assert (report.outcome, report.passed) == ("aborted", False)
    assert report.sentence == "version 2 aborted: anna did not agree to PROMOTING (cli) (in CANARY step 2)"
    one.assert_settled_on("1")
    assert verify_record(one.record, one.view()).passed


@pytest.mark.parametrize("deadline_s", [0.0, 100.0])
def test_nobody_answers_in_time(rollout, make_params, deadline_s: float) -> None:
    one = rollout(params=make_params(approval="canary", approval_deadline_s=deadline_s))
    report = one.run()
    assert (report.outcome, report.awaits_approval) == ("held", "canary")
    assert report.sentence == f"version 2 held in SHADOW: nobody agreed to CANARY within {deadline_s:g} s"
    assert one.routed() == ("1", "2", "champion")
    one.answer("CANARY")
    report = one.run()
    assert (report.outcome, report.awaits_approval) == ("promoted", None)
    assert verify_record(one.record, one.view()).passed


def test_who_can_answer_at_once_is_asked_even_where_nobody_waits(rollout, make_params) -> None:
    one = rollout(params=make_params(approval="canary", approval_deadline_s=0.0))
    report = one.run(on_event=asked_at(one, "CANARY", lambda: one.answer("CANARY", who="ci", token="signed")))
    assert report.outcome == "promoted"


def test_a_refusal_in_the_last_instant(rollout, make_params) -> None:
    one = rollout(params=make_params(approval="canary"))
    one.answer_after = []

    def wrap(journal):
        save_verdict = journal.save_verdict

        def refused(*given) -> None:
            save_verdict(*given)
            if not one.answer_after:
                one.answer_after.append(one.answer("CANARY", agreed=False, who="bert"))

        journal.save_verdict = refused
        return journal

    report = one.run(wrap=wrap, on_event=asked_at(one, "CANARY", lambda: one.answer("CANARY")))
    assert report.sentence == "version 2 aborted: bert did not agree to CANARY (in SHADOW)"
    one.assert_settled_on("1")
    checked = verify_record(one.record, one.view())
    assert checked.passed, checked.problem


def test_an_answer_may_come_before_the_question(rollout, make_params) -> None:
    one = rollout(params=make_params(approval="promoting"))
    answered = []

    def early(event) -> None:
        assert not event.awaits
        if event.state == "SHADOW" and not answered:
            answered.append(one.answer("PROMOTING"))

    assert one.run(on_event=early).outcome == "promoted"


def test_the_first_champion_needs_an_agreement_too(rollout, make_params) -> None:
    one = rollout(params=make_params(approval="canary"), has_champion=False)
    report = one.run(on_event=asked_at(one, "PROMOTING", lambda: one.answer("PROMOTING"), after=3))
    assert report.outcome == "promoted"
    checked = verify_record(one.record, one.view())
    assert (checked.passed, checked.num_approvals) == (True, 1)


def test_a_first_champion_that_dies_while_somebody_thinks(rollout, make_params) -> None:
    one = rollout(params=make_params(approval="canary"), has_champion=False)
    report = one.run(on_event=asked_at(one, "PROMOTING", lambda: one.traffic.kill("2")))
    assert report.sentence == "version 2 rolled back in STAGING: the process of version 2 is gone"
    assert verify_record(one.record, one.view()).passed


def test_a_first_champion_that_is_refused(rollout, make_params) -> None:
    one = rollout(params=make_params(approval="promoting"), has_champion=False)
    report = one.run(on_event=asked_at(one, "PROMOTING", lambda: one.answer("PROMOTING", agreed=False)))
    assert (report.outcome, set(one.traffic.processes)) == ("aborted", set())
    assert verify_record(one.record, one.view()).passed


def test_a_token_counts_once(rollout, make_params) -> None:
    one = rollout(params=make_params(approval="canary", approval_deadline_s=0.0))
    one.run()
    one.answer("CANARY", token="signed")
    with pytest.raises(ProjectError, match="has approved promotion 1 already"):
        one.answer("CANARY", token="signed")


@pytest.mark.parametrize("state", ["OFFLINE_GATE", "STAGING", "SHADOW", "CANARY step 2", "PROMOTING", "BAKE"])
def test_a_hold_stays_until_somebody_resumes(rollout, state: str) -> None:
    one = rollout()

    def ask(event) -> None:
        if event.state == state:
            with open_journal(one.journal_path) as journal:
                journal.request_hold(1, "fog", one.clock.now())

    report = one.run(on_event=ask)
    held_in = "BAKE" if state == "PROMOTING" and "BAKE" in report.sentence else state
    assert (report.outcome, report.sentence) == ("held", f"version 2 held in {held_in}: fog")
    reigns = "2" if held_in == "BAKE" else "1"
    assert one.routed()[0] == reigns
    assert one.routed()[2] == "champion"
    assert one.run().outcome == "held", "the same command does not lift what a person put on"
    assert one.resume(lifts_hold=True).outcome == "promoted"
    one.assert_settled_on("2")
    assert verify_record(one.record, one.view()).passed


def test_a_hold_from_outside_when_nobody_runs_it(rollout) -> None:
    one = rollout()

    def die(event) -> None:
        if event.state == "CANARY step 1":
            raise Killed

    with pytest.raises(Killed):
        one.run(on_event=die)
    assert one.routed()[2] == "shadow"
    one.clock.sleep(31)
    report = one.hold()
    assert report is not None
    assert (report.outcome, one.routed()) == ("held", ("1", "2", "champion"))


def test_an_abort_beats_a_hold(rollout) -> None:
    one = rollout()

    def ask(event) -> None:
        if event.state == "CANARY step 1":
            with open_journal(one.journal_path) as journal:
                journal.request_hold(1, "fog", one.clock.now())
                journal.request_abort(1, "storm")

    assert one.run(on_event=ask).sentence == "version 2 aborted: storm (in CANARY step 1)"
    one.assert_settled_on("1")


def test_harm_beats_a_hold(rollout) -> None:
    """A verdict of harm that was written before a crash is carried out, whatever anybody wants meanwhile."""
    one = rollout(Behaviour(from_answer=26, then=SLOW))

    def is_harm(line) -> bool:
        return line["kind"] == "verdict" and line["verdict"]["decision"] == "rollback"

    class DiesAfterTheVerdict:
        def __init__(self, journal: Journal) -> None:
            self._journal = journal

        def __getattr__(self, name: str):
            if name == "move" and any(map(is_harm, read_record(one.record))):
                raise Killed
            return getattr(self._journal, name)

    with pytest.raises(Killed):
        one.run(wrap=DiesAfterTheVerdict)
    one.traffic.behaviours = {}  # it recovers
    one.clock.sleep(60)
    with open_journal(one.journal_path) as journal:
        journal.request_hold(1, "fog", one.clock.now())
    report = one.run()
    assert report.outcome == "rolled_back"
    assert "latency" in report.sentence
    one.assert_settled_on("1")
    assert verify_record(one.record, one.view()).passed

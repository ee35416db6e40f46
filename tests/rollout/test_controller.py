from __future__ import annotations

import itertools
import math
import os

import pytest

from flows.adapters.fake_traffic import Behaviour, FakeClock
from flows.errors import Conflict, OutsideError, ProjectError, ServiceError
from flows.rollout.controller import report_closed, run_promotion
from flows.rollout.journal import latest_promotions, open_journal
from flows.rollout.leases import this_process
from flows.rollout.record import read_record, verify_record
from flows.rollout.traffic import Contender

ALL_STATES = [
    *("OFFLINE_GATE", "STAGING", "SHADOW", "CANARY step 1", "CANARY step 2"),
    *("PROMOTING", "BAKE", "DRAIN_OLD", "DONE"),
]
SLOW, FAILING, EMPTY = Behaviour(latency_ms=180.0), Behaviour(fail_share=0.5), Behaviour(miss_share=1.0)
BEGAN = FakeClock().now()


def states(report) -> list[str]:
    return [passed.state for passed in report.states]


def test_a_clean_promotion(rollout) -> None:
    one = rollout()
    report = one.run()
    assert (report.passed, report.outcome, states(report)) == (True, "promoted", ALL_STATES)
    one.assert_settled_on("2")
    assert one.registry.previous is not None
    assert one.registry.previous.version == "1"
    assert (report.lost, one.traffic.num_lost) == (0, 0)
    assert report.sentence.startswith("version 2 promoted over version 1 on ")
    assert report.frames_judged > 20 + 8 + 8 + 12
    assert 20 < (report.latency_ms.p50 or 0) < 40 < (report.champion_latency_ms.p99 or 0) < 80
    assert verify_record(one.record).passed
    assert latest_promotions(one.journal_path, 1)[0]["state"] == "DONE"


def test_the_share_only_grows_and_each_increase_follows_a_verdict(rollout) -> None:
    one = rollout()
    one.run()
    modes = [(snapshot.mode, snapshot.share) for snapshot in one.traffic.history[1:]]
    assert modes == [("shadow", 0.0), ("canary", 0.1), ("canary", 0.5), ("champion", 0.0), ("champion", 0.0)]
    orders = [snapshot.order for snapshot in one.traffic.history]
    assert orders == sorted(set(orders))
    before = None
    for line in read_record(one.record):
        if (
            line["kind"] == "state"
            and line["event"] == "advance"
            and line["left"].startswith(("SHADOW", "CANARY", "BAKE"))
        ):
            assert (before["kind"], before["verdict"]["decision"]) == ("verdict", "advance")
        before = line


def test_the_watcher_sees_where_it_is(rollout) -> None:
    one = rollout()
    one.run()
    seen = {event.state: event for event in one.events}
    assert set(ALL_STATES) <= set(seen)
    assert (seen["CANARY step 2"].share, seen["CANARY step 2"].num_needed) == (0.5, 8)
    assert [figure.metric for figure in seen["SHADOW"].evidence][:2] == ["errors", "latency"]


def test_a_first_champion_needs_no_traffic(rollout) -> None:
    one = rollout(has_champion=False)
    report = one.run()
    assert states(report) == ["OFFLINE_GATE", "STAGING", "PROMOTING", "DONE"]
    assert report.sentence == "version 2 is the first champion"
    one.assert_settled_on("2")


@pytest.mark.parametrize("behaviour", [Behaviour(becomes_ready=False), Behaviour(digest="c" * 64)])
@pytest.mark.parametrize("has_champion", [True, False])
def test_a_challenger_that_does_not_serve_never_sees_a_frame(rollout, behaviour, has_champion: bool) -> None:
    one = rollout(behaviour, has_champion=has_champion)
    report = one.run()
    assert (report.outcome, states(report)) == (
        "rolled_back",
        ["OFFLINE_GATE", "STAGING", "ROLLING_BACK", "ROLLED_BACK"],
    )
    assert report.frames_judged == 0
    if has_champion:
        one.assert_settled_on("1")
    assert "2" not in one.traffic.processes


@pytest.mark.parametrize(
    ("behaviour", "metric"),
    [
        (SLOW, "latency"),
        (FAILING, "errors"),
        (EMPTY, "agreement"),
        (Behaviour(from_answer=26, then=SLOW), "latency"),
        (Behaviour(from_answer=26, then=Behaviour(fail_share=1.0)), "failed 5 frames in a row"),
    ],
)
def test_a_bad_challenger_is_rolled_back_and_nothing_is_lost(rollout, behaviour, metric: str) -> None:
    one = rollout(behaviour)
    report = one.run()
    assert (report.passed, report.outcome) == (False, "rolled_back")
    assert metric in report.sentence
    assert one.traffic.num_lost == 0
    one.assert_settled_on("1")
    assert verify_record(one.record).passed


def test_a_challenger_that_turns_bad_in_the_bake_loses_the_throne_again(rollout) -> None:
    one = rollout(Behaviour(from_answer=44, then=Behaviour(latency_ms=500.0, sigma=0.01)))
    report = one.run()
    assert report.outcome == "rolled_back"
    assert "rolled back in BAKE" in report.sentence
    one.assert_settled_on("1")


def test_users_get_the_champion_before_the_challenger_is_stopped(rollout) -> None:
    one = rollout(Behaviour(from_answer=26, then=SLOW))
    one.run()
    effects = [line["sentence"] for line in read_record(one.record) if line["kind"] == "effect"]
    assert effects[-2:] == ["route champion, champion 1", "stop version 2"]


def lose(_entry):
    return None


def garbled(key: str, value):
    def garble(entry):
        if entry["candidate"]:
            entry = {**entry, "candidate": {**entry["candidate"], key: value}}
        return entry

    return garble


@pytest.mark.parametrize(
    "options",
    [
        {"num_cameras": 0},
        {"garble": lose},
        {"garble": garbled("latency_ms", None)},
        {"garble": garbled("latency_ms", math.nan)},
        {"garble": garbled("version", "misnamed")},
        {"garble": lambda entry: {**entry, "candidate": None}},
    ],
    ids=["no traffic", "lost", "null", "nan", "misnamed", "no copies"],
)
def test_missing_data_holds_and_never_promotes(rollout, options) -> None:
    one = rollout(**options)
    report = one.run()
    assert (report.passed, report.outcome, states(report)[-1]) == (False, "held", "HOLD")
    assert report.sentence.startswith("version 2 held in SHADOW: no verdict within 30 s: 0 of 20 frames judged")
    assert one.reigning() == "1"
    assert one.routed() == ("1", "2", "champion")


def test_a_router_without_observations_is_refused_before_the_start(rollout) -> None:
    one = rollout()
    one.traffic.observations = lambda after: {"data": []}
    with pytest.raises(ServiceError, match="of different versions"):
        one.run()
    assert set(one.traffic.processes) == {"1"}


def test_a_held_promotion_goes_on_where_it_was(rollout) -> None:
    one = rollout()
    one.traffic.at(3.0, lambda: setattr(one.traffic, "garble", lose))
    assert one.run().sentence.startswith("version 2 held in CANARY step 1")
    held_with = one.events[-1]
    one.traffic.garble = lambda entry: entry
    report = one.run()
    assert report.outcome == "promoted"
    assert "HOLD" in states(report)
    assert held_with.state == "HOLD (in CANARY step 1)"
    assert report.frames_judged > 48
    one.assert_settled_on("2")
    assert verify_record(one.record).passed


@pytest.mark.parametrize("fault", ["slow", "outage"])
def test_what_hits_both_arms_is_not_held_against_the_challenger(rollout, fault: str) -> None:
    one = rollout(shared_fault=lambda time_s: fault if BEGAN + 2 < time_s < BEGAN + 6 else "")
    report = one.run()
    if fault == "outage":
        assert (report.outcome, one.reigning()) == ("held", "1")
        assert "the champion failed" in report.sentence
        one.clock.sleep(5)
        report = one.run()
    assert report.outcome == "promoted"


def test_the_champion_dies_and_the_challenger_stands_in(rollout) -> None:
    one = rollout()
    one.traffic.at(4.0, lambda: one.traffic.kill("1"))
    report = one.run()
    assert report.sentence == (
        "version 2 held in CANARY step 1: the champion's process is gone: nothing to compare with or to fall back on; "
        "the challenger answers all frames meanwhile"
    )
    assert one.routed() == ("2", None, "champion")
    lost = one.traffic.num_lost
    one.clock.sleep(5)
    assert one.traffic.stats()
    assert one.traffic.num_lost == lost
    report = one.run()  # the champion is started again
    assert report.outcome == "promoted"
    one.assert_settled_on("2")


def test_a_champion_that_hangs_is_stood_in_for_until_it_is_ready_again(rollout) -> None:
    one = rollout()
    one.traffic.at(4.0, lambda: one.traffic.behaviours.update({"1": Behaviour(fail_share=1.0, becomes_ready=False)}))
    report = one.run()
    assert report.outcome == "held"
    assert "frames in a row; the challenger answers all frames meanwhile" in report.sentence
    assert one.routed() == ("2", None, "champion")
    with pytest.raises(ServiceError, match=r"version 1 did not become ready.*stays in HOLD"):
        one.run()
    assert (one.routed(), one.traffic.num_lost) == (("2", None, "champion"), 0)
    one.traffic.behaviours.pop("1")
    assert one.run().outcome == "promoted"
    assert verify_record(one.record).passed


def test_both_down_nobody_stands_in(rollout) -> None:
    one = rollout()
    down = Behaviour(fail_share=1.0, becomes_ready=False)
    one.traffic.at(4.0, lambda: one.traffic.behaviours.update({"1": down, "2": down}))
    report = one.run()
    assert report.outcome == "held"
    assert "answers all frames" not in report.sentence
    assert one.routed() == ("1", "2", "champion")


@pytest.mark.parametrize("after_s", [1.0, 4.0])
def test_the_challenger_dies_and_nobody_notices(rollout, after_s: float) -> None:
    one = rollout()
    one.traffic.at(after_s, lambda: one.traffic.kill("2"))
    report = one.run()
    assert (report.outcome, one.traffic.num_lost) == ("rolled_back", 0)
    one.assert_settled_on("1")


def test_two_controllers_one_leaves(rollout) -> None:
    one = rollout()
    refused = []

    def second(event) -> None:
        if event.state == "SHADOW" and not refused:
            with pytest.raises(Conflict, match="promotions are held by process") as caught:
                one.run(on_event=lambda event: None)
            refused.append(caught)

    assert one.run(on_event=second).outcome == "promoted"
    assert refused


def test_a_controller_that_slept_past_its_lease_changes_nothing(rollout) -> None:
    one = rollout()
    reports = []

    def sleep_while_another_works(event) -> None:
        if event.state == "CANARY step 1" and not reports:
            one.clock.sleep(60)
            reports.append(None)
            reports.append(one.run(on_event=lambda event: None))

    with pytest.raises(Conflict, match="was taken over"):
        one.run(on_event=sleep_while_another_works)
    assert reports[1].outcome == "promoted"
    one.assert_settled_on("2")
    assert verify_record(one.record).passed


def test_the_router_refuses_a_stale_epoch(rollout) -> None:
    one = rollout()
    one.run()
    later = one.traffic.snapshot
    with pytest.raises(Conflict, match="stale"):
        one.traffic.route(later.model_copy(update={"epoch": later.epoch - 1, "generation": 99}))
    assert one.traffic.snapshot == later


def test_the_epoch_exceeds_the_routers_even_with_a_new_journal(rollout) -> None:
    one = rollout()
    one.traffic.snapshot = one.traffic.snapshot.model_copy(update={"epoch": 41})
    one.run()
    assert one.traffic.snapshot.epoch == 42


def test_somebody_else_changing_the_routing_is_noticed(rollout) -> None:
    one = rollout()

    def meddle() -> None:
        now = one.traffic.snapshot
        one.traffic.snapshot = now.model_copy(update={"share": 1.0, "mode": "canary", "generation": now.generation + 1})

    one.traffic.at(1.0, meddle)
    assert one.run().sentence == "version 2 held in SHADOW: somebody else changed the routing"
    assert one.routed() == ("1", "2", "champion")


@pytest.mark.parametrize("state", ["SHADOW", "CANARY step 2", "PROMOTING", "BAKE"])
def test_abort_wins(rollout, state: str) -> None:
    one = rollout()

    def ask(event) -> None:
        if event.state == state:
            with open_journal(one.journal_path) as journal:
                journal.request_abort(1, "wrong weather")

    report = one.run(on_event=ask)
    assert report.outcome == "aborted"
    assert report.sentence == f"version 2 aborted: wrong weather (in {state})"
    one.assert_settled_on("1")


def test_an_abort_after_the_point_of_no_return_comes_too_late(rollout) -> None:
    one = rollout()

    def ask(event) -> None:
        if event.state == "DRAIN_OLD":
            with open_journal(one.journal_path) as journal, pytest.raises(ProjectError, match="reigns already"):
                journal.request_abort(1, "too late")

    assert one.run(on_event=ask).outcome == "promoted"
    one.assert_settled_on("2")


def test_a_held_promotion_is_aborted_from_outside(rollout) -> None:
    one = rollout(num_cameras=0)
    one.run()
    report = one.abort()
    assert report is not None
    assert report.outcome == "aborted"
    one.assert_settled_on("1")
    with pytest.raises(ProjectError, match="no promotion is open"):
        one.abort()
    with pytest.raises(ProjectError, match="no promotion is open"):
        one.resume()


def test_a_running_promotion_is_asked_to_abort(rollout) -> None:
    one = rollout()
    answers = []

    def ask(event) -> None:
        if event.state == "SHADOW" and not answers:
            answers.append(one.abort())

    assert one.run(on_event=ask).outcome == "aborted"
    assert answers == [None]


def test_another_challenger_is_refused_while_one_is_open(rollout) -> None:
    one = rollout(num_cameras=0)
    one.run()
    with pytest.raises(Conflict, match=r"promotion 1 of version 2 is still open, in HOLD.*tca promotion abort 1"):
        one.run(Contender("3", "c" * 64))
    one.abort()
    report = one.run(Contender("3", "c" * 64))
    assert (report.promotion, report.outcome) == (2, "held")


def test_what_can_be_known_before_the_start_is_refused(rollout) -> None:
    one = rollout()
    with pytest.raises(ProjectError, match="reigns already"):
        one.run(Contender("1", "a" * 64))
    with pytest.raises(ProjectError, match="has no digest"):
        one.run(Contender("2", ""))
    one.registry.set_champion("9", "d" * 64)
    with pytest.raises(Conflict, match="it is 9, not 1"):
        one.run()
    assert latest_promotions(one.journal_path, 1) == []


@pytest.mark.parametrize(("silent_s", "outcome"), [(3.0, "promoted"), (300.0, "held")])
def test_a_silent_router_is_missing_data(rollout, silent_s: float, outcome: str) -> None:
    one = rollout()
    one.traffic.at(4.0, lambda: setattr(one.traffic, "silent", True))
    one.traffic.at(4.0 + silent_s, lambda: setattr(one.traffic, "silent", False))
    if outcome == "promoted":
        assert one.run().outcome == "promoted"
        return
    with pytest.raises(ServiceError, match="does not answer"):
        one.run()
    assert one.reigning() == "1"
    assert latest_promotions(one.journal_path, 1)[0]["state"] == "HOLD"
    one.traffic.silent = False
    assert one.run().outcome == "promoted"


def test_an_interrupt_gives_users_the_champion(rollout) -> None:
    one = rollout()

    def interrupt(event) -> None:
        if event.state == "CANARY step 2":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.run(on_event=interrupt)
    assert one.routed() == ("1", "2", "champion")
    assert latest_promotions(one.journal_path, 1)[0]["state"] == "HOLD"
    assert one.run().outcome == "promoted"


@pytest.mark.parametrize("number", range(1, 34, 4))
def test_an_interrupt_while_a_line_is_written(rollout, monkeypatch, number: int) -> None:
    """A signal is heard when the sync returns: the line is on disk, and nobody has counted it."""
    one, fsync, num_calls = rollout(), os.fsync, itertools.count(1)

    def interrupted(number_of_file: int) -> None:
        fsync(number_of_file)
        if next(num_calls) == number:
            raise KeyboardInterrupt

    monkeypatch.setattr("flows.rollout.chain.os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one.run()
    settled_after_interrupt(one)


@pytest.mark.parametrize("number", range(1, 9))
def test_an_interrupt_right_after_a_move(rollout, number: int) -> None:
    one, num_calls = rollout(), itertools.count(1)

    def wrap(journal):
        move = journal.move

        def interrupted(*given) -> None:
            move(*given)
            if next(num_calls) == number:
                raise KeyboardInterrupt

        journal.move = interrupted
        return journal

    with pytest.raises(KeyboardInterrupt):
        one.run(wrap=wrap)
    settled_after_interrupt(one)


def settled_after_interrupt(one) -> None:
    last = latest_promotions(one.journal_path, 1)[0]
    assert last["state"] in ("IDLE", "HOLD", "DRAIN_OLD", "DONE")
    if last["state"] == "HOLD":
        assert one.routed()[2] == "champion", "nobody watches"
        assert one.traffic.snapshot.share == 0.0
    if not last["closed"]:
        assert one.run().outcome == "promoted"
    one.assert_settled_on("2")
    checked = verify_record(one.record, one.view())
    assert checked.passed, checked.problem


@pytest.mark.parametrize("fault", ["abort", "death"])
def test_a_first_champion_that_is_taken_back_does_not_reign(rollout, fault: str) -> None:
    one = rollout(has_champion=False)

    def wrap(journal):
        complete = journal.complete

        def struck(*given) -> None:
            complete(*given)
            if given[2] == "enthrone version 2" and fault == "abort":
                journal.request_abort(1, "wrong camera")
            elif given[2] == "enthrone version 2":
                one.traffic.kill("2")
                raise OutsideError("the machine went down")

        journal.complete = struck
        return journal

    if fault == "death":
        with pytest.raises(OutsideError):
            one.run(wrap=wrap)
    report = one.run(wrap=wrap)
    assert report.outcome == ("rolled_back" if fault == "death" else "aborted")
    assert (one.reigning(), one.routed()[0]) == (None, None)
    checked = verify_record(one.record, one.view())
    assert checked.passed, checked.problem


def test_a_full_disk_leaves_traffic_and_state_as_they_are(rollout, monkeypatch) -> None:
    one = rollout()
    opened = []

    def fill(journal):
        opened.append(journal)
        return journal

    def full(event) -> None:
        if event.state == "SHADOW" and event.num >= 10:
            db = opened[0]._db
            pages = db.execute("PRAGMA page_count").fetchone()[0]
            db.execute(f"PRAGMA max_page_count = {pages}")
            monkeypatch.setattr("flows.rollout.journal.Journal.renew", full_disk)

    def full_disk(*_):
        raise OutsideError("the journal rollout.db cannot be used: database or disk is full")

    with pytest.raises(OutsideError, match="disk is full"):
        one.run(wrap=fill, on_event=full)
    assert one.routed() == ("1", "2", "shadow")
    assert latest_promotions(one.journal_path, 1)[0]["state"] == "SHADOW"
    monkeypatch.undo()
    assert one.run().outcome == "promoted"


def test_a_torn_journal_changes_nothing(rollout) -> None:
    one = rollout()
    one.journal_path.parent.mkdir(exist_ok=True)
    one.journal_path.write_bytes(b"torn" * 5000)
    before = one.traffic.snapshot
    with pytest.raises(OutsideError, match="damaged"):
        one.run()
    assert one.traffic.snapshot == before


def test_a_damaged_record_stops_a_resume_but_not_an_abort(rollout) -> None:
    one = rollout()
    one.traffic.at(3.0, lambda: setattr(one.traffic, "garble", lose))
    one.run()
    lines = one.record.read_text().splitlines()
    one.record.write_text("\n".join([*lines[:3], "torn", *lines[4:]]) + "\n")
    with pytest.raises(ProjectError, match=r"1\.jsonl:4 is not a line of a record"):
        one.run()
    report = one.abort()
    assert report is not None
    one.assert_settled_on("1")


@pytest.mark.parametrize("left", [None, b"", b"half a line"])
def test_a_lost_record_stops_a_resume_but_not_an_abort(rollout, left: bytes | None) -> None:
    one = rollout(num_cameras=0)
    assert one.run().outcome == "held"
    one.record.unlink() if left is None else one.record.write_bytes(left)
    with pytest.raises(ProjectError, match=r"no record 1\.jsonl|record 1\.jsonl is empty"):
        one.run()
    report = one.abort()
    assert report is not None
    assert report.outcome == "aborted"
    one.assert_settled_on("1")


def test_the_record_says_what_was_to_be_noted(rollout) -> None:
    one = rollout(num_cameras=0)
    one.run(note="in a drill: fail:1@5")
    opened = read_record(one.record)[0]
    assert (opened["note"], opened["sentence"]) == (
        "in a drill: fail:1@5",
        "version 2 challenges; in a drill: fail:1@5",
    )
    one.run(note="in a drill: slow:9@5")
    assert [line["note"] for line in read_record(one.record) if "note" in line] == [
        "in a drill: fail:1@5",
        "in a drill: slow:9@5",
    ]
    assert verify_record(one.record, one.view()).passed


def test_how_it_ended_is_told_by_the_next_one(rollout) -> None:
    """Killed after the journal closed it, before the record did."""
    one = rollout(Behaviour(from_answer=26, then=SLOW))

    def wrap(journal):
        move = journal.move

        def killed(*given) -> None:
            move(*given)
            if str(given[2]) == "ROLLED_BACK":
                raise OutsideError("power cut")

        journal.move = killed
        return journal

    with pytest.raises(OutsideError, match="power cut"):
        one.run(wrap=wrap)
    assert read_record(one.record)[-1]["kind"] == "state"
    with open_journal(one.journal_path) as journal:
        told = report_closed(journal, 1, one.records, one.clock)
        again = report_closed(journal, 1, one.records, one.clock)
    assert (told.outcome, told.lost, told) == ("rolled_back", 0, again)
    assert [line["kind"] for line in read_record(one.record)].count("closed") == 1
    assert verify_record(one.record, one.view()).passed


def test_params_stay_those_it_began_with(rollout, make_params) -> None:
    one = rollout(num_cameras=0)
    one.run()
    one.params = make_params(state_deadline_s=1000.0)
    began = one.clock.now()
    assert one.run().outcome == "held"
    assert one.clock.now() - began < 40


def test_a_lease_is_given_back(rollout) -> None:
    one = rollout(num_cameras=0)
    one.run()
    with open_journal(one.journal_path) as journal:
        journal.acquire(this_process(), one.clock.now(), 30.0, above=0)


def test_promotion_needs_the_router_first(rollout) -> None:
    one = rollout()
    one.traffic.silent = True
    with pytest.raises(ServiceError), open_journal(one.journal_path) as journal:
        run_promotion(
            journal, one.traffic, one.registry, Contender("2", "b"), one.registry.reigning, one.params, one.records
        )
    assert latest_promotions(one.journal_path, 1) == []


def test_a_challenger_that_ends_at_once_is_rolled_back(rollout) -> None:
    one = rollout()
    start = one.traffic.start

    def start_and_crash(version: str, digest: str):
        backend = start(version, digest)
        if version == "2":
            one.traffic.kill("2")
        return backend

    one.traffic.start = start_and_crash
    assert one.run().sentence == "version 2 rolled back in STAGING: version 2 ended while it started"
    one.assert_settled_on("1")

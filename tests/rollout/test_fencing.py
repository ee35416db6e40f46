"""Controllers that sleep past their lease, at any moment, and requests that come in the last one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flows.errors import Conflict, OutsideError, TcaError
from flows.rollout import database
from flows.rollout.journal import open_journal
from flows.rollout.record import verify_record
from flows.rollout.report import PromotionReport
from flows.rollout.traffic import Contender
from tests.rollout.test_killed_anywhere import JOURNAL, LATER_S, REGISTRY, TRAFFIC, Fuse, assert_users_are_served


class Nap(Fuse):
    """Falls asleep at one moment, while `meanwhile` happens, and goes on."""

    def __init__(self, at: int, meanwhile: Callable[[], None]) -> None:
        super().__init__(at)
        self._meanwhile = meanwhile

    def pass_moment(self) -> None:
        self.moment += 1
        if self.moment == self.burns_at:
            self._meanwhile()


def run_sleepily(one, nap: Nap) -> PromotionReport:
    return one.run(
        traffic=nap.guard(one.traffic, TRAFFIC),
        registry=nap.guard(one.registry, REGISTRY),
        wrap=lambda journal: nap.guard(journal, JOURNAL),
    )


@pytest.mark.parametrize("verb", ["promote", "abort"])
def test_a_controller_asleep_at_any_moment_changes_nothing_when_it_wakes(
    rollout, ram_folder: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.0)
    at, ended, num_kept_out = 1, False, 0
    while not ended:
        one = rollout()
        one.folder = ram_folder / f"{verb}{at}"
        meanwhile: list[PromotionReport | Exception | None] = []

        def another(one=one, meanwhile=meanwhile) -> None:
            one.clock.sleep(LATER_S)
            try:
                meanwhile.append(one.run() if verb == "promote" else one.abort())
            except TcaError as error:
                meanwhile.append(error)

        try:
            report = run_sleepily(one, Nap(at, another))
        except Conflict:
            report = None
        ended = not meanwhile
        at += 1
        if ended:
            continue
        (other,) = meanwhile
        if isinstance(other, OutsideError) and "locked" in str(other):  # kept out: the sleeper goes on
            num_kept_out += 1
            assert report is not None
            assert report.outcome == "promoted"
        elif isinstance(other, Exception):  # nothing was open yet, or any more, or it was too late
            assert report is None or report.outcome == "promoted"
        else:
            assert other is not None
            assert report is None, f"both ended it, moment {at - 1}"
        assert_settled(one, at - 1)
    assert at > 50
    assert num_kept_out == 2, "while the registry is written"


def assert_settled(one, moment: int) -> None:
    """One version reigns and is routed alone, on a record that holds. A process too many may be left, never too few."""
    reigning = one.reigning()
    assert one.routed() == (reigning, None, "champion"), f"moment {moment}"
    assert one.traffic.snapshot.promotion is None
    assert reigning in one.traffic.processes
    assert_users_are_served(one)
    checked = verify_record(one.record)
    assert checked.passed, f"moment {moment}: {checked.problem}"


def test_whoever_takes_over_shuts_the_router_to_earlier_epochs_first(rollout) -> None:
    one = rollout()
    seen = []

    class Gone(BaseException):
        pass

    def leave(event) -> None:
        if event.state == "CANARY step 1" and event.num:
            raise Gone

    with pytest.raises(Gone):
        one.run(on_event=leave)
    stale = one.traffic.snapshot
    num_before = len(one.traffic.history)
    one.clock.sleep(LATER_S)
    assert one.run(on_event=lambda event: seen.append(one.traffic.snapshot.epoch)).outcome == "promoted"
    first = one.traffic.history[num_before]
    assert (first.mode, first.share, first.promotion) == (stale.mode, stale.share, stale.promotion)
    assert first.epoch == stale.epoch + 1
    assert set(seen) == {first.epoch}, "nothing was shown or decided before"
    with pytest.raises(Conflict, match="stale snapshot"):
        one.traffic.route(stale.model_copy(update={"generation": stale.generation + 1}))


def test_an_abort_in_the_last_instant_before_the_point_of_no_return(rollout) -> None:
    one = rollout()

    class LateAsker:
        def __init__(self, journal) -> None:
            self._journal = journal

        def __getattr__(self, name: str):
            return getattr(self._journal, name)

        def move(self, lease, promotion, position, *rest) -> None:
            if position.state == "DRAIN_OLD":
                with open_journal(one.journal_path) as other:
                    other.request_abort(promotion, "at the last moment")
            self._journal.move(lease, promotion, position, *rest)

    report = one.run(wrap=LateAsker)
    assert report.outcome == "aborted"
    one.assert_settled_on("1")
    assert verify_record(one.record).passed


def test_an_abort_that_comes_while_it_goes_into_a_hold_is_carried_out(rollout) -> None:
    one = rollout(num_cameras=0)
    answers = []

    def ask(event) -> None:
        if event.state.startswith("HOLD") and not answers:
            answers.append(one.abort("nobody drives"))

    report = one.run(on_event=ask)
    assert answers == [None], "somebody else holds the lease"
    assert report.outcome == "aborted"
    one.assert_settled_on("1")


def test_a_lost_journal_is_begun_anew_beside_the_old_records(rollout) -> None:
    one = rollout(num_cameras=0)
    assert one.run().outcome == "held"
    one.journal_path.unlink()
    one.traffic.num_cameras = 8
    report = one.run()
    assert (report.outcome, report.promotion) == ("promoted", 2)
    one.assert_settled_on("2")
    assert all(verify_record(one.records / f"{number}.jsonl").passed for number in (1, 2))
    assert one.registry.reigning == Contender("2", "b" * 64) or one.reigning() == "2"

"""A controller that dies before or after any write or effect, and what the next one makes of it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.adapters.fake_traffic import Behaviour
from flows.errors import TcaError
from flows.rollout.journal import latest_promotions, open_journal
from flows.rollout.record import verify_record

JOURNAL = ("open_promotion", "move", "intend", "complete", "save_verdict")
TRAFFIC = ("start", "route", "stop")
REGISTRY = ("set_champion", "clear_champion")
LATER_S = 31.0  # the lease of the dead has expired


class Killed(BaseException):
    """What SIGKILL looks like from inside: nothing more runs."""


class Fuse:
    """Counts steps, each with a moment before and one after it, and burns at one of them."""

    def __init__(self, burns_at: int | None) -> None:
        self.burns_at, self.moment = burns_at, 0

    def pass_moment(self) -> None:
        if self.moment == self.burns_at:
            raise Killed
        self.moment += 1

    def guard(self, target: Any, names: tuple[str, ...]) -> Any:
        return Guarded(target, names, self)


class Guarded:
    """`target`, with the fuse before and after each call of `names`."""

    def __init__(self, target: Any, names: tuple[str, ...], fuse: Fuse) -> None:
        self._target, self._names, self._fuse = target, names, fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name not in self._names:
            return found

        def call(*args: Any, **options: Any) -> Any:
            self._fuse.pass_moment()
            result = found(*args, **options)
            self._fuse.pass_moment()
            return result

        return call


def run_until(one, burns_at: int | None):
    """The report, or None when the controller was killed; and how many moments it lived through."""
    fuse = Fuse(burns_at)
    try:
        report = one.run(
            traffic=fuse.guard(one.traffic, TRAFFIC),
            registry=fuse.guard(one.registry, REGISTRY),
            wrap=lambda journal: fuse.guard(journal, JOURNAL),
        )
    except Killed:
        return None, fuse.moment
    return report, fuse.moment


def assert_users_are_served(one) -> None:
    """Somebody who runs is routed as champion, and no frame was lost."""
    now = one.traffic.snapshot
    assert now.champion is not None
    assert one.traffic.processes[now.champion.version].backend == now.champion
    assert one.traffic.num_lost == 0


def settle(one) -> str:
    """Run again until it ends, as a person would."""
    for _ in range(4):
        one.clock.sleep(LATER_S)
        report = one.run()
        if report.outcome != "held":
            return report.outcome
    raise AssertionError("it never ends")


KINDS = {
    "good": (Behaviour(), "promoted", "2"),
    "slow": (Behaviour(from_answer=26, then=Behaviour(latency_ms=180.0)), "rolled_back", "1"),
    "late": (Behaviour(from_answer=44, then=Behaviour(latency_ms=500.0, sigma=0.01)), None, None),
}


@pytest.mark.parametrize("kind", ["good", "slow"])
def test_killed_at_any_moment(rollout, ram_folder: Path, kind: str) -> None:
    behaviour, outcome, reigns = KINDS[kind]
    moment, survived = 0, False
    while not survived:
        one = rollout(behaviour)
        one.folder = ram_folder / str(moment)
        report, _ = run_until(one, moment)
        survived = report is not None
        if not survived:
            assert_users_are_served(one)
            ended = one.reigning() == "2" and not _is_open(one)
            final = outcome if ended else settle(one)
            assert final == outcome, f"killed at moment {moment}"
            one.assert_settled_on(reigns)
            assert_users_are_served(one)
            checked = verify_record(one.record, one.view())
            assert checked.passed, f"killed at moment {moment}: {checked.problem}"
            with open_journal(one.journal_path) as journal:
                stops = {name: status for name, status in journal.effects(1).items() if name.startswith("stop")}
            # Taken back before it began, there was nothing to stop; once meant, it is seen to its end.
            assert set(stops.values()) <= {"DONE"}, f"killed at moment {moment}: {stops}"
        moment += 1
    assert moment > 50


def test_a_first_champion_killed_at_any_moment(rollout, ram_folder: Path) -> None:
    """With the machine, so that the challenger is gone as well: it reigns and runs, or neither."""
    moment, report, num_taken_back = 0, None, 0
    while report is None:
        one = rollout(has_champion=False)
        one.folder = ram_folder / str(moment)
        report, _ = run_until(one, moment)
        if report is None:
            one.traffic.kill("2")
            one.clock.sleep(LATER_S)
            if not latest_promotions(one.journal_path, 1) or _is_open(one):
                outcome = one.run().outcome
                num_taken_back += outcome == "rolled_back"
                assert one.reigning() == ("2" if outcome == "promoted" else None), f"killed at moment {moment}"
            checked = verify_record(one.record, one.view())
            assert checked.passed, f"killed at moment {moment}: {checked.problem}"
        moment += 1
    assert num_taken_back > 5


def _is_open(one) -> bool:
    return not latest_promotions(one.journal_path, 1)[0]["closed"]


def test_killed_and_the_challenger_with_it(rollout, ram_folder: Path) -> None:
    """A machine that lost the challenger as well: back to the champion, unless the challenger reigns already."""
    for moment in range(20, 100, 7):
        one = rollout()
        one.folder = ram_folder / str(moment)
        report, _ = run_until(one, moment)
        if report is not None:
            break
        if one.traffic.snapshot.champion.version == "1":
            one.traffic.kill("2")
            one.clock.sleep(LATER_S)
            outcome = one.run().outcome
            assert outcome in ("promoted", "rolled_back")
            one.assert_settled_on({"promoted": "2", "rolled_back": "1"}[outcome])
            assert one.traffic.num_lost == 0


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kills=st.lists(st.integers(0, 90), max_size=5), kind=st.sampled_from(sorted(KINDS)))
def test_killed_again_and_again(rollout, ram_folder: Path, kills: list[int], kind: str) -> None:
    one = rollout(KINDS[kind][0])
    one.folder = Path(tempfile.mkdtemp(dir=ram_folder))
    outcome = None
    for moment in kills:
        try:
            report, _ = run_until(one, moment)
        except TcaError:  # it had ended: version 2 reigns already
            outcome = "promoted"
            break
        assert_users_are_served(one)
        one.clock.sleep(LATER_S)
        if report is not None and report.outcome != "held":
            outcome = report.outcome
            break
    if outcome is None:
        outcome = "promoted" if one.reigning() == "2" and not _is_open(one) else settle(one)
    assert outcome in ("promoted", "rolled_back")
    one.assert_settled_on({"promoted": "2", "rolled_back": "1"}[outcome])
    assert_users_are_served(one)

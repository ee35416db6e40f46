"""Controllers that are killed, stopped or doubled in the middle of a promotion; disks that fill up; torn journals."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.rollout.record import verify_record
from tests.promotion.stack import Stack
from tests.promotion.street import wait_until

pytestmark = pytest.mark.chaos

SEEN: dict[str, Callable[[Stack], bool]] = {
    "start version 2": lambda stack: "2" in stack.running(),
    "route shadow, champion 1": lambda stack: stack.routed()[2] == "shadow",
    "route canary 25%, champion 1": lambda stack: stack.routed()[2] == "canary",
    "route canary 50%, champion 1": lambda stack: stack.routing().share == 0.5,
    "enthrone version 2": lambda stack: getattr(stack.registry.champion(), "version", "") == "2",
    "route champion, champion 2": lambda stack: stack.routed()[0] == "2",
    "stop version 1": lambda stack: "1" not in stack.running(),
}
"""How each effect of a promotion shows in the world."""
MOMENTS = {
    "before INTENT": {"call": "intend", "when": "before"},
    "after INTENT": {"call": "intend", "when": "after"},
    "after the effect": {"call": "complete", "when": "before"},
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("effect", SEEN)
def test_killed_around_an_effect(stack: Stack, effect: str, moment: str) -> None:
    """Before INTENT nothing happened; after it the step is done again; after the effect it is seen and marked."""
    with stack.street() as street:
        killed = stack.control(kill={**MOMENTS[moment], "match": effect})
        assert killed.wait() == -signal.SIGKILL, killed.said[-2:]
        assert stack.effects().get(effect) == (None if moment == "before INTENT" else "INTENT")
        assert SEEN[effect](stack) == (moment == "after the effect")
        running = stack.detector("2")
        report = stack.promote()
        assert report["outcome"] == "promoted", report["sentence"]
        assert stack.effects()[effect] == "DONE"
        assert running is None or stack.detector("2") == running, "it was started twice"
        street.assert_none_lost()
    stack.assert_settled_on("2")


@pytest.mark.parametrize(
    "kill",
    [
        {"call": "move", "when": "after", "match": "ROLLING_BACK"},
        {"call": "intend", "when": "after", "match": "route champion, champion 1"},
        {"call": "route", "when": "after", "match": "promotion=None"},
        {"call": "intend", "when": "after", "match": "stop version 2"},
        {"call": "stop", "when": "after"},
        {"call": "move", "when": "before", "match": "ROLLED_BACK"},
    ],
    ids=lambda kill: f"{kill['when']} {kill['call']} {kill.get('match', '')}",
)
def test_killed_in_a_rollback_it_goes_back_and_never_forward(stack: Stack, kill: dict[str, str]) -> None:
    stack.fault("2", "refuse", from_answer=30)
    with stack.street() as street:
        killed = stack.control(kill=kill)
        assert killed.wait() == -signal.SIGKILL, killed.said[-2:]
        stack.mend("2")  # however well it behaves now
        report = stack.promote()
        assert report["outcome"] == "rolled_back", report["sentence"]
        street.assert_none_lost()
    assert stack.transitions()[-2:] == ["ROLLING_BACK", "ROLLED_BACK"]
    assert stack.transitions().count("ROLLING_BACK") == 1
    stack.assert_settled_on("1")


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_between_a_process_and_its_entry_it_leaves_no_orphan(stack: Stack, when: str) -> None:
    with stack.street() as street:
        killed = stack.control(kill={"call": "_enter", "when": when, "match": "detector-2"})
        assert killed.wait() == -signal.SIGKILL, killed.said[-2:]
        champion = stack.detector("1")
        assert champion is not None
        wait_until(lambda: stack.detector_pids() == {champion.pid}, 10, "for the challenger's process to end by itself")
        assert stack.promote()["outcome"] == "promoted"
        street.assert_none_lost()
    stack.assert_settled_on("2")


@pytest.mark.parametrize("seed", range(3))
def test_a_relay_of_controllers_that_all_die(stack: Stack, seed: int) -> None:
    """Each lives for a few moments before or after a write or an effect; the next one goes on."""
    dice, num_killed, bad = random.Random(seed), 0, seed == 2
    if bad:
        stack.fault("2", "refuse", from_answer=40)
    with stack.street() as street:
        while True:
            controller = stack.control(kill={"moment": dice.randint(8, 15)})
            code = controller.wait()
            if code == 0:
                break
            assert code == -signal.SIGKILL, controller.said[-2:]
            num_killed += 1
            assert num_killed < 60
        report = controller.last("report")
        assert report["outcome"] == ("rolled_back" if bad else "promoted"), report["sentence"]
        street.assert_none_lost()
    assert num_killed >= 4
    stack.assert_settled_on("1" if bad else "2")


def test_of_two_controllers_one_runs_and_the_other_leaves(stack: Stack) -> None:
    """The first waits for cameras that send; then it goes on as if nobody else had been there."""
    first = stack.control(params={"state_deadline_s": 300.0})
    first.wait_for("SHADOW")
    for verb in ("promote", "resume"):
        second = stack.control(verb)
        assert second.wait() == 3
        assert second.last("error")["type"] == "LeaseHeld"
        assert f"held by process {first.process.pid}" in second.last("error")["message"]
    with stack.street() as street:
        assert first.wait() == 0
        assert first.last("report")["outcome"] == "promoted"
        street.assert_none_lost()
    stack.assert_settled_on("2")


def test_two_controllers_that_begin_at_once(stack: Stack) -> None:
    with stack.street() as street:
        both = [stack.control() for _ in range(2)]
        codes = sorted(one.wait() for one in both)
        assert codes == [0, 3], [one.said[-1:] for one in both]
        street.assert_none_lost()
    assert stack.entry().id == 1
    stack.assert_settled_on("2")


@pytest.mark.parametrize("woken_in", ["CANARY step 1", "the end"])
@pytest.mark.parametrize(
    "stopped_at",
    [
        {"call": "route", "when": "before", "match": "canary"},
        {"call": "intend", "when": "after", "match": "route canary 25%"},
        {"call": "complete", "when": "before", "match": "route shadow"},
    ],
    ids=["before the router is told", "after INTENT", "after the effect"],
)
def test_a_controller_stopped_past_its_lease_changes_nothing(
    stack: Stack,
    stopped_at: dict[str, str],
    woken_in: str,
) -> None:
    with stack.street() as street:
        sleeper = stack.control(kill={**stopped_at, "signal": "SIGSTOP"}, lease_s=2.0)
        sleeper.wait_until_stopped()
        early = stack.control(lease_s=2.0)
        assert early.wait() in (0, 3)
        second = early
        if early.process.returncode == 3:
            assert early.last("error")["type"] == "LeaseHeld"
            wait_until(lambda: _lease_is_over(stack), 10)
            second = stack.control(lease_s=2.0)
        if woken_in == "the end":
            assert second.wait() == 0
        else:
            second.wait_for(woken_in)
        sleeper.send(signal.SIGCONT)
        assert sleeper.wait() == 3
        assert sleeper.last("error")["type"] == "Conflict"
        assert second.wait() == 0
        assert second.last("report")["outcome"] == "promoted", second.last("report")["sentence"]
        street.assert_none_lost()
    stack.assert_settled_on("2")


def _lease_is_over(stack: Stack) -> bool:
    import time

    with stack.journal() as journal, journal._reading() as db:
        return db.execute("SELECT expires FROM lease").fetchone()[0] < time.time()


def test_the_router_refuses_a_sleeper_as_soon_as_somebody_took_over(stack: Stack) -> None:
    """Stopped with its hand on the router, in the canary; the next one is asked to abort."""
    with stack.street() as street:
        sleeper = stack.control(
            kill={"call": "route", "when": "before", "match": "share=0.5", "signal": "SIGSTOP"}, lease_s=1.0
        )
        sleeper.wait_until_stopped()
        wait_until(lambda: _lease_is_over(stack), 10)
        second = stack.control("abort", reason="nobody answers", lease_s=1.0)
        second.wait_for("ROLLING_BACK")
        sleeper.send(signal.SIGCONT)
        assert (sleeper.wait(), second.wait()) == (3, 0)
        assert second.last("report")["outcome"] == "aborted"
        street.assert_none_lost()
    stack.assert_settled_on("1")


def test_nobody_takes_over_while_the_registry_is_written(stack: Stack) -> None:
    """A registry knows no epochs, so a controller stopped right there keeps the others out until it goes on or dies."""
    with stack.street() as street:
        sleeper = stack.control(kill={"call": "set_champion", "when": "before", "signal": "SIGSTOP"}, lease_s=1.0)
        sleeper.wait_until_stopped()
        before = stack.routed()
        second = stack.control(lease_s=1.0)
        assert second.wait() == 3
        assert "was stopped while it did" in second.last("error")["message"]
        assert stack.routed() == before
        sleeper.send(signal.SIGKILL)
        assert sleeper.wait() == -signal.SIGKILL
        assert stack.promote()["outcome"] == "promoted"
        street.assert_none_lost()
    stack.assert_settled_on("2")


def test_an_effect_that_takes_longer_than_the_lease_keeps_it(stack: Stack) -> None:
    """The old champion has a frame for four seconds, and the lease lasts one."""
    with stack.street() as street, stack.street(num_cameras=1, fps=2.0, hold_s=4.0) as slow:
        first = stack.control(lease_s=1.0, params={"drain_deadline_s": 30.0, "latency_budget_ms": 10_000.0})
        first.wait_for("DRAIN_OLD")
        second = stack.control(lease_s=1.0)
        code = second.wait()
        assert (code, first.wait()) in ((3, 0), (2, 0)), (second.said, first.said[-1:])
        slow.assert_none_lost()
        street.assert_none_lost()
    stack.assert_settled_on("2")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own; the test is left out where nothing may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"cannot mount: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free."""
    filling = disk / "filling"
    with filling.open("wb", buffering=0) as sink:
        for size in (4096, 1):
            try:
                while True:
                    sink.write(bytes(size))
            except OSError:
                continue
    return filling


@pytest.mark.parametrize("what", ["journal", "record", "router", "register"])
def test_a_full_disk_makes_no_transition(small_disk: Path, tmp_path: Path, what: str) -> None:
    """The disk of the journal, of the record, or of the router fills up in the canary."""
    home = tmp_path / "stack"
    home.mkdir()
    places = {"journal": "rollout.db", "record": "promotions", "router": "router", "register": ""}
    if what == "register":
        home.rmdir()
        home.symlink_to(small_disk, target_is_directory=True)
    elif what == "journal":
        home = small_disk / "stack"
    else:
        (small_disk / what).mkdir()
        (home / places[what]).symlink_to(small_disk / what, target_is_directory=True)
    one = Stack(home)
    try:
        one.enthrone("1")
        with one.street() as street:
            controller = one.control(params={"canary_frames": 30})
            controller.wait_for("CANARY step 1")
            filling = fill(small_disk)
            assert controller.wait() == 3, controller.said[-2:]
            before = one.routed()
            assert before[2] in ("canary", "shadow")
            street.wait_for_more(20)
            assert one.routed() == before
            filling.unlink()
            assert one.entry().position.state in ("CANARY", "SHADOW")
            report = one.promote()
            assert report["outcome"] == "promoted", report["sentence"]
            street.assert_none_lost()
        one.assert_settled_on("2")
    finally:
        one.close()


def killed_in_canary(stack: Stack) -> None:
    controller = stack.control(params={"canary_frames": 100, "state_deadline_s": 60.0})
    controller.wait_for("CANARY step 1")
    controller.send(signal.SIGKILL)
    assert controller.wait() == -signal.SIGKILL


def test_a_damaged_journal_stops_all_controllers_and_no_traffic(stack: Stack) -> None:
    with stack.street() as street:
        killed_in_canary(stack)
        before = stack.routing()
        for path in stack.home.glob("rollout.db-*"):  # the log would mend it
            path.unlink()
        stack.journal_path.write_bytes(os.urandom(16_384))
        for verb in ("promote", "resume", "abort"):
            controller = stack.control(verb, reason="damaged")
            assert controller.wait() == 3
            assert "is damaged" in controller.last("error")["message"]
            assert "Traffic stays as it is" in controller.last("error")["message"]
        assert stack.routing() == before
        street.wait_for_more(20)
        for path in stack.home.glob("rollout.db*"):
            path.unlink()
        report = stack.promote()  # the remedy: a new journal
        assert report["outcome"] == "promoted", report["sentence"]
        assert report["promotion"] == 2, "the record of the lost one was gone on with"
        street.assert_none_lost()
    assert verify_record(stack.records / "1.jsonl").passed
    stack.assert_settled_on("2", promotion=2)


def test_what_was_being_written_when_the_machine_stopped_never_was(stack: Stack) -> None:
    """Half a transaction at the end of the log, half a line at the end of the record."""
    with stack.street() as street:
        killed_in_canary(stack)
        with (stack.home / "rollout.db-wal").open("ab") as log:
            log.write(os.urandom(3000))
        with (stack.records / "1.jsonl").open("ab") as record:
            record.write(b'{"at":"2026-11-21T10:00:00.000+00:00","kind":"state","n":')
        report = stack.promote()
        assert report["outcome"] == "promoted", report["sentence"]
        street.assert_none_lost()
    stack.assert_settled_on("2")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_a_disk_that_lost_commits(stack: Stack, share: float) -> None:
    """The journal says less than was done. The world is looked at anew, and the record tells that it was."""
    with stack.street() as street:
        killed_in_canary(stack)
        log = stack.home / "rollout.db-wal"
        os.truncate(log, int(log.stat().st_size * share))
        report = stack.promote()
        assert report["outcome"] == "promoted", report["sentence"]
        street.assert_none_lost()
    stack.assert_settled_on("2", promotion=report["promotion"], verified=False)

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.errors import Conflict, OutsideError, ProjectError
from flows.rollout.journal import AbortRequested, Approval, Journal, journal_in_memory, latest_promotions, open_journal
from flows.rollout.leases import LeaseHeld, Owner, this_process
from flows.rollout.states import Position, State

NEW, OLD = ("2", "b"), ("1", "a")
HERE = socket.gethostname()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "rollout.db"


@pytest.fixture
def journal(path: Path):
    with open_journal(path) as opened:
        yield opened


def opened(journal: Journal, now: float = 100.0):
    lease = journal.acquire(this_process(), now, 30.0, above=0)
    return lease, journal.open_promotion(lease, NEW, OLD, "{}", now)


def test_without_a_journal_there_are_no_promotions(path: Path) -> None:
    assert latest_promotions(path, 3) == []
    path.parent.mkdir()
    path.touch()
    assert latest_promotions(path, 3) == []


def test_it_syncs_every_commit(journal: Journal) -> None:
    settings = [journal._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert settings == ["wal", 2]


def test_a_promotion_is_kept_over_a_restart(path: Path) -> None:
    with open_journal(path) as journal:
        lease, entry = opened(journal)
        held = Position(State.HOLD, held_from=Position(State.CANARY, 1))
        journal.move(lease, entry.id, held, "hold", "no traffic", 110.0)
    with open_journal(path) as journal:
        again = journal.open_entry()
    assert again is not None
    assert (again.position, again.challenger, again.champion, again.sentence) == (held, NEW, OLD, "no traffic")
    latest = latest_promotions(path, 3)
    assert [(one["id"], one["challenger"], one["state"], one["closed"]) for one in latest] == [(1, "2", "HOLD", False)]


def test_a_terminal_state_closes(journal: Journal, path: Path) -> None:
    lease, entry = opened(journal)
    journal.move(lease, entry.id, Position(State.DONE), "advance", "done", 120.0)
    assert journal.open_entry() is None
    assert latest_promotions(path, 1)[0]["closed"] is True
    with pytest.raises(ProjectError, match="promotion 1 is not open"):
        journal.request_abort(1, "too late")


def test_a_transition_cites_the_verdict_before_it(journal: Journal) -> None:
    lease, entry = opened(journal)
    journal.save_verdict(lease, entry.id, Position(State.SHADOW), "{}", 101.0)
    journal.move(lease, entry.id, Position(State.CANARY), "advance", "good", 102.0)
    assert journal._db.execute("SELECT verdict FROM transitions").fetchone() == (1,)


def test_an_effect_is_intended_then_done(journal: Journal) -> None:
    lease, entry = opened(journal)
    journal.intend(lease, entry.id, "route shadow", 101.0)
    assert journal.effects(entry.id) == {"route shadow": "INTENT"}
    journal.complete(lease, entry.id, "route shadow", 102.0)
    assert journal.effects(entry.id) == {"route shadow": "DONE"}


def test_the_epoch_grows_and_exceeds_the_routers(journal: Journal) -> None:
    epochs = []
    for above in (0, 7, 3):
        lease = journal.acquire(this_process(), 100.0, 30.0, above)
        journal.release(lease)
        epochs.append(lease.epoch)
    assert epochs == [1, 8, 9]


@pytest.mark.parametrize(
    ("owner", "now", "taken"),
    [
        (Owner("other", os.getpid(), HERE), 129.0, False),
        (Owner("other", os.getpid(), HERE), 131.0, True),
        (Owner("other", 1, "another-host"), 129.0, False),
        (Owner("other", 1, HERE), 129.0, False),
    ],
)
def test_a_lease_is_left_alone_until_it_expires(journal: Journal, owner: Owner, now: float, taken: bool) -> None:
    held = journal.acquire(owner, 100.0, 30.0, above=0)
    if taken:
        assert journal.acquire(this_process(), now, 30.0, above=0).epoch == held.epoch + 1
    else:
        with pytest.raises(Conflict, match=rf"held by process {owner.pid} on {owner.host} since 00:01:40 UTC"):
            journal.acquire(this_process(), now, 30.0, above=0)


def test_the_lease_of_a_dead_process_is_taken_at_once(journal: Journal) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    journal.acquire(Owner("dead", ended.pid, HERE), 100.0, 30.0, above=0)
    assert journal.acquire(this_process(), 101.0, 30.0, above=0).epoch == 2


def test_whoever_lost_the_lease_changes_nothing(journal: Journal, path: Path) -> None:
    stale, entry = opened(journal)
    journal.acquire(this_process(), 200.0, 30.0, above=0)
    writes = [
        lambda: journal.renew(stale, 201.0, 30.0),
        lambda: journal.release(stale),
        lambda: journal.intend(stale, entry.id, "route", 201.0),
        lambda: journal.complete(stale, entry.id, "route", 201.0),
        lambda: journal.move(stale, entry.id, Position(State.DONE), "advance", "", 201.0),
        lambda: journal.save_verdict(stale, entry.id, Position(State.SHADOW), "{}", 201.0),
        lambda: journal.open_promotion(stale, NEW, OLD, "{}", 201.0),
    ]
    for write in writes:
        with pytest.raises(Conflict, match="lease of epoch 1 was taken over"):
            write()
    assert journal.read(entry.id).position == Position(State.IDLE)
    assert len(latest_promotions(path, 9)) == 1


def test_a_journal_that_is_no_database_is_said_so(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is not a database, but long enough to be looked at" * 50)
    for read in (lambda: open_journal(path).__enter__(), lambda: latest_promotions(path, 1)):
        with pytest.raises(OutsideError, match=r"rollout\.db is damaged.*Traffic stays as it is"):
            read()


def test_a_torn_journal_is_said_so(path: Path) -> None:
    with open_journal(path) as journal:
        lease, entry = opened(journal)
        for number in range(200):
            journal.intend(lease, entry.id, f"effect {number} " * 20, 100.0)
    content = bytearray(path.read_bytes())
    content[4096:-4096] = os.urandom(len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(OutsideError, match=r"rollout\.db is damaged"), open_journal(path):
        pass


def test_a_full_disk_leaves_everything_as_it_was(journal: Journal) -> None:
    lease, entry = opened(journal)
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OutsideError, match=r"cannot be used: database or disk is full.*Nothing was changed"):
        journal.move(lease, entry.id, Position(State.OFFLINE_GATE), "advance", "x" * 100_000, 101.0)
    assert journal.read(entry.id).position == Position(State.IDLE)
    assert journal.transitions(entry.id) == []


def test_an_unknown_promotion(journal: Journal) -> None:
    with pytest.raises(ProjectError, match="no promotion 4"):
        journal.read(4)


def test_a_locked_journal_is_not_called_damaged(path: Path, journal: Journal) -> None:
    journal._db.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OutsideError, match="cannot be used: database is locked"):
        journal.acquire(this_process(), 100.0, 30.0, above=0)
    other.close()


def test_a_journal_of_a_later_product_is_left_alone(path: Path) -> None:
    with open_journal(path):
        pass
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(OutsideError, match="a later version of the product wrote it"), open_journal(path):
        pass


def test_a_journal_of_an_earlier_product_gets_what_it_lacks(path: Path) -> None:
    with open_journal(path) as journal:
        opened(journal)
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE hold_requests")
        db.execute("PRAGMA user_version = 0")
    with open_journal(path) as journal:
        assert journal.hold_request(1) is None
        assert journal.read(1).challenger == NEW


def test_readers_do_not_wait_for_a_writer(path: Path, journal: Journal) -> None:
    lease, entry = opened(journal)
    with journal.fenced(lease), open_journal(path) as other:
        assert other.read(entry.id).position == Position(State.IDLE)
        assert latest_promotions(path, 1)[0]["id"] == entry.id


def test_a_journal_in_memory_is_like_any_other() -> None:
    with journal_in_memory() as journal:
        lease, entry = opened(journal)
        with journal.kept(lease, lambda: 0.0, 0.003):
            journal.move(lease, entry.id, Position(State.DONE), "advance", "done", 120.0)
        assert journal.open_entry() is None
        assert journal.release(lease)


def test_numbers_go_on_above_those_of_a_journal_that_was_lost(journal: Journal) -> None:
    lease, first = opened(journal)
    journal.move(lease, first.id, Position(State.DONE), "advance", "", 101.0)
    later = [journal.open_promotion(lease, NEW, OLD, "{}", 102.0, above=above).id for above in (7, 3)]
    assert [first.id, *later] == [1, 8, 9]


# An abort wins


def in_state(journal: Journal, state: State):
    lease, entry = opened(journal)
    journal.move(lease, entry.id, Position(state), "advance", "as it goes", 101.0)
    return lease, entry.id


FORWARD = [
    (State.BAKE, Position(State.DRAIN_OLD), "advance"),
    (State.SHADOW, Position(State.HOLD, held_from=Position(State.SHADOW)), "hold"),
    (State.HOLD, Position(State.SHADOW), "resume"),
    (State.PROMOTING, Position(State.DONE), "advance"),
]


@pytest.mark.parametrize(("state", "position", "event"), FORWARD)
def test_no_move_passes_an_abort_that_came_first(
    journal: Journal, state: State, position: Position, event: str
) -> None:
    lease, number = in_state(journal, state)
    journal.request_abort(number, "wrong weather")
    before = journal.transitions(number)
    with pytest.raises(AbortRequested, match="wrong weather"):
        journal.move(lease, number, position, event, "", 102.0)
    assert (journal.read(number).position.state, journal.transitions(number)) == (state, before)
    journal.move(lease, number, Position(State.ROLLING_BACK), "abort", "aborted", 103.0)
    journal.move(lease, number, Position(State.ROLLED_BACK), "advance", "aborted", 104.0)
    assert journal.open_entry() is None


def test_past_the_point_of_no_return_an_abort_is_refused(journal: Journal) -> None:
    lease, number = in_state(journal, State.DRAIN_OLD)
    with pytest.raises(ProjectError, match="cannot be aborted any more.*tca rollback"):
        journal.request_abort(number, "too late")
    journal.move(lease, number, Position(State.DONE), "advance", "", 102.0)


@pytest.mark.parametrize("state", [State.DRAIN_OLD, State.ROLLING_BACK])
def test_what_goes_to_its_end_is_not_held(journal: Journal, state: State) -> None:
    _, number = in_state(journal, state)
    with pytest.raises(ProjectError, match=f"cannot be held any more: it is in {state}"):
        journal.request_hold(number, "fog", 102.0)
    assert journal.hold_request(number) is None


@pytest.mark.parametrize(("state", "gate"), [("CANARY", "CANARY"), ("BAKE", "PROMOTING"), ("ROLLING_BACK", "CANARY")])
def test_a_refusal_that_comes_too_late_is_refused(journal: Journal, state: str, gate: str) -> None:
    lease, number = in_state(journal, State(state))
    with pytest.raises(ProjectError, match=f"is in {state}, where nobody is asked"):
        journal.approve(number, Approval(gate, False, "anna", "cli", None, 102.0))
    if state != "ROLLING_BACK":
        held = Position(State.HOLD, held_from=Position(State(state)))
        journal.move(lease, number, held, "hold", "fog", 103.0)
        with pytest.raises(ProjectError, match=f"is in {state}, where nobody is asked"):
            journal.approve(number, Approval(gate, False, "anna", "cli", None, 104.0))
    agreement = Approval(gate, True, "ci", "token", "of a job that runs again", 105.0)
    journal.approve(number, agreement)
    assert journal.approvals(number) == [agreement]


def test_no_advance_passes_a_refusal_that_came_first(journal: Journal) -> None:
    lease, number = in_state(journal, State.SHADOW)
    journal.approve(number, Approval("CANARY", True, "anna", "cli", None, 102.0))
    journal.approve(number, Approval("CANARY", False, "bert", "cli", None, 103.0))
    with pytest.raises(AbortRequested, match="bert did not agree to CANARY"):
        journal.move(lease, number, Position(State.CANARY), "advance", "", 104.0)
    assert journal.read(number).position == Position(State.SHADOW)


def test_a_rollback_goes_to_its_end_whoever_asks_for_an_abort(journal: Journal) -> None:
    lease, number = in_state(journal, State.ROLLING_BACK)
    journal.request_abort(number, "once more")
    journal.move(lease, number, Position(State.ROLLED_BACK), "advance", "", 102.0)
    assert journal.open_entry() is None


def test_the_lease_is_not_given_back_before_an_abort_is_carried_out(journal: Journal) -> None:
    lease, number = in_state(journal, State.HOLD)
    journal.request_abort(number, "nobody drives")
    assert not journal.release(lease, unless_aborting=number)
    with pytest.raises(LeaseHeld):
        journal.acquire(Owner("other", 1, HERE), 102.0, 30.0, above=0)
    journal.move(lease, number, Position(State.ROLLING_BACK), "abort", "", 103.0)
    journal.move(lease, number, Position(State.ROLLED_BACK), "advance", "", 104.0)
    assert journal.release(lease, unless_aborting=number)
    assert journal.acquire(this_process(), 105.0, 30.0, above=0).epoch == lease.epoch + 1


# The lease


def test_while_a_fenced_body_runs_nobody_takes_over(path: Path, journal: Journal) -> None:
    """Also when the lease expires meanwhile: a model registry has no other fence."""
    lease, _ = opened(journal)
    with open_journal(path) as other:
        other._db.execute("PRAGMA busy_timeout = 10")
        with journal.fenced(lease), pytest.raises(OutsideError, match="was stopped while it did"):
            other.acquire(this_process(), 999.0, 30.0, above=0)
        assert other.acquire(this_process(), 999.0, 30.0, above=0).epoch == lease.epoch + 1
    with pytest.raises(Conflict, match="was taken over"):
        journal.check(lease)


def expiry(journal: Journal) -> float:
    return float(journal._db.execute("SELECT expires FROM lease").fetchone()[0])


def test_a_long_effect_keeps_its_lease(journal: Journal) -> None:
    lease, _ = opened(journal)
    now = iter(range(1000, 10_000))
    with journal.kept(lease, lambda: float(next(now)), 0.03):
        deadline = time.monotonic() + 20
        while expiry(journal) < 1002:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    last = expiry(journal)
    assert not [thread for thread in threading.enumerate() if thread.name == "lease"]
    assert expiry(journal) == last


def test_a_lease_that_was_taken_over_is_not_renewed(journal: Journal) -> None:
    lease, _ = opened(journal)
    with journal.kept(lease, lambda: 5000.0, 0.003):
        taken = journal.acquire(this_process(), 4000.0 + 6000.0, 30.0, above=0)
        deadline = time.monotonic() + 20
        while any(thread.name == "lease" for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.005)
    assert expiry(journal) == taken.expires
    with pytest.raises(Conflict, match="was taken over"):
        journal.release(lease)


def test_the_lease_of_a_process_that_nobody_waits_for_is_taken_at_once(journal: Journal) -> None:
    zombie = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert zombie.stdout is not None
    zombie.stdout.read()
    deadline = time.monotonic() + 20
    while not Owner("dead", zombie.pid, HERE).is_gone():
        assert time.monotonic() < deadline
    zombie.wait()
    zombie.stdout.close()


# A log torn while it was written


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[tuple[int, list[str]]]]]:
    """A journal whose log was never checkpointed, with what it held after each commit and how long the log was."""
    folder = tmp_path_factory.mktemp("written")
    kept, path = folder / "kept", folder / "live" / "rollout.db"
    kept.mkdir()
    held: list[tuple[int, list[str]]] = []
    with open_journal(path) as journal:
        log = path.with_name("rollout.db-wal")
        lease, entry = opened(journal)
        for step in range(12):
            held.append((log.stat().st_size, [str(one[0]) for one in journal.transitions(entry.id)]))
            journal.move(lease, entry.id, Position(State.CANARY, step), "advance", "x" * 50 * step, 100.0 + step)
        held.append((log.stat().st_size, [str(one[0]) for one in journal.transitions(entry.id)]))
        for name in ("rollout.db", "rollout.db-wal"):
            shutil.copy(path.with_name(name), kept / name)
    yield kept, held


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1), noise=st.binary(max_size=40))
def test_a_torn_log_is_a_commit_that_never_was(written, ram_folder: Path, share: float, noise: bytes) -> None:
    kept, held = written
    path = ram_folder / "rollout.db"
    for name in ("rollout.db", "rollout.db-wal", "rollout.db-shm"):
        path.with_name(name).unlink(missing_ok=True)
        if (kept / name).exists():
            shutil.copy(kept / name, path.with_name(name))
    log = path.with_name("rollout.db-wal")
    size = int(log.stat().st_size * share)
    os.truncate(log, size)
    with log.open("ab") as sink:
        sink.write(noise)
    whole = [states for length, states in held if length <= size]
    with open_journal(path) as journal:
        entry = journal.open_entry()
        found = [] if entry is None else [str(one[0]) for one in journal.transitions(entry.id)]
        assert found == (whole[-1] if whole else [])
        if entry is not None and found:
            assert str(entry.position) == found[-1]

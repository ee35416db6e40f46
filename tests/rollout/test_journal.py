from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from flows.errors import Conflict, OutsideError, ProjectError
from flows.rollout.journal import Journal, latest_promotions, open_journal
from flows.rollout.leases import Owner, this_process
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

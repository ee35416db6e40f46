"""One promotion at a time: a lease with a growing epoch, which journal and router check at every write."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from flows.errors import Conflict, OutsideError
from flows.rollout.database import Database, connect

LEASE_S = 30.0


class LeaseHeld(Conflict):
    """Another controller holds the lease, and may still be alive."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lease; the token tells two controllers of one process apart."""

    token: str
    pid: int
    host: str

    def is_gone(self) -> bool:
        """Whether it surely died: its process is no longer on this host. Of other hosts nothing is known."""
        import psutil

        if self.host != socket.gethostname():
            return False
        try:
            return bool(psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False


def this_process() -> Owner:
    """A new owner in this process."""
    return Owner(uuid.uuid4().hex, os.getpid(), socket.gethostname())


@dataclass(frozen=True)
class Lease:
    """The right to run promotions until it expires. Times in seconds since the epoch."""

    epoch: int
    owner: Owner
    since: float
    expires: float

    def is_held_against(self, other: Owner, now: float) -> bool:
        """Whether `other` must leave it alone."""
        return self.owner.token != other.token and now < self.expires and not self.owner.is_gone()

    def conflict(self) -> LeaseHeld:
        """The error for whoever came second."""
        since, until = (datetime.fromtimestamp(t, UTC).strftime("%H:%M:%S UTC") for t in (self.since, self.expires))
        return LeaseHeld(
            f"promotions are held by process {self.owner.pid} on {self.owner.host} since {since} (lease until {until})",
            "Wait for it, or abort it: tca promotion abort",
        )


class LeaseTable(Database):
    """Who may write. Every write of a promotion is made in one transaction with a look at the lease."""

    def acquire(self, owner: Owner, now: float, ttl_s: float, above: int) -> Lease:
        """Take the lease with an epoch above every earlier one and above `above`.

        Raises:
            LeaseHeld: Somebody else holds it, and may still be alive.
        """
        with self._writing() as db:
            row = db.execute("SELECT epoch, token, pid, host, since, expires FROM lease").fetchone()
            if row is not None:
                held = Lease(row[0], Owner(*row[1:4]), row[4], row[5])
                if held.is_held_against(owner, now):
                    raise held.conflict()
            epoch = max(row[0] if row else 0, above) + 1
            db.execute(
                "REPLACE INTO lease VALUES (1, ?, ?, ?, ?, ?, ?)",
                (epoch, owner.token, owner.pid, owner.host, now, now + ttl_s),
            )
        return Lease(epoch, owner, now, now + ttl_s)

    def check(self, lease: Lease) -> None:
        """Raises Conflict when the lease is no longer ours."""
        with self._reading() as db:
            _require(db, lease)

    def renew(self, lease: Lease, now: float, ttl_s: float) -> None:
        """Push the expiry of the lease back. Raises Conflict when it is no longer ours."""
        with self.fenced(lease) as db:
            _renew(db, now, ttl_s)

    def release(self, lease: Lease, unless_aborting: int | None = None) -> bool:
        """Let others take the lease at once; not when somebody asked to abort the open promotion `unless_aborting`.

        Raises:
            Conflict: The lease is no longer ours.
        """
        with self.fenced(lease) as db:
            asked = db.execute(
                "SELECT 1 FROM promotions WHERE id = ? AND closed_at IS NULL AND abort_reason IS NOT NULL",
                (unless_aborting,),
            ).fetchone()
            if asked is None:
                db.execute("UPDATE lease SET expires = 0")
        return asked is None

    @contextmanager
    def fenced(self, lease: Lease) -> Iterator[sqlite3.Connection]:
        """A transaction under the lease: nobody can take it over before the body ends. Raises Conflict if it is lost.

        Also the fence of an effect on something that knows no epochs, such as a model registry.
        """
        with self._writing() as db:
            _require(db, lease)
            yield db

    @contextmanager
    def kept(self, lease: Lease, now: Callable[[], float], ttl_s: float) -> Iterator[None]:
        """Renew the lease from a thread of its own while the body runs, however long one effect takes.

        A process that sleeps as a whole loses it. A journal in memory has nobody who could take it.
        """
        ended = threading.Event()
        thread = threading.Thread(target=self._beat, args=(lease, now, ttl_s, ended), daemon=True, name="lease")
        if self._path is not None:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            if thread.is_alive():
                thread.join()

    def _beat(self, lease: Lease, now: Callable[[], float], ttl_s: float, ended: threading.Event) -> None:
        assert self._path is not None
        while not ended.wait(ttl_s / 3):
            try:
                with closing(connect(self._path)) as connection:
                    LeaseTable(connection, self._path).renew(lease, now(), ttl_s)
            except (Conflict, sqlite3.Error):
                return  # lost: the next write of whoever works under it is told so
            except OutsideError:
                continue  # a disk that is full, or somebody else writes: there is time for another beat


def _require(db: sqlite3.Connection, lease: Lease) -> None:
    row = db.execute("SELECT epoch, pid, host FROM lease").fetchone()
    if row is None or row[0] != lease.epoch:
        who = f"process {row[1]} on {row[2]}" if row else "nobody"
        raise Conflict(
            f"the lease of epoch {lease.epoch} was taken over by {who}", "Nothing was changed; see: tca status"
        )


def _renew(db: sqlite3.Connection, now: float, ttl_s: float) -> None:
    db.execute("UPDATE lease SET expires = ?", (now + ttl_s,))

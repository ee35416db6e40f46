"""One promotion at a time: a lease with a growing epoch, which journal and router check at every write."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from flows.errors import Conflict


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
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
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

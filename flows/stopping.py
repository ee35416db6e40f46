"""How work is ended from outside, and kept from running twice."""

from __future__ import annotations

import fcntl
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from flows.errors import Conflict, Preempted


@contextmanager
def alone(path: Path, conflict: str) -> Iterator[None]:
    """Hold the lock `path` while the body runs; it goes with the process, however that ends.

    Raises:
        Conflict: A living process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(conflict, "Wait for it, or end it; then again") from None
        yield


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM, unless somebody else sees to it, ends the block as Ctrl-C would: by an exception."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Preempted("the training was asked to stop (SIGTERM)", "The same command goes on from what is saved")

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

"""The state directory: what a router that was killed goes on with, and the lock that keeps a second one out."""

from __future__ import annotations

import contextlib
import fcntl
import logging
from pathlib import Path
from typing import TextIO

from bentos.router.cameras import CameraSplit
from bentos.router.routing import RoutingTable, write_whole

_log = logging.getLogger("router")


class StateError(Exception):
    """The state directory cannot be used; the message names the file and the remedy."""


def lock_state(folder: Path) -> TextIO:
    """Have `folder` for this process alone, until the file is closed or the process is gone, however it ended.

    Raises:
        StateError: Another router has it.
    """
    file = (folder / "lock").open("w", encoding="ascii")
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(file.close)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(
                f"another router works with {folder}: stop it, or choose another folder with --state-dir"
            ) from None
        on_failure.pop_all()
    return file


def load_table(path: Path) -> RoutingTable:
    """The routing that counted last. Raises StateError when neither file nor copy can be read as one, OSError."""
    try:
        return RoutingTable(path)
    except ValueError as error:
        problem = str(error).replace("\n", "; ")
        raise StateError(
            f"{path} holds no routing snapshot: {problem}. Move it away to start with nothing routed"
        ) from None


def load_cameras(path: Path) -> CameraSplit:
    """The canary's cameras. A damaged file costs that the canary may take others: no reason not to start."""
    cameras = CameraSplit()
    if path.exists():
        try:
            cameras.restore(path.read_bytes())
        except ValueError as error:
            broken = path.replace(path.with_suffix(".broken"))
            _log.warning("%s was damaged (%s): the canary may take other cameras; it is now %s", path, error, broken)
    cameras.on_growth = lambda text: _keep_cameras(path, text)
    return cameras


def _keep_cameras(path: Path, text: bytes) -> None:
    """Written without fsync, on the loop: rare, small, and worth no more than the same cameras after a restart."""
    try:
        write_whole(path, text)
    except OSError as error:
        _log.warning("%s could not be written (%s): after a restart the canary may take other cameras", path, error)

"""The Unix socket between a flow and the processes that train for it.

Every process of the machine connects, again after each restart, so that the flow sees which of them died.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from flows.training.launching.messages import Message, read_message, write_message

SOCKET, PARENT, BACKEND = "TCA_TRAIN_SOCKET", "TCA_TRAIN_PARENT", "TCA_TRAIN_BACKEND"
STOPPED = 75
_LONGEST_PATH = 100  # of a Unix socket, bytes; Linux takes 107
_PR_SET_PDEATHSIG = 1


class Line:
    """One connection: lines in both directions. A side that is gone is noticed where its messages end."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._incoming = connection, connection.makefile("rb")
        self._writing = threading.Lock()

    def send(self, line: bytes) -> None:
        """Send one line. Raises BrokenPipeError or ConnectionResetError when the other side is gone."""
        with self._writing:
            self._connection.sendall(line)

    def tell(self, message: BaseModel) -> None:
        """Send a message."""
        self.send(write_message(message))

    def read(self) -> bytes:
        """The next line; empty when the other side is gone."""
        try:
            return self._incoming.readline()
        except (ConnectionError, ValueError):
            return b""

    def close(self) -> None:
        """End the connection; a `read` that waits returns."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


Heard = tuple[Line, Message | None]
"""A message and where it came from; None: that connection has ended."""


class Ear:
    """The flow's end of the socket: what all processes say, in one queue."""

    def __init__(self, path: Path) -> None:
        self.heard: queue.Queue[Heard] = queue.Queue()
        self._lines: list[Line] = []
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                line = Line(self._server.accept()[0])
            except OSError:
                return
            self._lines.append(line)
            threading.Thread(target=self._listen, args=(line,), daemon=True).start()

    def _listen(self, line: Line) -> None:
        while (text := line.read()).endswith(b"\n"):  # a process that is killed may leave half a line
            self.heard.put((line, read_message(text)))
        self.heard.put((line, None))

    def close(self) -> None:
        """End all connections."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for line in self._lines:
            line.close()


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder of this user alone, whose path is short enough for a socket."""
    usual = tempfile.gettempdir()
    parent = usual if len(os.fsencode(usual)) < _LONGEST_PATH - 30 else "/tmp"
    with tempfile.TemporaryDirectory(prefix="tca-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def call_parent() -> Line:
    """Connect to the flow that waits at the socket of the environment."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(os.environ[SOCKET])
    return Line(connection)


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent dies, and end now if it already has."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    expected = os.environ.get(PARENT)
    if expected is not None and os.getppid() != int(expected):
        sys.exit(STOPPED)
    os.environ[PARENT] = str(os.getpid())

"""What the supervisor asks of the operating system: signals, sockets, limits, and the end of its children.

Of the standard library alone, see `supervisor`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator
from types import FrameType

_BACKLOG = 2048
_LINUX_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, large queue included. Raises OSError when nobody may listen there."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


@contextlib.contextmanager
def signals_to(sink: socket.socket) -> Iterator[None]:
    """Write the number of every signal that matters to `sink`. A worker that is started has its own handlers again."""

    def ignore(number: int, frame: FrameType | None) -> None: ...

    sink.setblocking(False)
    before = {number: signal.signal(number, ignore) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)}
    old_sink = signal.set_wakeup_fd(sink.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(old_sink)
        for number, handler in before.items():
            signal.signal(number, handler)


def die_with(parent: int) -> None:
    """In a worker about to be: be killed when the supervisor is, so that no orphan keeps the port."""
    if _libc is not None:
        _libc.prctl(_LINUX_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died in between
            os._exit(1)


def own_address(listener: socket.socket) -> tuple[str, int]:
    """Where a client on this machine reaches `listener`."""
    host, port = listener.getsockname()[:2]
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port


def raise_file_limit() -> None:
    """Every connection is an open file: allow as many as may be had without asking."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # macOS says unlimited, and means a kernel's constant
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def is_running(pid: int) -> bool:
    """Whether there is a process of this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def configure_log(logger: logging.Logger, as_json: bool) -> None:
    """Lines as the worker writes them, see `logs`; that module has more imports than this process may have."""

    def line(record: logging.LogRecord) -> str:
        time_s, milliseconds = divmod(int(record.created * 1000), 1000)
        when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(time_s))}.{milliseconds:03}Z"
        if not as_json:
            return f"{when} {record.levelname} {record.getMessage()}"
        content = {"time": when, "level": record.levelname.lower(), "logger": record.name}
        return json.dumps({**content, "message": record.getMessage()})

    handler = logging.StreamHandler(sys.stdout)
    handler.format = line  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def describe_end(code: int) -> str:
    """An exit code in words."""
    return f"died by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"

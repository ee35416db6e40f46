"""The reports folder over HTTP, for this machine's browser only."""

from __future__ import annotations

import errno
import functools
import os
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flows.errors import Conflict

HOST = "127.0.0.1"
_OUR_NAMES = (HOST, "localhost")


class PagesServer(ThreadingHTTPServer):
    """Serves the files of one folder, nothing above it, and rebuilds its index for every request of `/`.

    Raises:
        Conflict: The port is in use.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int, rebuild: Callable[[], object]) -> None:
        handler = functools.partial(_PagesHandler, folder=folder.resolve(), rebuild=rebuild, lock=threading.Lock())
        try:
            super().__init__((HOST, port), handler)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise Conflict(
                f"port {port} is in use", "Stop what listens there, or choose another: tca ui --port PORT"
            ) from None

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://{HOST}:{self.server_address[1]}/"


class _PagesHandler(SimpleHTTPRequestHandler):
    def __init__(
        self, *arguments: Any, folder: Path, rebuild: Callable[[], object], lock: threading.Lock, **more: Any
    ) -> None:
        self._folder, self._rebuild, self._lock = folder, rebuild, lock
        super().__init__(*arguments, directory=str(folder), **more)

    def send_head(self) -> Any:
        # A page elsewhere that resolves its own name to this machine must not read the reports (DNS rebinding).
        if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in _OUR_NAMES:
            return self._refuse(HTTPStatus.FORBIDDEN, f"expected a Host of {' or '.join(_OUR_NAMES)}")
        if urlsplit(self.path).path in ("/", "/index.html"):
            with self._lock:
                self._rebuild()
        if not Path(os.path.realpath(self.translate_path(self.path))).is_relative_to(self._folder):
            return self._refuse(HTTPStatus.NOT_FOUND, "outside the reports")
        return super().send_head()

    def list_directory(self, path: str | os.PathLike[str]) -> None:
        """Folders are not listed."""
        self._refuse(HTTPStatus.NOT_FOUND, "no such page")

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """The terminal stays quiet."""

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self.send_error(status, message)

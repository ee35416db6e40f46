"""The reports folder over HTTP, for this machine's browser only."""

from __future__ import annotations

import errno
import functools
import os
import re
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flows.errors import Conflict, TcaError

HOST = "127.0.0.1"
_OUR_NAMES = (HOST, "localhost")
CARDS = "cards"  # folder of the model cards, below the reports
_CARD = re.compile(rf"/{CARDS}/(\d{{1,9}})\.html")


class PagesServer(ThreadingHTTPServer):
    """Serves the files of one folder, nothing above it, and rebuilds its index for every request of `/`.

    Args:
        make_card: Writes cards/VERSION.html, asked for the first time that this page is wanted.

    Raises:
        Conflict: The port is in use.
    """

    daemon_threads = True

    def __init__(
        self,
        folder: Path,
        port: int,
        rebuild: Callable[[], object],
        make_card: Callable[[str], object] | None = None,
    ) -> None:
        handler = functools.partial(
            _PagesHandler, folder=folder.resolve(), rebuild=rebuild, make_card=make_card, lock=threading.Lock()
        )
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
        self,
        *arguments: Any,
        folder: Path,
        rebuild: Callable[[], object],
        make_card: Callable[[str], object] | None,
        lock: threading.Lock,
        **more: Any,
    ) -> None:
        self._folder, self._rebuild, self._make_card, self._lock = folder, rebuild, make_card, lock
        super().__init__(*arguments, directory=str(folder), **more)

    def send_head(self) -> Any:
        # A page elsewhere that resolves its own name to this machine must not read the reports (DNS rebinding).
        if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in _OUR_NAMES:
            return self._refuse(HTTPStatus.FORBIDDEN, f"expected a Host of {' or '.join(_OUR_NAMES)}")
        path = urlsplit(self.path).path
        if path in ("/", "/index.html"):
            with self._lock:
                self._rebuild()
        wanted = _CARD.fullmatch(path)
        if wanted and self._make_card and not (self._folder / path[1:]).exists():
            try:
                with self._lock:
                    self._make_card(wanted[1])
            except TcaError as error:
                return self._refuse(HTTPStatus.NOT_FOUND, error.message)
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

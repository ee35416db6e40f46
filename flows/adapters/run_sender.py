"""The thread that sends a run's journal to MLflow while the run goes on, and waits where MLflow does not answer."""

from __future__ import annotations

import http.client
import logging
import os
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from urllib.parse import urlsplit

from flows.adapters.run_delivery import Delivery, first_line
from flows.adapters.run_spool import Spool

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_PROBE_S = 5.0

Connect = Callable[[Spool, Callable[[str], None]], Delivery]
"""Makes the delivery of a journal; raises whatever MLflow raises when it does not answer."""


class Sender:
    """Sends in the background from `wake` to `wake` until it is finished; then lets go of the journal.

    Args:
        say: Told once when MLflow does not answer, and when what it lacked has been sent.
        then: Called in the thread when MLflow has answered for the first time.
    """

    def __init__(
        self, spool: Spool, connect: Connect, uri: str, say: Callable[[str], None], then: Callable[[], object]
    ) -> None:
        self._spool, self._connect, self._uri, self._say, self._then = spool, connect, uri, say, then
        self._awake, self._finishing, self._settled = threading.Event(), threading.Event(), threading.Event()
        self._is_behind, self._has_followed = False, False
        self._thread = threading.Thread(target=self._work, name="run-sender", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._awake.set()
        self._thread.start()

    def wake(self) -> None:
        """There is something new."""
        self._awake.set()

    def finish(self, limit_s: float) -> bool:
        """Try once more, for `limit_s` at most; whether MLflow has everything.

        An attempt that hangs goes on in the background as long as this process lives.
        """
        self._finishing.set()
        self._awake.set()
        self._settled.wait(limit_s)
        return self._settled.is_set() and not self._spool.unsent()

    def _work(self) -> None:
        delivery, pause_s, is_last = None, 0.0, False
        while not is_last:
            if pause_s:  # only time or the end lead to another attempt, not every epoch
                self._finishing.wait(pause_s)
            else:
                self._awake.wait()
            self._awake.clear()
            is_last = self._finishing.is_set()
            delivery = self._attempt(delivery)
            pause_s = 0.0 if delivery else min(max(2 * pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
        self._leave()

    def _attempt(self, delivery: Delivery | None) -> Delivery | None:
        try:
            if delivery is None:
                require_answer(self._uri)
                delivery = self._connect(self._spool, self._tell_refusal)
            delivery.send()
        except Exception as error:  # whatever it is, the training goes on and the entries stay
            self._tell_silence(error)
            return None
        if self._is_behind:
            self._is_behind = False
            self._say("MLflow answers again; what it lacked has been sent")
        if not self._has_followed:
            self._has_followed = True
            self._then()
        return delivery

    def _leave(self) -> None:
        if self._spool.status.is_last and not self._spool.unsent():
            self._spool.remove()
        else:
            self._spool.close()
        self._settled.set()

    def _tell_silence(self, error: Exception) -> None:
        logging.getLogger("tca").warning("MLflow: %s", first_line(error))
        if not self._is_behind:
            self._is_behind = True
            where = f"MLflow at {shown_uri(self._uri)} does not answer ({first_line(error)})"
            self._say(f"{where}; figures are kept in {self._spool.place} and sent later")

    def _tell_refusal(self, reason: str) -> None:
        self._say(f"MLflow refused something of this run and will not get it: {reason}")


def require_answer(uri: str) -> None:
    """Ask a server whether it is there, so that a dead one costs seconds and not the minutes of MLflow's retries.

    Raises:
        OSError: It refuses, hangs or answers that it is broken.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # 7, its default, are four minutes a request
    if not os.environ.get("TCA_VERBOSE"):
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # a traceback for a busy database
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return
    address = parts._replace(netloc=parts.netloc.rsplit("@", maxsplit=1)[-1]).geturl()  # anyone may ask for its health
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=_PROBE_S):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise OSError(f"it answers {error.code}") from error
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):  # there is somebody; whom to trust is MLflow's own setting
            raise OSError(str(error.reason)) from error
    except http.client.HTTPException as error:
        raise OSError(f"it is no web server: {first_line(error)}") from error


def shown_uri(uri: str) -> str:
    """The address without name and password."""
    return uri.rsplit("@", maxsplit=1)[-1]

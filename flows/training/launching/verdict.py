"""How the error of one process becomes the outcome of all, whichever of them has met it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from flows.errors import TcaError
from flows.training.distributed.company import torch_distributed
from flows.training.distributed.seat import Seat
from flows.training.launching.messages import Failed, Message

_KEY, _HEARD = "failed", "heard"
_LINGER_S = 30.0
_FOREVER = timedelta(days=365)


class Verdict:
    """An error of our own tree ends the training everywhere; nobody tries again.

    The process that met it leaves it in the common store. On every machine one process waits for that beside its
    work, which may hang in a sum with the one that failed, and tells the flow of its machine; the flows end the rest.
    """

    def __init__(self, seat: Seat, store: Any, tell: Callable[[Message], None]) -> None:
        self._seat, self._store, self._tell = seat, store, tell
        if store is not None and seat.local_rank == 0:
            threading.Thread(target=self._watch, daemon=True).start()

    def fail(self, error: TcaError) -> None:
        """Tell the error; among several wait for the end."""
        failed = Failed.of(error)
        if self._store is None:
            self._tell(failed)
            return
        self._store.set(_KEY, failed.model_dump_json())
        time.sleep(_LINGER_S)

    def _watch(self) -> None:
        dist = torch_distributed()
        try:
            # A connection of its own: waiting keeps others from using it.
            address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            store = dist.PrefixStore("talk", dist.TCPStore(*address, is_master=False, timeout=timedelta(minutes=5)))
            store.wait([_KEY], _FOREVER)
            failed = Failed.model_validate_json(store.get(_KEY))
            self._let_others_hear(store)
        except RuntimeError:  # the store is gone, and with it the process that kept it
            return
        self._tell(failed)
        time.sleep(_LINGER_S)
        os._exit(1)

    def _let_others_hear(self, store: Any) -> None:
        heard = store.add(_HEARD, 1)
        deadline = time.monotonic() + 5
        while self._seat.is_first and heard < self._seat.num_nodes and time.monotonic() < deadline:
            time.sleep(0.05)
            heard = store.add(_HEARD, 0)

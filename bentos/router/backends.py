"""Pooled HTTP/1.1 client connections to the detectors, whether each says it is ready, and whether it hangs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from urllib.parse import urlsplit

from bentos.router.connections import BackendConnection, BackendError, DroppedUnanswered, Patience
from bentos.router.messages import Reply, Request, render_request
from bentos.router.silence import Silence

MAX_IDLE_CONNECTIONS = 64
MAX_IDLE_S = 4.0
"""Servers of the uvicorn family close a kept connection after 5 s: leave it before they do."""
CONNECT_TIMEOUT_S = 1.0
_log = logging.getLogger("router")


class Pool:
    """Connections to one back end, how much is in flight there, and whether it hangs.

    Args:
        url: http://HOST:PORT.
        silence_s: A back end that lets users wait for so long, and answers nobody, hangs.
    """

    def __init__(self, url: str, silence_s: float = 1.0) -> None:
        address = urlsplit(url)
        self.url = url
        self.netloc = address.netloc
        self.host = address.hostname or ""
        self.port = address.port or 80
        self.in_flight = 0
        self.ready: bool | None = None
        """What /readyz said last; None before the first look."""
        self._idle: deque[BackendConnection] = deque()
        self._silence = Silence(silence_s)

    @property
    def hangs(self) -> bool:
        """Whether it let users wait and answered nobody, and has not made up for it yet."""
        silence = self._silence
        return silence.is_long and silence.lasts(asyncio.get_running_loop().time())

    def heard_within(self, seconds: float) -> bool:
        """Whether it answered anybody in the last `seconds`."""
        return asyncio.get_running_loop().time() - self._silence.heard_s < seconds

    async def ask(
        self,
        parts: list[bytes],
        timeout_s: float,
        *,
        idempotent: bool,
        is_head: bool = False,
        patience: Patience | None = None,
    ) -> Reply:
        """Send a rendered request, on a kept connection if there is one, and return the whole answer.

        A kept connection that the back end closed just then is replaced once, if the request may be repeated.

        Raises:
            BackendError: No answer: refused, dropped, malformed, not within `timeout_s`, or `patience` was ended.
        """
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        self.in_flight += 1
        try:
            reply = await self._ask(parts, timeout_s, idempotent, is_head, patience)
        except (BackendError, asyncio.CancelledError):
            self._silence.miss(began_s, loop.time())
            raise
        finally:
            self.in_flight -= 1
        self._silence.hear(loop.time())
        return reply

    async def look(self, timeout_s: float) -> None:
        """Ask /readyz and keep what it said in `ready`. Is not counted as in flight."""
        request = Request(b"GET", b"/readyz", [(b"host", self.netloc.encode())], b"")
        ready = False
        with contextlib.suppress(BackendError):
            connection = await self._connect(timeout_s)
            reply = await self._exchange(connection, render_request(request, b"readiness"), timeout_s)
            ready = reply.status == 200
        if ready != self.ready:
            _log.info("%s is %s", self.url, "ready" if ready else "not ready")
        self.ready = ready

    def close_idle(self) -> None:
        """Close the connections on which nothing is in flight."""
        while self._idle:
            self._idle.pop().close()

    async def _ask(
        self, parts: list[bytes], timeout_s: float, idempotent: bool, is_head: bool, patience: Patience | None
    ) -> Reply:
        connection = self._take_idle()
        if connection is not None:
            try:
                return await self._exchange(connection, parts, timeout_s, is_head, patience)
            except DroppedUnanswered:
                if not idempotent:
                    raise
        return await self._exchange(await self._connect(timeout_s), parts, timeout_s, is_head, patience)

    async def _connect(self, timeout_s: float) -> BackendConnection:
        loop = asyncio.get_running_loop()
        try:
            # not wait_for: in Python 3.11 it forgets a cancellation that comes together with the connection
            async with asyncio.timeout(min(timeout_s, CONNECT_TIMEOUT_S)):
                _, connection = await loop.create_connection(BackendConnection, self.host, self.port)
        except TimeoutError:
            raise BackendError("no connection in time") from None
        except OSError as error:
            raise BackendError(f"no connection: {error.strerror or type(error).__name__}") from None
        return connection

    async def _exchange(
        self,
        connection: BackendConnection,
        parts: list[bytes],
        timeout_s: float,
        is_head: bool = False,
        patience: Patience | None = None,
    ) -> Reply:
        reply = await connection.exchange(parts, timeout_s, is_head, patience)
        if connection.reusable and len(self._idle) < MAX_IDLE_CONNECTIONS:
            self._idle.append(connection)
        else:
            connection.close()
        return reply

    def _take_idle(self) -> BackendConnection | None:
        oldest_allowed = asyncio.get_running_loop().time() - MAX_IDLE_S
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and connection.idle_since > oldest_allowed:
                return connection
            connection.close()
        return None


class Pools:
    """One pool for each back end that is routed to, or that still has something in flight."""

    def __init__(self, silence_s: float = 1.0) -> None:
        self._silence_s = silence_s
        self._pools: dict[str, Pool] = {}
        self._routed: frozenset[str] = frozenset()
        self._changed = asyncio.Event()

    def __getitem__(self, url: str) -> Pool:
        pool = self._pools.get(url)
        if pool is None:
            pool = self._pools[url] = Pool(url, self._silence_s)
        return pool

    def keep(self, urls: frozenset[str]) -> None:
        """Route to `urls` only: the others lose their idle connections now, and go when they have finished."""
        self._routed = urls
        self._changed.set()
        for url in urls:
            self[url]
        self.sweep()

    def sweep(self) -> None:
        """Forget the pools that are neither routed to nor busy."""
        for url, pool in list(self._pools.items()):
            if url not in self._routed:
                pool.close_idle()
                if not pool.in_flight:
                    del self._pools[url]

    def in_flight(self) -> dict[str, int]:
        """Requests and copies in flight, by url."""
        return {url: pool.in_flight for url, pool in self._pools.items()}

    def state(self, url: str) -> dict[str, bool | None]:
        """{"ready", "hangs"} of a back end; `ready` is None before the first look."""
        pool = self[url]
        return {"ready": pool.ready, "hangs": pool.hangs}

    async def watch(self, interval_s: float) -> None:
        """Look at the readiness of every routed back end, for ever; at once after a change of routing."""
        while True:
            self._changed.clear()
            self.sweep()
            await asyncio.gather(*(self[url].look(timeout_s=2.0) for url in self._routed))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await self._changed.wait()

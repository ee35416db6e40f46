"""The two versions of a promotion and their processes: found by looking, never remembered."""

from __future__ import annotations

from collections.abc import Callable

from bentos.router.routing import Backend
from flows.errors import ServiceError
from flows.rollout.effects import Effects, Routing
from flows.rollout.journal import Entry
from flows.rollout.traffic import Contender

READY_LIMIT_S = 120.0
_LOOKS = 3


class Arms:
    """Challenger and champion of one promotion; there is no champion when the first one is made."""

    def __init__(self, entry: Entry, effects: Effects) -> None:
        self.challenger = Contender(*entry.challenger)
        self.champion = Contender(*entry.champion) if entry.champion else None
        self._effects, self._traffic = effects, effects.traffic

    def find_challenger(self) -> Backend | None:
        """The challenger's process, if it runs."""
        return self._traffic.find(self.challenger.version, self.challenger.digest)

    def find_champion(self) -> Backend | None:
        """The champion's process, if there is one and it runs."""
        return self._traffic.find(self.champion.version, self.champion.digest) if self.champion else None

    def wait_ready(self, backend: Backend, heed: Callable[[], None]) -> str | None:
        """None when it is ready; else why it is not, after two minutes at most. Raises what `heed` raises."""

        def ready_or_dead() -> bool:
            heed()
            return self._traffic.is_ready(backend) or not self._traffic.is_alive(backend)

        self._effects.wait_until(ready_or_dead, READY_LIMIT_S)
        if self._traffic.is_ready(backend):
            return None
        alive = self._traffic.is_alive(backend)
        return f"did not become ready within {READY_LIMIT_S:.0f} s" if alive else "ended while it started"

    def bring_up(self, state: str, version: Contender, heed: Callable[[], None]) -> Backend:
        """The version, started if it is not running. Raises ServiceError when it does not become ready."""
        running = self._traffic.find(version.version, version.digest) or self._effects.start(state, version)
        if (problem := self.wait_ready(running, heed)) is not None:
            raise ServiceError(
                f"version {version.version} {problem}",
                f"The promotion stays in {state}; mend the cause (see: tca status) and run it again",
            )
        return running

    def is_healthy(self, backend: Backend | None) -> bool:
        """Whether it runs and says that it is ready; one answer that comes late is no illness."""
        if backend is None or not self._traffic.is_alive(backend):
            return False
        return any(self._traffic.is_ready(backend) for _ in range(_LOOKS))

    def unwatched_routing(self, challenger_reigns: bool) -> Routing | None:
        """How to route while nobody watches: all frames to who reigns, the other standing by.

        When who reigns is down, the other takes all frames. None: there is nobody to route to.
        """
        champion, challenger = self.find_champion(), self.find_challenger()
        reigning, other = (challenger, champion) if challenger_reigns else (champion, challenger)
        if not self.is_healthy(reigning) and self.is_healthy(other):
            return Routing("champion", other, promotion=self._effects.promotion)
        # One that is down stays routed: somebody must be, and a router on its own may find it again.
        reigning = reigning or self._traffic.routing().champion
        if reigning is None:
            return None
        return Routing("champion", reigning, other, promotion=self._effects.promotion)

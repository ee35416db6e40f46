"""What a promotion needs of the world: traffic, a registry, a clock. Each has a real and a fake implementation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bentos.router.routing import Backend, Snapshot


class Version(Protocol):
    """A registered model version, pinned by the digest of its model.json."""

    @property
    def version(self) -> str: ...
    @property
    def digest(self) -> str: ...


@dataclass(frozen=True)
class Contender:
    """The plain `Version`."""

    version: str
    digest: str


class Registry(Protocol):
    """Who reigns."""

    def champion(self) -> Version | None: ...

    def set_champion(self, version: str, digest: str) -> None:
        """Enthrone a version: alias and pointer. Idempotent."""

    def clear_champion(self) -> None:
        """Have nobody reign: a first champion that was taken back. Idempotent."""


class Traffic(Protocol):
    """Starts and stops detectors and routes frames to them.

    Every method may raise ServiceError (something did not answer) and `route` Conflict (a later snapshot counts).
    """

    def start(self, version: str, digest: str) -> Backend:
        """Have the version running, and say where. Idempotent: one that runs already is found again."""

    def find(self, version: str, digest: str) -> Backend | None:
        """The running one, if it runs."""

    def is_alive(self, backend: Backend) -> bool: ...

    def is_ready(self, backend: Backend) -> bool: ...

    def warm_up(self, backend: Backend) -> None:
        """Have it answer once, with the pinned digest. Raises ServiceError when it answers otherwise."""

    def stop(self, backend: Backend, grace_s: float) -> None:
        """SIGTERM, and after `grace_s` SIGKILL. Idempotent."""

    def routing(self) -> Snapshot: ...

    def route(self, snapshot: Snapshot) -> None: ...

    def observations(self, after: int) -> Mapping[str, Any]:
        """{"next", "dropped", "observations"}: what each arm answered since `after`, as the router wrote it."""

    def stats(self) -> Mapping[str, Any]: ...


class Clock(Protocol):
    """Seconds since the epoch, and waiting."""

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

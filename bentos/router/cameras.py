"""Which cameras a canary takes: those with the smallest u = H(promotion, camera); the set only grows with the share."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

MAX_CAMERAS = 10_000
"""Cameras beyond these are answered by the champion; a bound on memory, not a setting."""


def rank(promotion: int, camera: str) -> float:
    """The u = H(promotion, camera) in [0, 1): another order of the cameras for each promotion."""
    digest = hashlib.blake2b(f"{promotion}/{camera}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


@dataclass
class CameraSplit:
    """The cameras seen, and those among them that the canary of a promotion answers.

    A share s takes max(1, floor(s * seen)) cameras. A camera once taken stays while the promotion lasts and the share
    does not fall, also when a camera of smaller u turns up later. `on_growth` is called with the split as bytes each
    time its membership changed, so that a restart goes on with the same cameras.
    """

    on_growth: Callable[[bytes], None] = lambda _: None
    promotion: int | None = None
    share: float = 0.0
    taken: dict[str, None] = field(default_factory=dict)  # a set that keeps its order
    _seen: set[str] = field(default_factory=set)
    _waiting: list[tuple[float, str]] = field(default_factory=list)  # seen, not taken, by u

    @property
    def num_seen(self) -> int:
        """Cameras seen since the start, at most MAX_CAMERAS."""
        return len(self._seen)

    def see(self, camera: str) -> None:
        """Remember a camera; "" (no camera named) is none."""
        if not camera or camera in self._seen or len(self._seen) >= MAX_CAMERAS:
            return
        self._seen.add(camera)
        if self.promotion is not None and camera not in self.taken:
            bisect.insort(self._waiting, (rank(self.promotion, camera), camera))
            self._grow()

    def adopt(self, promotion: int, share: float) -> None:
        """The canary of `promotion` shall take `share`. A lower share than before lets the last ones go."""
        if promotion != self.promotion:
            self.promotion, self.taken = promotion, {}
        elif share < self.share:
            self.taken = dict.fromkeys(list(self.taken)[: self._quota(share)])
        self.share = share
        self._waiting = sorted((rank(promotion, camera), camera) for camera in self._seen if camera not in self.taken)
        self._grow(changed=True)

    def dump(self) -> bytes:
        """What `restore` reads."""
        return orjson.dumps({"promotion": self.promotion, "share": self.share, "cameras": list(self.taken)})

    def restore(self, text: bytes) -> None:
        """Go on with what `dump` wrote. Raises ValueError when it did not."""
        tree = orjson.loads(text)
        try:
            promotion, share, cameras = tree["promotion"], float(tree["share"]), [str(name) for name in tree["cameras"]]
        except (TypeError, KeyError) as error:
            raise ValueError(f"it lacks {error}") from None
        if promotion is not None:
            self.promotion, self.share = int(promotion), share
            self.taken = dict.fromkeys(cameras)
            self._seen.update(cameras)

    def _quota(self, share: float) -> int:
        if share <= 0 or not self._seen:
            return 0
        # 0.29 * 100 is 28.999...: a share means the number that it was written as
        return max(1, int(share * len(self._seen) + 1e-9))

    def _grow(self, changed: bool = False) -> None:
        missing = self._quota(self.share) - len(self.taken)
        if missing > 0 and self._waiting:
            self.taken.update(dict.fromkeys(camera for _, camera in self._waiting[:missing]))
            del self._waiting[:missing]
            changed = True
        if changed:
            self.on_growth(self.dump())

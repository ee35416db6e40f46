"""Progress over steps of unequal length, so that the time left is worth reading."""

from __future__ import annotations

from flows.progress import Progress


class Steps:
    """Weighted steps, begun one after another; weights are rough seconds. Steps may be added on the way."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done = self._current = 0.0
        self._ahead = 0.0
        self._note = ""

    def expect(self, weight: float) -> None:
        """There is that much more to come."""
        self._ahead += weight

    def begin(self, weight: float, note: str) -> None:
        """The step before is done; one of `weight`, which was expected, begins."""
        self._done += self._current
        self._ahead = max(self._ahead - weight, 0.0)
        self._current, self._note = weight, note
        self._tell(0.0)

    def within(self, done: int, total: int, note: str) -> None:
        """A `Progress` inside the present step."""
        self._tell(done / total if total else 0.0)

    def finish(self) -> None:
        """All is done, whatever was expected."""
        self._done += self._current
        self._current = self._ahead = 0.0
        self._note = "done"
        self._tell(0.0)

    def _tell(self, share: float) -> None:
        total = self._done + self._current + self._ahead
        self._progress(round(10 * (self._done + share * self._current)), round(10 * total), self._note)

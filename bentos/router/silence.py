"""Whether a back end hangs: it accepts requests and answers none."""

from __future__ import annotations

_TOLERANCE = 0.99  # timers of the loop come up to a millisecond early
RETRY_AFTER_S = 10.0
"""A silent back end that nobody asked for so long may be asked again."""
ANSWERS_TO_RETURN = 8
"""So many answers in a row end the silence: whoever comes back gets copies first, and only then all its users."""


class Silence:
    """How long somebody has been waiting at a back end without any answer.

    Only time in which a request waited counts, and every answer ends it: so one long request among short ones is no
    silence, nor is a refused connection, which holds nobody. Times are seconds of one monotonic clock.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s * _TOLERANCE
        self._unheard_s = 0.0
        self._counted_to_s = 0.0
        self._num_answers = 0
        self.heard_s = float("-inf")
        """When it answered last."""

    @property
    def is_long(self) -> bool:
        """Whether the limit was reached, however long ago."""
        return self._unheard_s >= self._limit_s

    def hear(self, now_s: float) -> None:
        """It answered, whatever it was."""
        self._counted_to_s = self.heard_s = now_s
        self._num_answers += 1
        if self._unheard_s < self._limit_s or self._num_answers >= ANSWERS_TO_RETURN:
            self._unheard_s = 0.0

    def miss(self, began_s: float, now_s: float) -> None:
        """A request waited from `began_s` until now, for nothing."""
        self._unheard_s += max(0.0, now_s - max(began_s, self._counted_to_s))
        self._counted_to_s = now_s
        self._num_answers = 0

    def lasts(self, now_s: float) -> bool:
        """Whether users had better be sent elsewhere."""
        return self.is_long and now_s - self._counted_to_s < RETRY_AFTER_S

"""Errors and frames over the latency budget, judged by windows of time.

A busy machine makes many frames slow in a row, of all cameras, and a network that stutters fails many: they are one
observation, not many. So bets are placed on what a whole window brought, which is valid however alike the frames within
it are. A window counts once it is over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from flows.rollout.eprocess import ShareBets, SignBets
from flows.rollout.trials import Trial

MOST_LATE = 30
"""A frame that belongs so many windows back is not late: the clock was set back, or had been ahead for a moment."""


@dataclass(frozen=True)
class Windows:
    """Evidence from the windows that are over, and what the open one holds so far.

    `shares`: against "windows have a share of events of `limit` on average"; `signs`: against "no worse than the
    champion".
    """

    shares: ShareBets
    signs: SignBets = field(default_factory=SignBets)
    number: int = -1
    trials: int = 0
    events: int = 0
    balance: int = 0
    """Pairs of the open one with the event in the challenger only, less those with it in the champion only."""

    def plus(self, trials: Iterable[Trial]) -> Windows:
        """With more frames. Without a number each is a window; one that comes late is counted in the open one."""
        shares, signs = self.shares, self.signs
        number, num, events, balance = self.number, self.trials, self.events, self.balance
        for window, ours, theirs in trials:
            if window is None or not number - MOST_LATE <= window <= number:
                if num:
                    shares, signs = shares.bet(events / num), signs.bet(balance)
                number, num, events, balance = (number + 1 if window is None else window), 0, 0, 0
            num += 1
            events += ours
            if theirs is not None:
                balance += ours - theirs
        return Windows(shares, signs, number, num, events, balance)

    @property
    def ln_e(self) -> float:
        """The lesser of the two: both must hold for harm."""
        return min(self.shares.ln_e, self.signs.ln_e)

"""Frames over the latency budget, judged by windows of time.

A busy machine makes many frames slow in a row, of all cameras: they are one observation, not many. So bets are placed
on what a whole window brought, which is valid however alike the frames within it are. A window counts once it is over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from flows.rollout.eprocess import ShareBets, SignBets


@dataclass(frozen=True)
class Windows:
    """Evidence from the windows that are over, and what the open one holds so far.

    `shares`: against "windows have `limit` slow frames on average"; `signs`: against "no worse than the champion".
    """

    shares: ShareBets
    signs: SignBets = field(default_factory=SignBets)
    number: int = -1
    trials: int = 0
    slow: int = 0
    balance: int = 0
    """Pairs of the open window in which only the challenger was slow, less those in which only the champion was."""

    def plus(self, frames: Iterable[tuple[int | None, bool, bool | None]]) -> Windows:
        """With more frames: the number of their window, whether they were slow, whether the champion was beside them.

        Without a number each frame is a window. One that comes late, after its window, is counted in the open one.
        """
        shares, signs = self.shares, self.signs
        number, trials, slow, balance = self.number, self.trials, self.slow, self.balance
        for window, ours, theirs in frames:
            if window is None or window > number:
                if trials:
                    shares, signs = shares.bet(slow / trials), signs.bet(balance)
                number, trials, slow, balance = (number + 1 if window is None else window), 0, 0, 0
            trials += 1
            slow += ours
            if theirs is not None:
                balance += ours - theirs
        return Windows(shares, signs, number, trials, slow, balance)

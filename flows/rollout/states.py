"""The states of a promotion and the one pure function that moves between them.

    IDLE -> OFFLINE_GATE -> STAGING -> SHADOW -> CANARY(0) ... CANARY(k) -> PROMOTING -> BAKE -> DRAIN_OLD -> DONE
    IDLE ... BAKE, HOLD -> ROLLING_BACK -> ROLLED_BACK
    IDLE ... BAKE       -> HOLD -> back to where it was held

A first champion has nobody to be compared with and nobody to fall back on: STAGING -> PROMOTING -> DONE.
DRAIN_OLD is past the point of no return: from there it only goes forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a promotion is."""

    IDLE = "IDLE"
    OFFLINE_GATE = "OFFLINE_GATE"
    STAGING = "STAGING"
    SHADOW = "SHADOW"
    CANARY = "CANARY"
    PROMOTING = "PROMOTING"
    BAKE = "BAKE"
    DRAIN_OLD = "DRAIN_OLD"
    DONE = "DONE"
    ROLLING_BACK = "ROLLING_BACK"
    ROLLED_BACK = "ROLLED_BACK"
    HOLD = "HOLD"


class Event(StrEnum):
    """What happened. ABORT and ROLL_BACK lead to the same place, for different reasons."""

    ADVANCE = "advance"
    ROLL_BACK = "rollback"
    ABORT = "abort"
    HOLD = "hold"
    RESUME = "resume"


TERMINAL = frozenset({State.DONE, State.ROLLED_BACK})
REVERSIBLE = frozenset(
    {
        State.IDLE,
        State.OFFLINE_GATE,
        State.STAGING,
        State.SHADOW,
        State.CANARY,
        State.PROMOTING,
        State.BAKE,
    }
)
"""From these a promotion may be held or rolled back."""
JUDGED = frozenset({State.SHADOW, State.CANARY, State.BAKE})
"""In these it advances on evidence from live frames, and on nothing else."""


@dataclass(frozen=True)
class Position:
    """A state, the step of a canary, and for HOLD where to resume."""

    state: State
    step: int = 0
    held_from: Position | None = None

    def __str__(self) -> str:
        if self.held_from is not None:
            return f"{self.state} (in {self.held_from})"
        return f"{self.state} step {self.step + 1}" if self.state is State.CANARY else str(self.state)


@dataclass(frozen=True)
class Route:
    """The way of one promotion: how many canary steps, and whether a champion reigns whom it must beat."""

    num_steps: int
    has_champion: bool

    def following(self, position: Position) -> Position | None:
        """The next position when all goes well; None at the end, and off the way."""
        if position.state is State.ROLLING_BACK:
            return Position(State.ROLLED_BACK)
        way = self._way()
        if position not in way or position == way[-1]:
            return None
        return way[way.index(position) + 1]

    def _way(self) -> list[Position]:
        begin = [State.IDLE, State.OFFLINE_GATE, State.STAGING]
        if not self.has_champion:
            return [Position(state) for state in (*begin, State.PROMOTING, State.DONE)]
        end = [State.PROMOTING, State.BAKE, State.DRAIN_OLD, State.DONE]
        return [
            *(Position(state) for state in (*begin, State.SHADOW)),
            *(Position(State.CANARY, step) for step in range(self.num_steps)),
            *(Position(state) for state in end),
        ]


class IllegalTransition(Exception):
    """The event cannot happen there: a defect of the caller, never of the user."""


def next_state(position: Position, event: Event, route: Route) -> Position:
    """Where `event` leads from `position`. Pure.

    Raises:
        IllegalTransition: The event cannot happen there.
    """
    match event:
        case Event.ADVANCE:
            following = route.following(position)
        case Event.ROLL_BACK | Event.ABORT:
            may = position.state in REVERSIBLE or position.state is State.HOLD
            following = Position(State.ROLLING_BACK) if may else None
        case Event.HOLD:
            following = Position(State.HOLD, held_from=position) if position.state in REVERSIBLE else None
        case Event.RESUME:
            following = position.held_from if position.state is State.HOLD else None
    if following is None:
        raise IllegalTransition(f"{event} cannot happen in {position}")
    return following

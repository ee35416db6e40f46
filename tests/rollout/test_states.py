from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flows.rollout.states import REVERSIBLE, TERMINAL, Event, IllegalTransition, Position, Route, State, next_state

IDLE, GATE, STAGING, SHADOW, PROMOTING, BAKE, DRAIN, DONE, BACK, GONE = (
    Position(State(name))
    for name in (
        *("IDLE", "OFFLINE_GATE", "STAGING", "SHADOW", "PROMOTING", "BAKE", "DRAIN_OLD"),
        *("DONE", "ROLLING_BACK", "ROLLED_BACK"),
    )
)
CANARY = [Position(State.CANARY, step) for step in range(2)]
HOLDABLE = [IDLE, GATE, STAGING, SHADOW, *CANARY, PROMOTING, BAKE]
HELD = [Position(State.HOLD, held_from=position) for position in HOLDABLE]
EVERYWHERE = [*HOLDABLE, DRAIN, DONE, BACK, GONE, *HELD]

ADVANCES = dict(
    zip(
        [IDLE, GATE, STAGING, SHADOW, *CANARY, PROMOTING, BAKE, DRAIN, BACK],
        [GATE, STAGING, SHADOW, *CANARY, PROMOTING, BAKE, DRAIN, DONE, GONE],
        strict=True,
    )
)
TABLE = {
    **{(position, Event.ADVANCE): following for position, following in ADVANCES.items()},
    **{(position, event): BACK for position in [*HOLDABLE, *HELD] for event in (Event.ROLL_BACK, Event.ABORT)},
    **{(position, Event.HOLD): held for position, held in zip(HOLDABLE, HELD, strict=True)},
    **{(held, Event.RESUME): position for position, held in zip(HOLDABLE, HELD, strict=True)},
}
FIRST = Route(num_steps=2, has_champion=False)
USUAL = Route(num_steps=2, has_champion=True)


@pytest.mark.parametrize("event", list(Event))
@pytest.mark.parametrize("position", EVERYWHERE, ids=str)
def test_the_whole_transition_table(position: Position, event: Event) -> None:
    if (position, event) in TABLE:
        assert next_state(position, event, USUAL) == TABLE[position, event]
    else:
        with pytest.raises(IllegalTransition, match=f"{event} cannot happen in"):
            next_state(position, event, USUAL)


def test_a_first_champion_skips_what_needs_another() -> None:
    way, position = [], IDLE
    while position.state not in TERMINAL:
        position = next_state(position, Event.ADVANCE, FIRST)
        way.append(position)
    assert way == [GATE, STAGING, PROMOTING, DONE]


@pytest.mark.parametrize("num_steps", [1, 3])
def test_every_canary_step_is_passed_once(num_steps: int) -> None:
    route, position, steps = Route(num_steps, has_champion=True), SHADOW, []
    while (position := next_state(position, Event.ADVANCE, route)).state is State.CANARY:
        steps.append(position.step)
    assert steps == list(range(num_steps))
    assert position == PROMOTING


def test_a_position_can_be_read() -> None:
    assert str(HELD[4]) == "HOLD (in CANARY step 1)"


class AnyStory(RuleBasedStateMachine):
    """Events in any order; those that cannot happen change nothing."""

    @initialize(num_steps=st.integers(1, 4), has_champion=st.booleans())
    def begin(self, num_steps: int, has_champion: bool) -> None:
        self.route, self.position = Route(num_steps, has_champion), IDLE
        self.turned_back = self.drained = False
        self.share = 0

    @rule(event=st.sampled_from(list(Event)))
    def happen(self, event: Event) -> None:
        try:
            following = next_state(self.position, event, self.route)
        except IllegalTransition:
            return
        before, self.position = self.position, following
        self.turned_back |= following.state is State.ROLLING_BACK
        self.drained |= following.state is State.DRAIN_OLD
        if following.state is State.CANARY and before.state is not State.HOLD:
            assert event is Event.ADVANCE  # an increase is always an advance, one step at a time
            assert (before.state, before.step) in ((State.SHADOW, 0), (State.CANARY, following.step - 1))

    @invariant()
    def going_back_is_never_undone(self) -> None:
        if self.turned_back:
            assert self.position.state in (State.ROLLING_BACK, State.ROLLED_BACK)

    @invariant()
    def past_the_drain_there_is_no_way_back(self) -> None:
        if self.drained:
            assert self.position.state in (State.DRAIN_OLD, State.DONE)

    @invariant()
    def a_hold_remembers_where(self) -> None:
        held = self.position.held_from
        assert (self.position.state is State.HOLD) == (held is not None)
        assert held is None or held.state in REVERSIBLE

    @invariant()
    def only_the_way_of_a_challenger_is_judged(self) -> None:
        if not self.route.has_champion:
            assert self.position.state not in (State.SHADOW, State.CANARY, State.BAKE, State.DRAIN_OLD)


AnyStory.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestAnyStory = AnyStory.TestCase

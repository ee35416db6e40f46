"""What a promotion does in each state, up to the event that ends the state.

While nobody watches, all frames go to who reigns, or when that one is down to the other.
"""

from __future__ import annotations

from bentos.router.routing import Backend
from flows.errors import ServiceError
from flows.params import PromoteParams
from flows.rollout.arms import Arms
from flows.rollout.asking import Desk
from flows.rollout.effects import POLL_S, Effects, Routing
from flows.rollout.journal import Entry
from flows.rollout.states import Event, Position, State
from flows.rollout.watch import Show, Watch
from flows.rollout.witness import Witness

STOP_GRACE_S = 10.0

Ending = tuple[Event, str]


def share_of(position: Position, params: PromoteParams) -> float:
    """The share of cameras that the challenger answers there."""
    if position.state is State.CANARY:
        return params.canary_steps[position.step] / 100
    return 1.0 if position.state in (State.BAKE, State.DRAIN_OLD, State.DONE) else 0.0


class Duties:
    """The duties of one promotion. Any may raise Aborted or Held, when people want that, and OutsideError."""

    def __init__(
        self, entry: Entry, params: PromoteParams, effects: Effects, desk: Desk, witness: Witness, show: Show
    ) -> None:
        self._entry, self._params, self._effects = entry, params, effects
        self._desk, self._witness, self._show = desk, witness, show
        self._traffic, self._clock = effects.traffic, effects.clock
        self._arms = Arms(entry, effects)
        self._position = entry.position

    def do(self, position: Position) -> Ending | None:
        """Do what `position` asks for; None: it stays as it is."""
        self._position = position
        match position.state:
            case State.IDLE:
                return Event.ADVANCE, f"version {self._entry.challenger[0]} challenges"
            case State.OFFLINE_GATE:
                return self._pass_gate()
            case State.STAGING:
                return self._stage()
            case State.SHADOW | State.CANARY | State.BAKE:
                return self._watch()
            case State.PROMOTING:
                return self._promote()
            case State.DRAIN_OLD:
                return self._drain_old()
            case State.ROLLING_BACK:
                return self._roll_back()
            case State.HOLD:
                return self._resume()
        raise AssertionError(f"there is nothing to do in {position}")

    def protect_users(self, position: Position) -> None:
        """Nobody watches a held challenger; before the switch users get the champion, after it the challenger.

        Before there is a first champion there is nothing to protect them with.
        """
        self._position, held = position, position.held_from
        if held is None or self._arms.champion is None:
            return
        switched = held.state is State.BAKE or (held.state is State.PROMOTING and self._challenger_reigns())
        if (routing := self._arms.unwatched_routing(switched)) is not None:
            self._effects.route(self._state, routing)

    def _pass_gate(self) -> Ending:
        """Refuse what can be refused before anything is started: a router whose observations cannot be read."""
        self._witness.skip(self._state, "before the start")
        return Event.ADVANCE, f"version {self._entry.challenger[0]} passed the offline gate"

    def _stage(self) -> Ending:
        if self._arms.champion is not None:
            champion = self._effects.start(self._state, self._arms.champion)
            if (problem := self._arms.wait_ready(champion, self._heed)) is not None:
                return Event.HOLD, f"champion {champion.version} {problem}"
        challenger = self._effects.start(self._state, self._arms.challenger)
        if (problem := self._arms.wait_ready(challenger, self._heed)) is not None:
            return Event.ROLL_BACK, f"version {challenger.version} {problem}"
        try:
            self._traffic.warm_up(challenger)
        except ServiceError as error:
            return Event.ROLL_BACK, str(error)
        if not self._wait_for_people(challenger):
            return Event.ROLL_BACK, self._challenger_is_gone
        return Event.ADVANCE, f"version {challenger.version} is ready and warm at {challenger.url}"

    def _wait_for_people(self, challenger: Backend) -> bool:
        """Wait until somebody agrees, where that is wanted before the first champion; False when it died meanwhile."""
        gate = self._desk.gate_after(self._position)
        while gate is not None and not self._desk.opens(gate, self._position):
            if not self._traffic.is_alive(challenger):
                return False
            self._show("somebody must agree", gate=gate)
            self._effects.renew()
            self._heed()
            self._clock.sleep(POLL_S)
        return True

    def _watch(self) -> Ending:
        """Route as the state wants it, then judge until there is a verdict."""
        champion, challenger = self._arms.find_champion(), self._arms.find_challenger()
        if challenger is None:
            return Event.ROLL_BACK, self._challenger_is_gone
        if champion is None:
            return Event.HOLD, f"the champion is not running{self._who_stands_in()}"
        wanted = self._routing_of_state(champion, challenger)
        self._effects.route(self._state, wanted)
        watch = Watch(self._position, self._params, self._effects, self._witness, self._desk, self._show)
        event, reason = watch.until_decided(champion, challenger, wanted)
        return event, reason + (self._who_stands_in() if event is Event.HOLD else "")

    def _who_stands_in(self) -> str:
        """What is to be said of a hold in which the challenger takes the frames of a champion that is down."""
        champion, challenger = self._arms.find_champion(), self._arms.find_challenger()
        baked = self._position.state is State.BAKE
        if baked or self._arms.is_healthy(champion) or not self._arms.is_healthy(challenger):
            return ""
        return "; the challenger answers all frames meanwhile"

    def _promote(self) -> Ending:
        challenger = self._arms.find_challenger()
        if challenger is None:
            return Event.ROLL_BACK, self._challenger_is_gone
        self._effects.enthrone(self._state, self._arms.challenger)
        if self._arms.champion is None:
            self._effects.route(self._state, Routing("champion", challenger))
            return Event.ADVANCE, f"version {challenger.version} is the first champion"
        self._desk.heed_abort(self._position)
        self._effects.route(self._state, self._routing_of_state(self._arms.find_champion(), challenger))
        old = self._arms.champion.version
        return Event.ADVANCE, f"version {challenger.version} answers all frames, version {old} waits"

    def _drain_old(self) -> Ending:
        old = self._arms.find_champion()
        challenger = self._arms.bring_up(self._state, self._arms.challenger, self._heed)  # what reigns must run
        self._effects.route(self._state, Routing("champion", challenger))
        if old is not None:
            self._effects.stop(self._state, old, self._params.drain_deadline_s)
        elif self._arms.champion is not None:
            self._effects.stopped(self._state, self._arms.champion)
        return Event.ADVANCE, f"version {challenger.version} reigns"

    def _roll_back(self) -> Ending:
        """The champion gets all frames first; then the throne, then the challenger's process."""
        if self._arms.champion is not None:
            champion = self._arms.find_champion() or self._arms.bring_up(self._state, self._arms.champion, self._heed)
            self._effects.route(self._state, Routing("champion", champion))
        else:
            self._effects.route(self._state, Routing("champion", None))
        if self._challenger_reigns():
            self._effects.enthrone(self._state, self._arms.champion)
        if (challenger := self._arms.find_challenger()) is not None:
            self._effects.stop(self._state, challenger, min(STOP_GRACE_S, self._params.drain_deadline_s))
        else:
            self._effects.stopped(self._state, self._arms.challenger)
        return Event.ADVANCE, self._effects.journal.read(self._entry.id).sentence

    def _resume(self) -> Ending | None:
        if self._desk.hold_request is not None:
            return None
        self._witness.skip(self._state, "during the hold")
        if self._arms.champion is not None:
            self._arms.bring_up(self._state, self._arms.champion, self._heed)
        return Event.RESUME, "resumed"

    def _routing_of_state(self, champion: Backend | None, challenger: Backend) -> Routing:
        match self._position.state:
            case State.SHADOW:
                return Routing("shadow", champion, challenger, promotion=self._entry.id)
            case State.CANARY:
                share = share_of(self._position, self._params)
                return Routing("canary", champion, challenger, share, self._entry.id)
            case _:
                return Routing("champion", challenger, champion, promotion=self._entry.id)

    def _challenger_reigns(self) -> bool:
        reigning = self._effects.registry.champion()
        return reigning is not None and reigning.version == self._entry.challenger[0]

    @property
    def _challenger_is_gone(self) -> str:
        return f"the process of version {self._entry.challenger[0]} is gone"

    def _heed(self) -> None:
        self._desk.heed(self._position)

    @property
    def _state(self) -> str:
        return str(self._position.state)

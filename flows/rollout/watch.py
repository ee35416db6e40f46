"""Watches live traffic in a state that is judged, until there is a verdict and, where that is wanted, an agreement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bentos.router.routing import Backend
from flows.errors import ServiceError
from flows.params import PromoteParams
from flows.rollout.asking import Desk
from flows.rollout.effects import POLL_S, Effects, Routing
from flows.rollout.judge import Situation, Verdict, judge
from flows.rollout.states import Event, Position, State
from flows.rollout.witness import Witness

_RECORDED_EVERY_S = {"wait": 2.0, "advance": 60.0}
"""How often a verdict that changes nothing goes into the record; an advance that waits for a person lasts hours."""


class Show(Protocol):
    """Tells a watcher what is the case, with the verdict and the gate at which a person is asked, if any."""

    def __call__(self, text: str, verdict: Verdict | None = None, gate: State | None = None) -> None: ...


@dataclass(frozen=True)
class Watch:
    """One promotion in one judged state, with the frames routed as that state wants it."""

    position: Position
    params: PromoteParams
    effects: Effects
    witness: Witness
    desk: Desk
    show: Show

    def until_decided(self, champion: Backend, challenger: Backend, wanted: Routing) -> tuple[Event, str]:
        """The event that ends the state, with its reason. Raises Aborted or Held when people want that."""
        gate = self.desk.gate_after(self.position)
        since_s, recorded_s = self.effects.clock.now(), 0.0
        while True:
            self.effects.renew()
            self.desk.heed(self.position)
            fresh = self.witness.take_in(self.position.state)
            situation = self._look(champion, challenger, since_s)
            verdict = judge(self.witness.evidence, self.params, self.position, situation)
            ready = verdict.decision == "advance"
            waits = ready and gate is not None and not self.desk.opens(gate, self.position)
            self.show(verdict.reasons[0], verdict, gate if waits else None)
            now_s = self.effects.clock.now()
            if decided := not waits and verdict.decision != "wait":
                self.witness.record_verdict(self.position, verdict, situation, decided)
                return Event(verdict.decision), "; ".join(verdict.reasons)
            if fresh and now_s - recorded_s >= _RECORDED_EVERY_S[verdict.decision]:
                self.witness.record_verdict(self.position, verdict, situation, decided)
                recorded_s = now_s
            if self._was_rerouted(wanted):
                return Event.HOLD, "somebody else changed the routing"
            since_s = now_s if waits else since_s  # the deadline is for evidence; people have their own
            self.effects.clock.sleep(POLL_S)

    def _look(self, champion: Backend, challenger: Backend, since_s: float) -> Situation:
        traffic = self.effects.traffic
        return Situation(
            challenger_alive=traffic.is_alive(challenger),
            champion_alive=traffic.is_alive(champion),
            waited_s=round(self.effects.clock.now() - since_s, 3),
        )

    def _was_rerouted(self, wanted: Routing) -> bool:
        try:
            return not wanted.is_in(self.effects.traffic.routing())
        except ServiceError:
            return False  # a router that does not answer for a moment goes on with what it knows

"""Drives one promotion from IDLE to its end, and goes on after a crash at any point.

The journal says in which state a promotion is; what is really the case is looked up. Each state has one method that
does its effects and returns the event that ends it. A restarted controller runs the method of the present state again.

While the challenger is judged, users keep the champion: a hold, an interrupt and a rollback route to it first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bentos.router.routing import Backend
from flows.errors import ServiceError
from flows.params import PromoteParams
from flows.rollout.effects import POLL_S, Effects, Routing
from flows.rollout.evidence import Evidence
from flows.rollout.journal import Entry
from flows.rollout.judge import Situation, Verdict, frames_needed, judge
from flows.rollout.report import OnEvent, RolloutEvent
from flows.rollout.states import JUDGED, REVERSIBLE, TERMINAL, Event, Position, Route, State, next_state
from flows.rollout.summary import evidence_figures
from flows.rollout.traffic import Contender
from flows.rollout.witness import Witness

READY_LIMIT_S = 120.0
STOP_GRACE_S = 10.0
_WAITS_RECORDED_EVERY_S = 2.0

Ending = tuple[Event, str]


class Aborted(Exception):
    """Somebody asked for an abort; the message is the reason."""


class Driver:
    """One promotion under one lease. `run` returns when it has ended or is held."""

    def __init__(self, entry: Entry, effects: Effects, on_event: OnEvent) -> None:
        self.entry, self.position = entry, entry.position
        self.params = PromoteParams.model_validate_json(entry.params)
        self._challenger = Contender(*entry.challenger)
        self._champion = Contender(*entry.champion) if entry.champion else None
        self._way = Route(len(self.params.canary_steps), self._champion is not None)
        self._effects, self._on_event = effects, on_event
        self._traffic, self._clock = effects.traffic, effects.clock
        self._witness = Witness(entry, effects, self.params)

    @property
    def evidence(self) -> Evidence:
        """What is known by now."""
        return self._witness.evidence

    def run(self) -> None:
        """Go on from where the promotion is, to its end or to a hold.

        Raises:
            Conflict: The lease was lost; whoever took it goes on.
            OutsideError: Something outside failed; the same command goes on from here.
        """
        self._begin_or_restart()
        try:
            while self.position.state not in TERMINAL:
                event, reason = self._live_through(self.position)
                self._move(event, reason)
                if self.position.state is State.HOLD:
                    self._protect_users()
                    return
        except KeyboardInterrupt:
            if self.position.state in REVERSIBLE:
                self._move(Event.HOLD, "interrupted by the user")
                self._protect_users()
            raise

    def _begin_or_restart(self) -> None:
        if self._effects.record.is_empty:
            content = {
                "challenger": self.entry.challenger,
                "champion": self.entry.champion,
                "params": self.params.model_dump(mode="json"),
            }
            self._append("opened", f"version {self._challenger.version} challenges", **content)
        else:
            # Going back needs no evidence, so a damaged record must not stand in its way.
            may_go_on = self.position.state in REVERSIBLE | {State.HOLD} and not self.entry.abort_reason
            self._witness.recall(strict=may_go_on)
        if self.position.state is not State.IDLE:
            self._witness.enter_state()
            self._append("state", f"controller of epoch {self._effects.lease.epoch} takes over", event="restart")

    def _live_through(self, position: Position) -> Ending:
        work: dict[State, Callable[[], Ending]] = {
            State.IDLE: lambda: (Event.ADVANCE, f"version {self._challenger.version} challenges"),
            State.OFFLINE_GATE: self._pass_gate,
            State.STAGING: self._stage,
            State.SHADOW: self._watch,
            State.CANARY: self._watch,
            State.PROMOTING: self._promote,
            State.BAKE: self._watch,
            State.DRAIN_OLD: self._drain_old,
            State.ROLLING_BACK: self._roll_back,
            State.HOLD: self._resume,
        }
        try:
            self._heed_abort()
            return work[position.state]()
        except Aborted as request:
            return Event.ABORT, f"aborted: {request}"

    def _pass_gate(self) -> Ending:
        """Refuse what can be refused before anything is started: a router whose observations cannot be read."""
        self._witness.skip(self._state, "before the start")
        return Event.ADVANCE, f"version {self._challenger.version} passed the offline gate"

    def _stage(self) -> Ending:
        if self._champion is not None:
            champion = self._effects.start(self._state, self._champion)
            if not self._wait_ready(champion):
                return Event.HOLD, f"champion {champion.version} {self._why_not_ready(champion)}"
        challenger = self._effects.start(self._state, self._challenger)
        if not self._wait_ready(challenger):
            return Event.ROLL_BACK, f"version {challenger.version} {self._why_not_ready(challenger)}"
        try:
            self._traffic.warm_up(challenger)
        except ServiceError as error:
            return Event.ROLL_BACK, str(error)
        return Event.ADVANCE, f"version {challenger.version} is ready and warm at {challenger.url}"

    def _watch(self) -> Ending:
        """Route as the state wants it, then judge until there is a verdict."""
        champion, challenger = self._find_champion(), self._find_challenger()
        if challenger is None:
            return Event.ROLL_BACK, f"the process of version {self._challenger.version} is gone"
        if champion is None:
            return Event.HOLD, "the champion is not running"
        wanted = self._routing_of_state(champion, challenger)
        self._effects.route(self._state, wanted)
        began_s, recorded_s = self._clock.now(), 0.0
        while True:
            self._effects.renew()
            self._heed_abort()
            fresh = self._witness.take_in(self._state)
            situation = Situation(
                challenger_alive=self._traffic.is_alive(challenger),
                champion_alive=self._traffic.is_alive(champion),
                waited_s=round(self._clock.now() - began_s, 3),
            )
            verdict = judge(self.evidence, self.params, self.position, situation)
            self._show(verdict)
            decided = verdict.decision != "wait"
            if decided or (fresh and self._clock.now() - recorded_s >= _WAITS_RECORDED_EVERY_S):
                self._record_verdict(verdict, situation, decided)
                recorded_s = self._clock.now()
            if decided:
                return Event(verdict.decision), "; ".join(verdict.reasons)
            if self._was_rerouted(wanted):
                return Event.HOLD, "somebody else changed the routing"
            self._clock.sleep(POLL_S)

    def _was_rerouted(self, wanted: Routing) -> bool:
        try:
            return not wanted.is_in(self._traffic.routing())
        except ServiceError:
            return False  # a router that does not answer for a moment goes on with what it knows

    def _promote(self) -> Ending:
        challenger = self._find_challenger()
        if challenger is None:
            return Event.ROLL_BACK, f"the process of version {self._challenger.version} is gone"
        self._effects.enthrone(self._state, self._challenger)
        if self._champion is None:
            self._effects.route(self._state, Routing("champion", challenger))
            return Event.ADVANCE, f"version {challenger.version} is the first champion"
        self._heed_abort()
        self._effects.route(self._state, self._routing_of_state(self._find_champion(), challenger))
        return Event.ADVANCE, f"version {challenger.version} answers all frames, version {self._champion.version} waits"

    def _drain_old(self) -> Ending:
        challenger, old = self._find_challenger(), self._find_champion()
        if challenger is None:  # past the point of no return: what reigns must run
            challenger = self._effects.start(self._state, self._challenger)
            if not self._wait_ready(challenger):
                raise ServiceError(f"the new champion {challenger.version} does not start", "See its log: tca status")
        self._effects.route(self._state, Routing("champion", challenger))
        if old is not None:
            self._effects.stop(self._state, old, self.params.drain_deadline_s)
        return Event.ADVANCE, f"version {challenger.version} reigns"

    def _roll_back(self) -> Ending:
        """The champion gets all frames first; then the throne, then the challenger's process."""
        if self._champion is not None:
            self._effects.route(self._state, Routing("champion", self._running_champion(self._champion)))
            reigning = self._effects.registry.champion()
            if reigning is not None and reigning.version == self._challenger.version:
                self._effects.enthrone(self._state, self._champion)
        else:
            self._effects.route(self._state, Routing("champion", None))
        if (challenger := self._find_challenger()) is not None:
            self._effects.stop(self._state, challenger, min(STOP_GRACE_S, self.params.drain_deadline_s))
        return Event.ADVANCE, self._effects.journal.read(self.entry.id).sentence

    def _resume(self) -> Ending:
        self._witness.skip(self._state, "during the hold")
        if self._champion is not None:
            self._running_champion(self._champion)
        return Event.RESUME, "resumed"

    def _running_champion(self, champion: Contender) -> Backend:
        """The champion, started if it is not running. Raises ServiceError when it does not start."""
        found = self._find_champion()
        if found is None:
            found = self._effects.start(self._state, champion)
            if not self._wait_ready(found):
                raise ServiceError(
                    f"champion {champion.version} {self._why_not_ready(found)}",
                    f"The promotion stays in {self.position}; mend the cause (see: tca status) and run it again",
                )
        return found

    def _protect_users(self) -> None:
        """Nobody watches a held challenger: users get the champion, with the challenger standing by.

        After the switch the new champion keeps the traffic, with the old one standing by. A champion that died stays
        routed: the router then asks the challenger, as long as it stands by.
        """
        held = self.position.held_from
        if held is None or held.state in (State.PROMOTING, State.BAKE):
            return
        champion = self._find_champion() or self._traffic.routing().champion
        if champion is not None:
            standby = Routing("champion", champion, self._find_challenger(), promotion=self.entry.id)
            self._effects.route(self._state, standby)

    def _routing_of_state(self, champion: Backend | None, challenger: Backend) -> Routing:
        share, promotion = self._share, self.entry.id
        match self.position.state:
            case State.SHADOW:
                return Routing("shadow", champion, challenger, promotion=promotion)
            case State.CANARY:
                return Routing("canary", champion, challenger, share, promotion)
            case _:
                return Routing("champion", challenger, champion, promotion=promotion)

    @property
    def _share(self) -> float:
        if self.position.state is State.CANARY:
            return self.params.canary_steps[self.position.step] / 100
        return 1.0 if self.position.state in (State.BAKE, State.DRAIN_OLD, State.DONE) else 0.0

    def _wait_ready(self, backend: Backend) -> bool:
        def ready_or_dead() -> bool:
            self._heed_abort()
            return self._traffic.is_ready(backend) or not self._traffic.is_alive(backend)

        self._effects.wait_until(ready_or_dead, READY_LIMIT_S)
        return self._traffic.is_ready(backend)

    def _why_not_ready(self, backend: Backend) -> str:
        if self._traffic.is_alive(backend):
            return f"did not become ready within {READY_LIMIT_S:.0f} s"
        return "ended while it started"

    def _heed_abort(self) -> None:
        if self.position.state in REVERSIBLE | {State.HOLD}:
            reason = self._effects.journal.read(self.entry.id).abort_reason
            if reason:
                raise Aborted(reason)

    def _move(self, event: Event, reason: str) -> None:
        position = next_state(self.position, event, self._way)
        now = self._clock.now()
        self._effects.renew()  # whoever lost the lease must not write into the record either
        self._effects.record.append(
            "state", str(position.state), reason, now, event=str(event), step=position.step, left=str(self.position)
        )
        self._effects.journal.move(self._effects.lease, self.entry.id, position, event, reason, now)
        self.position = position
        self._witness.enter_state()
        self._show(None, reason)

    def _record_verdict(self, verdict: Verdict, situation: Situation, decided: bool) -> None:
        body = verdict.model_dump(mode="json")
        self._append("verdict", verdict.reasons[0], step=self.position.step, situation=vars(situation), verdict=body)
        if decided:
            self._effects.journal.save_verdict(
                self._effects.lease, self.entry.id, self.position, verdict.model_dump_json(), self._clock.now()
            )

    def _append(self, kind: str, sentence: str, **content: Any) -> None:
        self._effects.record.append(kind, self._state, sentence, self._clock.now(), **content)

    @property
    def _state(self) -> str:
        return str(self.position.state)

    def _find_challenger(self) -> Backend | None:
        return self._traffic.find(self._challenger.version, self._challenger.digest)

    def _find_champion(self) -> Backend | None:
        if self._champion is None:
            return None
        return self._traffic.find(self._champion.version, self._champion.digest)

    def _show(self, verdict: Verdict | None, text: str = "") -> None:
        needed = frames_needed(self.position, self.params) if self.position.state in JUDGED else 0
        self._on_event(
            RolloutEvent(
                promotion=self.entry.id,
                state=str(self.position),
                share=self._share,
                num=self.evidence.in_state,
                num_needed=needed,
                evidence=evidence_figures(verdict.figures) if verdict else (),
                text=verdict.reasons[0] if verdict else text,
            )
        )

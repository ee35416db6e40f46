"""Drives one promotion from IDLE to its end, and goes on after a crash at any point.

The journal says in which state a promotion is; what is really the case is looked up. A restarted controller does the
duties of the present state again. What people want comes first: an abort before everything, then a verdict of harm that
was not carried out yet, then a hold.
"""

from __future__ import annotations

from typing import Any

from flows.params import PromoteParams
from flows.rollout.asking import Aborted, Desk, Held
from flows.rollout.duties import Duties, Ending, share_of
from flows.rollout.effects import Effects
from flows.rollout.evidence import Evidence
from flows.rollout.journal import AbortRequested, Entry
from flows.rollout.judge import RULES, Verdict, frames_needed
from flows.rollout.report import OnEvent, RolloutEvent, ignore
from flows.rollout.states import JUDGED, REVERSIBLE, TERMINAL, Event, Position, Route, State, next_state
from flows.rollout.summary import evidence_figures
from flows.rollout.witness import Witness

_INTERRUPTED = "interrupted by the user"


class Driver:
    """One promotion under one lease. `run` returns when it has ended or is held."""

    def __init__(self, entry: Entry, effects: Effects, on_event: OnEvent, note: str = "") -> None:
        """`note` is what a reader of the record must know, such as that this is a drill."""
        self.entry, self.position, self._note = entry, entry.position, note
        self.params = PromoteParams.model_validate_json(entry.params)
        self._way = Route(len(self.params.canary_steps), entry.champion is not None)
        self._effects, self._clock, self._on_event = effects, effects.clock, on_event
        self._desk = Desk(effects, self._way, self.params)
        self._witness = Witness(entry, effects, self.params)
        self._duties = Duties(entry, self.params, effects, self._desk, self._witness, self._show)

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
        try:
            self._begin_or_restart()
            while self.position.state not in TERMINAL:
                if (ending := self._live_through(self.position)) is not None:
                    self._move(*ending)
                if self.position.state is State.HOLD:
                    self._duties.protect_users(self.position)
                    return
        except KeyboardInterrupt:
            self._hold_interrupted()
            raise

    def _hold_interrupted(self) -> None:
        """An interrupt comes between any two writes, so nothing that was remembered counts."""
        self._effects.record.read_end()
        self.position = self._effects.journal.read(self.entry.id).position
        if self.position.state in REVERSIBLE and not self._effects.record.is_empty:
            self._record_position(_INTERRUPTED)
            self._move(Event.HOLD, _INTERRUPTED)
        if self.position.state is State.HOLD:
            self._duties.protect_users(self.position)

    def _begin_or_restart(self) -> None:
        note = {"note": self._note} if self._note else {}
        # Going back needs no evidence, so a damaged or lost record must not stand in its way.
        may_go_on = self.position.state in REVERSIBLE | {State.HOLD} and not self.entry.abort_reason
        if self._effects.record.is_empty and (self.position.state is State.IDLE or not may_go_on):
            content = {
                "promotion": self.entry.id,
                "rules": RULES,
                "challenger": self.entry.challenger,
                "champion": self.entry.champion,
                "params": self.params.model_dump(mode="json"),
            }
            self._append("opened", self._noted(f"version {self.entry.challenger[0]} challenges"), **content, **note)
            return
        self._witness.recall(strict=may_go_on)
        self._witness.enter_state()
        text = f"controller of epoch {self._effects.lease.epoch} takes over"
        self._record_position(self._noted(text), **note)

    def _noted(self, text: str) -> str:
        return f"{text}; {self._note}" if self._note else text

    def _live_through(self, position: Position) -> Ending | None:
        """Do what the state asks for, to the event that ends it; None: a person wants it to stay held."""
        try:
            self._desk.heed_abort(position)
            if position.state in JUDGED and self._witness.harm:
                return Event.ROLL_BACK, "; ".join(self._witness.harm)
            self._desk.heed(position)
            return self._duties.do(position)
        except Aborted as request:
            return Event.ABORT, f"aborted: {request}"
        except Held as request:
            return Event.HOLD, str(request)

    def _move(self, event: Event, reason: str) -> None:
        position = next_state(self.position, event, self._way)
        now = self._clock.now()
        self._effects.renew()  # whoever lost the lease must not write into the record either
        self._effects.record.append(
            "state", str(position.state), reason, now, event=str(event), step=position.step, left=str(self.position)
        )
        try:
            self._effects.journal.move(self._effects.lease, self.entry.id, position, event, reason, now)
        except AbortRequested as request:
            self._record_position("the move was not made: an abort came first")
            self._move(Event.ABORT, f"aborted: {request.reason}")
            return
        self.position = position
        self._witness.enter_state()
        self._show(reason)

    def _record_position(self, text: str, **content: Any) -> None:
        """A line that says where the promotion is, whatever the line before it says."""
        self._append("state", text, event="restart", step=self.position.step, left=str(self.position), **content)

    def _append(self, kind: str, sentence: str, **content: Any) -> None:
        self._effects.record.append(kind, str(self.position.state), sentence, self._clock.now(), **content)

    def _show(self, text: str, verdict: Verdict | None = None, gate: State | None = None) -> None:
        if self._on_event is ignore:
            return
        needed = frames_needed(self.position, self.params) if self.position.state in JUDGED else 0
        self._on_event(
            RolloutEvent(
                promotion=self.entry.id,
                state=str(self.position),
                share=share_of(self.position, self.params),
                num=self.evidence.in_state,
                num_needed=needed,
                evidence=evidence_figures(verdict.figures) if verdict else (),
                text=text,
                awaits=gate.value if gate else "",
            )
        )

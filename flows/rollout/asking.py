"""Asks for the agreement that params.yaml wants, heeds requests to abort or to hold: people's part in a promotion."""

from __future__ import annotations

from flows.params import PromoteParams
from flows.rollout.approvals import UNANSWERED, answer_at, gate_before, told
from flows.rollout.effects import Effects
from flows.rollout.states import REVERSIBLE, Position, Route, State


class Aborted(Exception):
    """Somebody asked for an abort; the message is the reason."""


class Held(Exception):
    """The promotion must hold; the message is the reason."""


class Desk:
    """What people want of one promotion, read from the journal."""

    def __init__(self, effects: Effects, way: Route, params: PromoteParams) -> None:
        self._effects, self._way, self._params = effects, way, params
        self._asked_at: dict[State, float] = {}

    def heed_abort(self, position: Position) -> None:
        """Raises Aborted when somebody asked for that and there is a way back."""
        if position.state in REVERSIBLE | {State.HOLD}:
            reason = self._effects.journal.read(self._effects.promotion).abort_reason
            if reason:
                raise Aborted(reason)

    def heed(self, position: Position) -> None:
        """Raises Aborted or, where no abort is asked for, Held."""
        self.heed_abort(position)
        if position.state in REVERSIBLE and (reason := self.hold_request) is not None:
            raise Held(reason)

    @property
    def hold_request(self) -> str | None:
        """Why somebody wants it held; it stays so until it is resumed."""
        return self._effects.journal.hold_request(self._effects.promotion)

    def gate_after(self, position: Position) -> State | None:
        """The gate between `position` and the one that follows."""
        return gate_before(self._way.following(position), self._way, self._params)

    def opens(self, gate: State, position: Position) -> bool:
        """Whether somebody has agreed; asks when that was not done yet.

        Raises:
            Aborted: Somebody did not agree.
            Held: Nobody answered in time.
        """
        now = self._effects.clock.now()
        answer = answer_at(gate, self._effects.journal.approvals(self._effects.promotion))
        if answer is not None:
            given = {"gate": gate.value, "agreed": answer.agreed, "who": answer.who, "how": answer.how}
            more = {"token": answer.token_id, "given_at": answer.at}
            self._effects.record.append("approval", position.state.value, told(answer), now, **given, **more)
            if not answer.agreed:
                raise Aborted(told(answer))
            return True
        if gate not in self._asked_at:
            self._asked_at[gate] = now
            question = f"may it go on to {gate}? tca promotion approve {self._effects.promotion}"
            self._effects.record.append("asked", position.state.value, question, now, gate=gate.value)
            return False  # whoever can answer at once hears of it before the deadline counts, be it 0
        if now - self._asked_at[gate] >= self._params.approval_deadline_s:
            raise Held(f"{UNANSWERED}{gate} within {self._params.approval_deadline_s:g} s")
        return False
